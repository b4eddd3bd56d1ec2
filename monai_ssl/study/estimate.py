"""What a study will take, said before the first run: runs, disk, time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from monai.bundle import ConfigParser

from monai_ssl.study.plan import Method, Pretraining, RunSpec
from monai_ssl.study.pretraining import PRETRAIN_STEP, PretrainSpec, pretrain_specs
from monai_ssl.study.rounds import SUGGEST_STEP
from monai_ssl.study.state import Study
from monai_ssl.study.words import joined, number_of
from monai_ssl.utils.errors import UserError

__all__ = ["describe_estimate", "pretrainings_left", "read_times"]

# float32 student, teacher and the optimiser's two moments in resume.pt, the deployed network in both its files
_BYTES_A_PARAMETER = 4 * 6


def describe_estimate(
    study: Study,
    specs: Sequence[RunSpec],
    jobs: int,
    probe: Callable[[RunSpec], float] | None = None,
    probe_first: Callable[[PretrainSpec], float] | None = None,
) -> list[str]:
    """Say how many runs there are to do, and about how much disk and time they take with their pretrainings.

    Disk is that of the finished runs, or follows from the size of the network. Time is that of the finished processes
    of the same method, however it chooses its cases; a method without one is probed. A pretraining that several runs
    share counts once.

    Args:
        study: the study.
        specs: all its runs.
        jobs: runs at once.
        probe: seconds of a training that was not done yet, such as :func:`~monai_ssl.study.probe.probe_training`; it
            may raise ``UserError``. Without it, the time of such a method is not known, and that is said.
        probe_first: the same for a pretraining, such as :func:`~monai_ssl.study.probe.probe_pretraining`.

    Returns:
        Lines for a person.
    """
    finished = [spec for spec in specs if study.is_finished(spec)]
    left = [spec for spec in specs if spec not in finished]
    most = " at most, by what the screen keeps" if study.plan.screen else ""
    lines = [f"{len(specs)} runs of {study.plan.steps} steps{most}: {len(finished)} finished, {len(left)} to do."]
    every, first = pretrain_specs(specs), pretrainings_left(study, left)
    if every:
        steps = sum(one.pretraining.steps for one in every)
        done = len(every) - len(first)
        lines.append(
            f"{number_of(len(every), 'pretraining')} of {steps} steps in all: {done} finished, {len(first)} to do."
        )
    if left:
        lines += [_disk(study, finished, left, first), _time(study, specs, left, jobs, probe, probe_first)]
    return lines


def pretrainings_left(study: Study, specs: Iterable[RunSpec]) -> list[PretrainSpec]:
    """The pretrainings that must be done before runs can train, each once."""
    return pretrain_specs(spec for spec in specs if study.waits_for(spec) is not None)


def read_times(steps: Path) -> tuple[int, float]:
    """Return the number of optimiser steps in a ``steps.csv`` and the seconds that they took."""
    with open(steps, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return (int(rows[-1]["step"]) if rows else 0), sum(float(row["seconds"]) for row in rows)


def _disk(study: Study, finished: Sequence[RunSpec], left: Sequence[RunSpec], first: Sequence[PretrainSpec]) -> str:
    plan = study.plan
    if finished:
        files = [[path.stat().st_size for path in study.folder(spec).rglob("*") if path.is_file()] for spec in finished]
        need, source = fmean(sum(sizes) for sizes in files) * len(left), "by the finished runs"
    else:
        trainings = _by_training(study, left)
        sizes = {spec.method.label: _parameters(study, plan.bundle, spec.method, plan.settings) for spec in trainings}
        need = _BYTES_A_PARAMETER * sum(sizes[spec.method.label] for spec in trainings)
        source = "by the networks' sizes, with a teacher each; tables and pictures not counted"
    asked = {one.folder.parent: one.pretraining for one in first}
    own = {folder: _parameters(study, one.bundle, one) for folder, one in asked.items()}
    need += _BYTES_A_PARAMETER * sum(own[one.folder.parent] for one in first)
    if not need:
        return "Disk: not known until the first run is done."
    return f"Disk: about {need / 1e6:,.0f} MB ({source})."


def _time(
    study: Study,
    specs: Sequence[RunSpec],
    left: Sequence[RunSpec],
    jobs: int,
    probe: Callable[[RunSpec], float] | None,
    probe_first: Callable[[PretrainSpec], float] | None,
) -> str:
    trainings = _by_training(study, specs)
    taken = _mean_seconds(study, (*trainings, *specs))
    waiting = [spec for spec in _by_training(study, left) if "train" not in study.record(spec).seconds]
    unknown: list[str] = []
    total = _train_seconds(study, waiting, taken, probe, unknown)
    to_do = {
        "evaluations": sum(len(study.parts(spec)) for spec in left),
        "suggestions": sum(study.has_to_choose(spec) for spec in waiting),
    }
    known: dict[str, list[float]] = {name: [] for name in to_do}
    for name, seconds in (entry for one in taken.values() for entry in one.items() if entry[0] != "train"):
        known["suggestions" if name == SUGGEST_STEP else "evaluations"].append(seconds)
    total += sum(fmean(seconds) * to_do[name] for name, seconds in known.items() if seconds)
    total += _first_seconds(study, specs, pretrainings_left(study, left), probe_first, unknown)
    untold = [name for name, seconds in known.items() if to_do[name] and not seconds]
    beside = f" besides the {joined(untold)}" if untold else ""
    hint = f"not known for {', '.join(sorted(unknown))}" if unknown else ""
    if not total:
        return f"Time: {hint}."
    return f"Time: about {_words(total / jobs)}{beside}, {jobs} at once{'; ' + hint if hint else ''}."


def _train_seconds(
    study: Study,
    waiting: Sequence[RunSpec],
    taken: dict[str, dict[str, float]],
    probe: Callable[[RunSpec], float] | None,
    unknown: list[str],
) -> float:
    """Seconds of the trainings that are left; what is not known of them is added to ``unknown``."""
    kinds = [_kind(study, spec) for spec in waiting]
    for kind in dict.fromkeys(kinds):
        if "train" not in taken.get(kind, {}):
            try:
                if probe is None:
                    raise UserError(f"{kind} before its first run is done")
                taken.setdefault(kind, {})["train"] = probe(waiting[kinds.index(kind)])
            except UserError as error:
                unknown.append(str(error))
    return sum(taken[kind]["train"] for kind in kinds if "train" in taken.get(kind, {}))


def _first_seconds(
    study: Study,
    specs: Sequence[RunSpec],
    first: Sequence[PretrainSpec],
    probe: Callable[[PretrainSpec], float] | None,
    unknown: list[str],
) -> float:
    """Seconds of the pretrainings that are left; what is not known of them is added to ``unknown``."""
    taken: dict[Path, list[float]] = {}
    for one in pretrain_specs(specs):
        seconds = study.pretraining_record(one).seconds
        if PRETRAIN_STEP in seconds:
            taken.setdefault(one.folder.parent, []).append(seconds[PRETRAIN_STEP])
    for one in {one.folder.parent: one for one in reversed(first)}.values():
        if one.folder.parent not in taken:
            try:
                if probe is None:
                    raise UserError(f"{one.label} before the first is done")
                taken[one.folder.parent] = [probe(one)]
            except UserError as error:
                unknown.append(str(error))
    return sum(fmean(taken[one.folder.parent]) for one in first if one.folder.parent in taken)


def _kind(study: Study, spec: RunSpec) -> str:
    """The label of the first method that trains as a run does, whatever the cases: their times are alike."""
    return next(one.label for one in study.plan.methods if one.trains_as(spec.method, on_same_cases=True))


def _by_training(study: Study, specs: Iterable[RunSpec]) -> list[RunSpec]:
    """The runs that train, each once."""
    return list({study.training_folder(spec): study.training(spec) for spec in specs}.values())


def _mean_seconds(study: Study, specs: Iterable[RunSpec]) -> dict[str, dict[str, float]]:
    """Seconds of finished processes, by :func:`_kind` and step."""
    taken: dict[str, dict[str, list[float]]] = {}
    for spec in {study.folder(spec): spec for spec in specs}.values():
        for name, seconds in study.record(spec).seconds.items():
            taken.setdefault(_kind(study, spec), {}).setdefault(name, []).append(seconds)
    return {label: {name: fmean(values) for name, values in steps.items()} for label, steps in taken.items()}


def _words(seconds: float) -> str:
    return f"{seconds / 60:,.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:,.1f} hours"


def _parameters(
    study: Study, bundle: Path, asked: Method | Pretraining, settings: Mapping[str, Any] | None = None
) -> int:
    """Number of values in the network of a training; 0 where that cannot be told without it."""
    configs = bundle / "configs"
    parser = ConfigParser()
    parser.read_config([str(configs / "train.yaml"), str(configs / "methods" / f"{asked.method}.yaml")])
    changes: Mapping[str, Any] = {"datalist": str(study.plan.data), **(settings or {}), **asked.settings}
    try:
        parser.update({name.replace("#", "::"): value for name, value in changes.items()})
        network = parser.get_parsed_content("network_def")
        return sum(values.numel() for values in network.parameters())
    except Exception:  # whatever the override breaks, the run itself says it better
        return 0
