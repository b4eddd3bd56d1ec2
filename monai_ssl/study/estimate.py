"""What a study will take, said before the first run: runs, disk, time."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from monai.bundle import ConfigParser

from monai_ssl.study.plan import RunSpec
from monai_ssl.study.state import Study
from monai_ssl.utils.keys import RunFiles

__all__ = ["describe_estimate", "read_times"]

# float32 student, teacher and the optimiser's two moments in resume.pt, the deployed network in model.pt
_BYTES_A_PARAMETER = 4 * 5


def describe_estimate(study: Study, specs: Sequence[RunSpec], jobs: int) -> list[str]:
    """Say how many runs there are to do, and about how much disk and time they take.

    Disk is that of the finished runs, or follows from the size of the network. Time is that of the trainings, from the
    ``steps.csv`` of finished runs of the same method; before there is one, it is not known, and that is said.

    Args:
        study: the study.
        specs: all its runs.
        jobs: runs at once.

    Returns:
        Lines for a person.
    """
    finished = [spec for spec in specs if study.is_finished(spec)]
    left = [spec for spec in specs if spec not in finished]
    most = " at most, by what the screen keeps" if study.plan.screen else ""
    lines = [f"{len(specs)} runs of {study.plan.steps} steps{most}: {len(finished)} finished, {len(left)} to do."]
    if left:
        lines += [_disk(study, finished, left), _time(study, finished, left, jobs)]
    return lines


def read_times(steps: Path) -> tuple[int, float]:
    """Return the number of optimiser steps in a ``steps.csv`` and the seconds that they took."""
    with open(steps, newline="") as stream:
        rows = list(csv.DictReader(stream))
    return (int(rows[-1]["step"]) if rows else 0), sum(float(row["seconds"]) for row in rows)


def _disk(study: Study, finished: Sequence[RunSpec], left: Sequence[RunSpec]) -> str:
    if finished:
        files = [[path.stat().st_size for path in study.folder(spec).rglob("*") if path.is_file()] for spec in finished]
        each, source = fmean(sum(sizes) for sizes in files), "by the finished runs"
    else:
        each = _BYTES_A_PARAMETER * max(
            (_parameters(study, spec) for spec in {spec.method.label: spec for spec in left}.values()), default=0
        )
        source = "by the largest network of the plan, with a teacher; tables and pictures not counted"
    if not each:
        return "Disk: not known until the first run is done."
    return f"Disk: about {each * len(left) / 1e6:,.0f} MB ({source})."


def _time(study: Study, finished: Sequence[RunSpec], left: Sequence[RunSpec], jobs: int) -> str:
    seconds: dict[str, list[float]] = {}
    for spec in finished:
        table = study.folder(spec) / RunFiles.STEPS
        if table.is_file():
            seconds.setdefault(spec.method.label, []).append(read_times(table)[1])
    unknown = list(dict.fromkeys(spec.method.label for spec in left if spec.method.label not in seconds))
    known = sum(fmean(seconds[spec.method.label]) for spec in left if spec.method.label in seconds) / jobs
    hint = f"not known for {', '.join(unknown)} until the first run of each is done" if unknown else ""
    if len(unknown) == len({spec.method.label for spec in left}):
        return f"Time: {hint}."
    return f"Time: about {known / 60:,.1f} minutes of training, {jobs} at once, besides start and evaluation" + (
        f"; {hint}." if hint else "."
    )


def _parameters(study: Study, spec: RunSpec) -> int:
    """Number of values in the network of a run; 0 where that cannot be told without the run."""
    configs, plan = study.plan.bundle / "configs", study.plan
    parser = ConfigParser()
    parser.read_config([str(configs / "train.yaml"), str(configs / "methods" / f"{spec.method.method}.yaml")])
    changes: dict[str, Any] = {"datalist": str(plan.data), **plan.settings, **spec.method.settings}
    try:
        parser.update({name.replace("#", "::"): value for name, value in changes.items()})
        network = parser.get_parsed_content("network_def")
        return sum(values.numel() for values in network.parameters())
    except Exception:  # whatever the override breaks, the run itself says it better
        return 0
