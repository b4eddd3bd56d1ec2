"""A method's first steps, timed: what a training, or a pretraining, will take, before there is one."""

from __future__ import annotations

import csv
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from monai_ssl.study.plan import RunSpec
from monai_ssl.study.pretraining import PRETRAINING_LIST, PretrainSpec
from monai_ssl.study.process import CONSOLE, last_error, start_process
from monai_ssl.study.splits import split_path
from monai_ssl.study.state import Study
from monai_ssl.study.steps import Step, pretraining_step, training_step
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["PROBE_STEPS", "probe_pretraining", "probe_training"]

PROBE_STEPS = 10
"""Optimiser steps that are timed; the first half warms up."""


def probe_training(study: Study, spec: RunSpec, threads: int) -> float:
    """Seconds that a training will take, from a start of it in a temporary folder, which is thrown away.

    Validation during the training is not in it, nor are slow first reads of cases that the timed steps did not meet.
    Where the pretraining that it starts from has not ended, the weights are those of a pretraining of one step. Cases
    that have to be chosen first are drawn at random.

    Args:
        study: the study.
        spec: the run.
        threads: see :func:`~monai_ssl.study.process.start_process`.

    Raises:
        UserError: when the training fails, with the line that tells why.
    """
    with tempfile.TemporaryDirectory(prefix="monai-ssl-probe-") as temporary:
        folder = Path(temporary)
        split = {**study.splits[split_path(spec)], str(ListParts.VALIDATION): [], str(ListParts.TEST): []}
        cases = folder / "cases.json"
        cases.write_text(json.dumps(split), encoding="utf-8")
        short = {"max_steps": PROBE_STEPS, "epoch_length": PROBE_STEPS, "checkpoint": "last"}
        if spec.method.checkpoint == "last":
            del short["checkpoint"]
        pretraining, pretrained = study.waits_for(spec), study.pretrained(spec)
        if pretraining is not None:
            first = _short_pretraining(study, pretraining, folder / "pretraining", 1)
            _time(study, first, folder / CONSOLE, threads, spec.method.label)
            pretrained = first.folder / RunFiles.MODEL
        step = training_step(study.plan, spec, folder / "run", cases, pretrained, short)
        beside, one = _time(study, step, folder / CONSOLE, threads, spec.method.label)
        return beside + one * study.plan.steps


def probe_pretraining(study: Study, pretraining: PretrainSpec, threads: int) -> float:
    """Seconds that a pretraining will take, as :func:`probe_training` has them.

    Args:
        study: the study.
        pretraining: the pretraining.
        threads: see :func:`~monai_ssl.study.process.start_process`.

    Raises:
        UserError: when it fails, with the line that tells why.
    """
    with tempfile.TemporaryDirectory(prefix="monai-ssl-probe-") as temporary:
        step = _short_pretraining(study, pretraining, Path(temporary) / "run", PROBE_STEPS)
        beside, one = _time(study, step, Path(temporary) / CONSOLE, threads, pretraining.label)
        return beside + one * pretraining.pretraining.steps


def _short_pretraining(study: Study, pretraining: PretrainSpec, folder: Path, steps: int) -> Step:
    cases = folder.parent / "images.json"
    cases.write_text(json.dumps(study.splits[PRETRAINING_LIST]), encoding="utf-8")
    return pretraining_step(study.plan, pretraining, folder, cases, {"max_steps": steps, "epoch_length": steps})


def _time(study: Study, step: Step, console: Path, threads: int, name: str) -> tuple[float, float]:
    """Carry out a short training; return the seconds beside its steps, and those of a step."""
    start = time.monotonic()
    process = start_process(study.plan.bundle, step, console, threads)
    try:
        status = process.wait()
    finally:
        process.kill()
    if status:
        raise UserError(f"{name}: {last_error(console, 0)}")
    seconds = _seconds(step.folder / RunFiles.STEPS)
    beside = time.monotonic() - start - sum(seconds)
    return max(beside, 0.0), median(seconds[len(seconds) // 2 :])


def _seconds(table: Path) -> list[float]:
    with open(table, newline="", encoding="utf-8") as stream:
        return [float(row["seconds"]) for row in csv.DictReader(stream)]
