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
from monai_ssl.data.phantoms import write_phantoms
from monai_ssl.data.split import write_split
from monai_ssl.study.execute import run_bundle
from monai_ssl.utils.bundle_files import bundle_path
from monai_ssl.utils.keys import RunFiles

__all__ = ["DEMO_METHODS", "DemoResult", "run_demo"]

DEMO_METHODS = ("supervised", "mean_teacher")
_BUNDLE = "semi_segmentation"
# as many steps as two cores finish within five minutes
_GENERATED = {"max_steps": 250, "patch_size": "[48,56,40]", "learning_rate": 0.003}
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class DemoResult:
    """What a demo leaves behind.

    Attributes:
        dice: mean Dice on the test cases, by method.
        folders: evaluation folder by method; holds ``metrics.json`` and ``overlay.png``.
        counts: cases by part of the data list.
        seconds: wall time of everything.
    """

    dice: Mapping[str, float]
    folders: Mapping[str, Path]
    counts: Mapping[str, int]
    seconds: float

    @property
    def gain(self) -> float:
        """Mean Dice of the last method less that of the first; may be negative."""
        values = list(self.dice.values())
        return values[-1] - values[0]


def run_demo(
    output: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    labels: int = 2,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> DemoResult:
    """Split, train without and with the unlabelled cases, evaluate both on the same test cases.

    Both methods get the same labelled cases, augmentation and number of optimiser steps; the last model is scored.

    Args:
        output: folder to write, not there yet.
        data: a Decathlon list or the folder of its ``dataset.json``; ``None`` generates MRI-like volumes.
        labels: labelled cases that both methods may use.
        seed: of the split, the generated volumes and the training.
        settings: of the bundle's training, such as ``{"max_steps": 500}``.
        say: gets a line before each part.

    Raises:
        UserError: when the data cannot be split so, or a run fails.
        FileExistsError: when ``output`` is there already.
    """
    start, folder, bundle = time.perf_counter(), Path(output), bundle_path(_BUNDLE)
    folder.mkdir(parents=True)
    given = {**({} if data else _GENERATED), **(settings or {})}
    if data is None:
        say("generating 60 MRI-like volumes")
        data = write_phantoms(folder / "data", cases=60, seed=seed)
    source, split_path = find_datalist(data, None), folder / "split.json"
    test = max(1, round(_TEST_SHARE * len(read_datalist(source).get("training", []))))
    counts = write_split(source, split_path, labels=labels, test=test, seed=seed)["split"]["counts"]

    cases = {"dataset_dir": source.parent.absolute(), "datalist": split_path.absolute()}
    dice, folders = {}, {}
    for method in DEMO_METHODS:
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
        dice[method] = json.loads((figures / RunFiles.METRICS).read_text())["mean"]["dice"]
        folders[method] = figures
    return DemoResult(dice, folders, counts, time.perf_counter() - start)
