"""What a study found, as ``study.json``, ``study.csv`` and ``study.md``.

They follow from the finished runs alone, byte for byte, whatever the order in which the runs ended and however often
the study was stopped. Times, which no two machines share, are in ``times.csv``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path, PurePath
from statistics import fmean
from typing import Any

from monai_ssl.data.patients import patient_rule
from monai_ssl.metrics.case_influence import cpm_influences
from monai_ssl.metrics.segmentation import LOWER_IS_BETTER
from monai_ssl.study.estimate import read_times
from monai_ssl.study.findings import find
from monai_ssl.study.frozen_plan import plan_growth
from monai_ssl.study.markdown import write_markdown
from monai_ssl.study.measures import MEASURES, measures_of
from monai_ssl.study.plan import Method, RunSpec, grid_runs, runs
from monai_ssl.study.pretraining import PRETRAINING_LIST, PretrainSpec, pretrain_spec
from monai_ssl.study.record import digest
from monai_ssl.study.scores import plain
from monai_ssl.study.screen import Choice
from monai_ssl.study.splits import HELD_OUT
from monai_ssl.study.state import Study
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write, write_json
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["collect", "write_tables"]

_DECIMALS = 12  # of an influence, so that cases which are alike differ by no rounding error, which would be a find


def collect(study: Study, choice: Choice | None = None) -> dict[str, Any]:
    """Gather all finished runs into the content of ``study.json``.

    ``runs`` has an entry a run. ``scores`` has one for every budget and method of the grid: ``seeds``, the ``labels``
    of each, and ``values``, an array seeds x ``cases`` (``null`` where a case has no class, or, of a distance, misses
    one). Of a detector they are what each case contributes, and ``null`` where fewer than two cases have a box: see
    :func:`~monai_ssl.metrics.case_influence.cpm_influences`. Where patients have several test cases, ``patients`` has a
    number for each case, the same for those of one patient. ``missing`` names the runs of the plan that are not
    finished, ``impossible`` those that cannot be, with the ``reason``. ``growth`` is what was added to the plan on the
    way. ``ceiling`` is the baseline's largest budget, ``chosen`` has the methods whose checkpoint is chosen. Where
    methods start from a pretraining, ``pretrainings`` says which and from how many images. Where methods choose their
    cases, ``acquisitions`` says how, and ``alike`` names the places that are the same model ``as`` another one, since
    no case was chosen yet. ``findings`` is what :func:`~monai_ssl.study.findings.find` makes of all this.

    Args:
        study: the study.
        choice: what the screen decided, if there was one and it is complete.

    Raises:
        UserError: when a run was not scored on the study's test cases.
    """
    plan, kept = study.plan, choice.kept if choice else None
    every = _by_row(study, runs(plan, kept))
    listed = study.possible(every)
    finished = [spec for spec in listed if study.is_finished(spec)]
    held_out = study.splits[HELD_OUT]
    cases = [case["image"] for case in held_out[ListParts.TEST]]
    files = [_read_figures(study, spec, cases) for spec in finished]
    figures = [_figures(one, plan.metric) for one in files]
    grid = grid_runs(plan, kept)
    rows = [_row(study, spec, spec in grid, mean) for spec, (mean, _) in zip(finished, figures, strict=True)]
    values = [values for _, values in figures]
    content = {
        "metric": plan.metric,
        "steps": plan.steps,
        "primary": vars(plan.primary),
        "margin": plan.margin,
        "methods": [method.label for method in plan.methods],
        "chosen": [method.label for method in plan.methods if method.checkpoint == "chosen"],
        "budgets": list(plan.budgets),
        "ceiling": _ceiling(study),
        "seeds": list(plan.seeds),
        "growth": plan_growth(study.output),
        "validation_cases": len(held_out[ListParts.VALIDATION]),
        "patient_rule": held_out["split"]["patient_rule"],
        "cases": cases,
        **_patients(study),
        **({"pretrainings": pretrainings} if (pretrainings := _pretrainings(study)) else {}),
        **_acquisitions(study),
        **({"screen": choice.content()} if choice else {}),
        "runs": rows,
        "scores": _scores(rows, values),
        "beside": _beside(files, rows, plan.metric),
        "missing": [_place(spec) for spec in listed if spec not in finished],
        "impossible": [{**_place(spec), "reason": study.impossible(spec)} for spec in every if spec not in listed],
    }
    return {**content, "findings": find(content)}


def write_tables(study: Study, choice: Choice | None = None) -> dict[str, Any]:
    """Write ``study.json``, ``study.csv``, ``study.md`` and ``times.csv`` and return the content of the first.

    Args:
        study: the study.
        choice: see :func:`collect`.
    """
    content = collect(study, choice)
    write_json(study.output / "study.json", content)
    pretrained = "pretrainings" in content
    beside = ["pretraining", "pretraining_steps"] if pretrained else []
    columns = ["budget", "labels", "unlabeled", "method", "seed", "stage", content["metric"], "steps", *beside]
    rows = [[row["mean" if name == content["metric"] else name] for name in columns] for row in content["runs"]]
    _write_text(study.output / "study.csv", _csv([columns, *rows]))
    _write_text(study.output / "study.md", write_markdown(content))
    times = []
    for spec in study.possible(_by_row(study, runs(study.plan))):
        table = study.training_folder(spec) / RunFiles.STEPS
        if table.is_file() and study.is_finished(spec):
            first = _pretraining_times(study, spec) if pretrained else []
            times.append([*_place(spec).values(), *read_times(table), *first])
    columns = ["budget", "method", "seed", "steps", "seconds"]
    beside = ["pretraining", "pretraining_seconds"] if pretrained else []
    _write_text(study.output / "times.csv", _csv([[*columns, *beside], *times]))
    return content


def _by_row(study: Study, specs: Sequence[RunSpec]) -> list[RunSpec]:
    labels = [method.label for method in study.plan.methods]
    return sorted(specs, key=lambda s: (study.plan.budgets.index(s.budget), labels.index(s.method.label), s.seed))


def _read_figures(study: Study, spec: RunSpec, cases: Sequence[str]) -> dict[str, Any]:
    path = study.metrics(spec)
    figures = _read(path)
    if [case["image"] for case in figures["cases"]] != [PurePath(case).name for case in cases]:
        raise UserError(f"{path}: was not made from the study's {len(cases)} test cases: delete it and run again.")
    return figures


def _figures(figures: dict[str, Any], metric: str) -> tuple[float | None, list[float | None]]:
    """The metric of the test cases, and the values, one a case, whose mean it is."""
    rates = MEASURES[metric].rates
    if rates:
        influences = cpm_influences(figures["cases"], rates=rates)
        return figures["mean"][metric], [plain(value, _DECIMALS) if isfinite(value) else None for value in influences]
    return figures["mean"][metric], [_value(case, metric) for case in figures["cases"]]


def _beside(files: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Scores of the other measures of the same task that all runs have."""
    found = []
    for other in measures_of(MEASURES[metric].task):
        if other != metric and files and all(other in one["mean"] for one in files):
            figures = [_figures(one, other) for one in files]
            told = [{**row, "mean": mean} for row, (mean, _) in zip(rows, figures, strict=True)]
            found.append({"metric": other, "scores": _scores(told, [values for _, values in figures])})
    return found


