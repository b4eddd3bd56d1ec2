"""The main job once, from data to figures: the same few labels with and without the unlabelled scans."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ssl.data.datalist import find_datalist, read_datalist
from monai_ssl.data.nodule_phantoms import write_nodule_phantoms
from monai_ssl.data.phantoms import write_phantoms
from monai_ssl.data.split import write_split
from monai_ssl.study.execute import run_bundle
from monai_ssl.utils.bundle_files import bundle_path
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import RunFiles

__all__ = ["DEMO_TASKS", "DemoResult", "DemoTask", "run_demo"]

_TEST_SHARE = 0.2


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
        labels: labelled cases that both methods may use, where the caller does not say.
    """

    bundle: str
    methods: tuple[str, str]
    metric: tuple[str, str]
    volumes: str
    generate: Callable[[Path, int], Path]
    settings: Mapping[str, Any]
    labels: int


DEMO_TASKS = {
    "segmentation": DemoTask(
        bundle="semi_segmentation",
        methods=("supervised", "mean_teacher"),
        metric=("dice", "Dice"),
        volumes="60 MRI-like volumes",
        generate=lambda folder, seed: write_phantoms(folder, cases=60, seed=seed),
        settings={"max_steps": 250, "patch_size": "[48,56,40]", "learning_rate": 0.003},
        labels=2,
    ),
    "detection": DemoTask(
        bundle="focalmix_detection",
        methods=("supervised", "focalmix"),
        metric=("cpm", "CPM"),
        volumes="60 CT-like chests, a third of them healthy",
        generate=lambda folder, seed: write_nodule_phantoms(folder, cases=40, unlabeled=20, seed=seed),
        settings={"max_steps": 250, "patch_size": "[32,32,32]"},
        labels=8,
    ),
}


@dataclass(frozen=True)
class DemoResult:
    """What a demo leaves behind.

    Attributes:
        scores: the task's figure on the test cases, by method.
        folders: evaluation folder by method; holds ``metrics.json`` and ``overlay.png``.
        counts: cases by part of the data list.
        seconds: wall time of everything.
    """

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
    """Split, train without and with the unlabelled cases, evaluate both on the same test cases.

    Both methods get the same labelled cases, augmentation and number of optimiser steps; the last model is scored.

    Args:
        output: folder to write, not there yet.
        task: one of :data:`DEMO_TASKS`.
        data: a Decathlon list or the folder of its ``dataset.json``; ``None`` generates volumes.
        labels: labelled cases that both methods may use; by default as many as the task says.
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
    source, split_path = find_datalist(data, None), folder / "split.json"
    test = max(1, round(_TEST_SHARE * len(read_datalist(source, boxes=True).get("training", []))))
    counts = write_split(source, split_path, labels=labels, test=test, seed=seed)["split"]["counts"]

    cases = {"dataset_dir": source.parent.absolute(), "datalist": split_path.absolute()}
    scores, folders = {}, {}
    for method in shown.methods:
        run, figures = folder / method, folder / f"{method}_evaluation"
        run.mkdir()
        console = run / "console.txt"
        unlabeled = 0 if method == "supervised" else counts["unlabeled"]
        say(f"{method}: training on {counts['training']} labelled and {unlabeled} unlabelled scans")
        train = {**cases, "output_dir": run.absolute(), "seed": seed, "cache_rate": 1.0, **given}
        run_bundle(bundle, ["train.yaml", f"methods/{method}.yaml"], train, console=console)
        say(f"{method}: scoring {counts['test']} test scans")
        evaluation = {**cases, "weights": run.absolute() / RunFiles.MODEL, "output_dir": figures.absolute()}
        run_bundle(bundle, ["evaluate.yaml"], evaluation, console=console)
        scores[method] = json.loads((figures / RunFiles.METRICS).read_text())["mean"][shown.metric[0]]
        folders[method] = figures
    return DemoResult(scores, folders, counts, time.perf_counter() - start)
