"""The main job once, from data to figures, as a small study: few labels with and without the unlabelled scans."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.data.datalist import find_datalist, read_datalist
from monai_ssl.data.nodule_phantoms import write_nodule_phantoms
from monai_ssl.data.phantoms import write_phantoms
from monai_ssl.study.conduct import run_study
from monai_ssl.study.grid import available_cores
from monai_ssl.study.plan import Method, RunSpec
from monai_ssl.study.splits import split_path
from monai_ssl.study.words import joined
from monai_ssl.utils.bundle_files import bundle_path
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["DEMO_TASKS", "DemoResult", "DemoTask", "run_demo"]

_TEST_SHARE = 0.2
_JOBS = 2  # trainings at once; on two cores faster than one with two threads


@dataclass(frozen=True)
class DemoTask:
    """What a demo shows.

    Attributes:
        bundle: its name.
        methods: without and with the unlabelled cases.
        metric: the figure that is compared, and what it is called.
        volumes: what is generated where no data are given, in words.
        generate: writes them into a folder, with a seed, and returns their list.
        settings: of a training on them: as many steps as two cores finish within five minutes.
        labels: labelled cases that both methods may use first, where the caller does not say.
        budgets: multiples of them that are studied.
    """

    bundle: str
    methods: tuple[str, str]
    metric: tuple[str, str]
    volumes: str
    generate: Callable[[Path, int], Path]
    settings: Mapping[str, Any]
    labels: int
    budgets: tuple[int, ...]


DEMO_TASKS = {
    "segmentation": DemoTask(
        bundle="semi_segmentation",
        methods=("supervised", "entropy_minimisation"),
        metric=("dice", "Dice"),
        volumes="60 MRI-like volumes",
        generate=lambda folder, seed: write_phantoms(folder, cases=60, seed=seed),
        settings={"max_steps": 250, "patch_size": [48, 56, 40], "learning_rate": 0.003},
        labels=2,
        budgets=(1, 2),
    ),
    "detection": DemoTask(
        bundle="focalmix_detection",
        methods=("supervised", "focalmix"),
        metric=("cpm", "CPM"),
        volumes="60 CT-like chests, a third of them healthy",
        generate=lambda folder, seed: write_nodule_phantoms(folder, cases=40, unlabeled=20, seed=seed),
        settings={"max_steps": 250, "patch_size": [32, 32, 32]},
        labels=8,
        budgets=(1,),
    ),
}


@dataclass(frozen=True)
class DemoResult:
    """What a demo leaves behind.

    Attributes:
        study: the study's folder.
        budgets: labelled cases that both methods had; what follows is of the first.
        scores: the task's figure on the test cases, by method.
        folders: evaluation folder by method; holds ``metrics.json`` and ``overlay.png``.
        counts: cases by part of the data list.
        seconds: wall time of everything.
    """

    study: Path
    budgets: Sequence[int]
    scores: Mapping[str, float]
    folders: Mapping[str, Path]
    counts: Mapping[str, int]
    seconds: float

    @property
    def gain(self) -> float:
        """Score of the last method less that of the first; may be negative."""
        values = list(self.scores.values())
        return values[-1] - values[0]


def run_demo(
    output: str | os.PathLike[str],
    *,
    task: str = "segmentation",
    data: str | os.PathLike[str] | None = None,
    labels: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> DemoResult:
    """Split, train without and with the unlabelled cases at a budget or two, evaluate all on the same cases.

    It is a study of one seed, of :func:`~monai_ssl.study.conduct.run_study`, below ``output / "study"``. Both methods
    get the same labelled cases, augmentation and number of optimiser steps; the last model is scored. Where the
    larger budget would take all cases that may be labelled there is one alone.

    Args:
        output: folder to write, not there yet.
        task: one of :data:`DEMO_TASKS`.
        data: a Decathlon list or the folder of its ``dataset.json``; ``None`` generates volumes.
        labels: labelled cases that both methods may use first; by default as many as the task says.
        seed: of the split, the generated volumes and the training.
        settings: of the bundle's training, such as ``{"max_steps": 500}``.
        say: gets a line before each part.

    Raises:
        UserError: when there is no such task, the data cannot be split so, or a run fails.
        FileExistsError: when ``output`` is there already.
    """
    if task not in DEMO_TASKS:
        raise UserError(f"`task` must be one of {', '.join(DEMO_TASKS)}, got {task!r}.")
    shown = DEMO_TASKS[task]
    start, folder, bundle = time.perf_counter(), Path(output), bundle_path(shown.bundle)
    folder.mkdir(parents=True)
    given = {**({} if data else shown.settings), **(settings or {})}
    labels = shown.labels if labels is None else labels
    if data is None:
        say(f"generating {shown.volumes}")
        data = shown.generate(folder / "data", seed)
    source = find_datalist(data, None)
    cases = len(read_datalist(source, boxes=True).get(ListParts.TRAINING, []))
    test = max(1, round(_TEST_SHARE * cases))
    larger = [labels * times for times in shown.budgets[1:]]
    budgets = [labels, *(budget for budget in larger if budget < cases - test)]
    steps = given.pop("max_steps", None) or _usual_steps(bundle)
    plan = {
        "bundle": shown.bundle,
        "data": str(source.absolute()),
        "budgets": budgets,
        "methods": list(shown.methods),
        "seeds": [seed],
        "split_seed": seed,
        "steps": steps,
        "test": test,
        "metric": shown.metric[0],
        "primary": {"method": shown.methods[1], "baseline": shown.methods[0], "budget": labels},
        "settings": {"cache_rate": 1.0, **given},
    }
    path, study = folder / "plan.yaml", folder / "study"
    path.write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")
    say(f"{joined(shown.methods)}, each with {joined([str(one) for one in budgets])} labelled scans, {steps} steps")
    result = run_study(path, study, jobs=min(_JOBS, available_cores()), say=say)
    for failure in result.failures:
        raise UserError(f"{failure.spec.name}: {failure.reason}")
    specs = [RunSpec(str(labels), Method(method, method), seed) for method in shown.methods]
    folders = {spec.method.label: study / spec.folder / ListParts.TEST for spec in specs}
    figures = {method: _content(place / RunFiles.METRICS) for method, place in folders.items()}
    scores = {method: content["mean"][shown.metric[0]] for method, content in figures.items()}
    counts = _content(study / split_path(specs[0]))["split"]["counts"]
    return DemoResult(study, budgets, scores, folders, counts, time.perf_counter() - start)


def _usual_steps(bundle: Path) -> int:
    content = yaml.safe_load((bundle / "configs" / "train.yaml").read_text(encoding="utf-8"))
    return int(content["max_steps"])


def _content(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
