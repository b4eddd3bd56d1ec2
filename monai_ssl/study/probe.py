"""A method's first steps, timed: what a training will take, before there is one."""

from __future__ import annotations

import csv
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from monai_ssl.study.plan import RunSpec
from monai_ssl.study.process import CONSOLE, last_error, start_process
from monai_ssl.study.splits import split_path
from monai_ssl.study.state import Study
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["PROBE_STEPS", "probe_training"]

PROBE_STEPS = 10
"""Optimiser steps that are timed; the first half warms up."""


def probe_training(study: Study, spec: RunSpec, threads: int) -> float:
    """Seconds that a training will take, from a start of it in a temporary folder, which is thrown away.

    Validation during the training is not in it, nor are slow first reads of cases that the timed steps did not meet.

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
        step = study.training_step(spec, folder / "run", cases, short)
        start = time.monotonic()
        process = start_process(study.plan.bundle, step, folder / CONSOLE, threads)
        try:
            status = process.wait()
        finally:
            process.kill()
        if status:
            raise UserError(f"{spec.method.label}: {last_error(folder / CONSOLE, 0)}")
        seconds = _seconds(folder / "run" / RunFiles.STEPS)
        beside = time.monotonic() - start - sum(seconds)
        return max(beside, 0.0) + median(seconds[len(seconds) // 2 :]) * study.plan.steps


def _seconds(table: Path) -> list[float]:
    with open(table, newline="") as stream:
        return [float(row["seconds"]) for row in csv.DictReader(stream)]