def _value(case: dict[str, Any], metric: str) -> float | None:
    """A case's figure; none where its mean would be over other classes than in a run that misses none of them."""
    classes = case.get("classes", {}).values() if metric in LOWER_IS_BETTER else ()
    missed = any(one["dice"] is not None and one[metric] is None for one in classes)
    return None if missed else case["mean"][metric]


def _ceiling(study: Study) -> str | None:
    """The budget at which the baseline has most labels; none where there is nothing below."""
    labels: dict[str, list[int]] = {}
    for spec in study.possible(grid_runs(study.plan, (study.plan.primary.baseline,))):
        labels.setdefault(spec.budget, []).append(study.counts(spec)["labels"])
    return max(labels, key=lambda budget: fmean(labels[budget])) if len(labels) > 1 else None


def _row(study: Study, spec: RunSpec, in_grid: bool, mean: float | None) -> dict[str, Any]:
    table = study.training_folder(spec) / RunFiles.STEPS
    return {
        **_place(spec),
        "stage": "grid" if in_grid else "screen",
        **study.counts(spec),
        "steps": read_times(table)[0] if table.is_file() else study.plan.steps,
        **_pretraining(study, spec),
        "mean": mean,
    }


def _pretraining(study: Study, spec: RunSpec) -> dict[str, Any]:
    """Where the pretraining lies that a run starts from, and its steps; nothing where no method has any."""
    if not any(method.pretraining for method in study.plan.methods):
        return {}
    first = pretrain_spec(spec)
    if first is None:
        return {"pretraining": None, "pretraining_steps": 0}
    return {"pretraining": first.folder.as_posix(), "pretraining_steps": first.pretraining.steps}


def _pretraining_times(study: Study, spec: RunSpec) -> list[Any]:
    first = pretrain_spec(spec)
    table = study.output / first.folder / RunFiles.STEPS if first else None
    return [first.folder.as_posix() if first else "", read_times(table)[1] if table and table.is_file() else ""]


def _pretrainings(study: Study) -> list[dict[str, Any]]:
    groups: dict[tuple[Path, str], dict[str, Any]] = {}
    for method in study.plan.methods:
        asked = method.pretraining
        if asked is not None:
            folder = PretrainSpec(asked, 0).folder.parent
            content = {
                "methods": [],
                "bundle": asked.bundle.name,
                "pretext": asked.method,
                "settings": dict(asked.settings),
                "steps": asked.steps,
                "seeds": asked.seeds,
                "images": len(study.splits[PRETRAINING_LIST][ListParts.UNLABELED]),
            }
            groups.setdefault((folder, asked.seeds), content)["methods"].append(method.label)
    return list(groups.values())


def _patients(study: Study) -> dict[str, Any]:
    """Numbers instead of names, which are nobody's concern who reads a study; nothing where each has one case."""
    cases = study.splits[HELD_OUT][ListParts.TEST]
    _, patient_of = patient_rule(cases, study.plan.patient_regex)
    numbers: dict[str, int] = {}
    owners = [numbers.setdefault(patient_of(case), len(numbers)) for case in cases]
    return {"patients": owners} if len(numbers) < len(cases) else {}


def _acquisitions(study: Study) -> dict[str, Any]:
    """Which methods choose their cases, and where they are the model of another; nothing where none does."""
    plan = study.plan
    strategies = {one.label: one.acquisition for one in plan.methods if one.acquisition != "random"}
    if not strategies:
        return {}
    named = (plan.primary.baseline, plan.primary.method)  # of equals these are compared
    methods = sorted(plan.methods, key=lambda one: named.index(one.label) if one.label in named else len(named))
    alike = []
    for budget in plan.budgets:
        first: dict[tuple[Path, str], Method] = {}
        for spec in study.possible(RunSpec(budget, method, plan.seeds[0]) for method in methods):
            method = spec.method
            other = first.setdefault((study.training_folder(spec), digest(method.evaluation)), method)
            if other.acquisition != method.acquisition:
                alike.append({"budget": budget, "method": method.label, "as": other.label})
    return {"acquisitions": strategies, "alike": alike}


def _scores(rows: Sequence[dict[str, Any]], values: Sequence[list[float | None]]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row, cases in zip(rows, values, strict=True):
        if row["stage"] == "grid":
            place = {"budget": row["budget"], "method": row["method"]}
            empty: dict[str, Any] = {"seeds": [], "labels": [], "means": [], "values": []}
            group = groups.setdefault((row["budget"], row["method"]), {**place, **empty})
            for name, value in zip(empty, (row["seed"], row["labels"], row["mean"], cases), strict=True):
                group[name].append(value)
    return list(groups.values())


def _place(spec: RunSpec) -> dict[str, Any]:
    return {"budget": spec.budget, "method": spec.method.label, "seed": spec.seed}


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    atomic_write(path, lambda stream: stream.write(text.encode()))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
