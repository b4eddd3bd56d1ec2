"""The figures that a study may be about: what they are called, what they can be, and which bundles give them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monai_ssl.metrics.free_response import FALSE_POSITIVE_RATES

__all__ = ["MEASURES", "Measure", "Task", "measures_of", "task_of"]

Task = Literal["segmentation", "detection"]


@dataclass(frozen=True)
class Measure:
    """A figure of a run.

    Attributes:
        task: of the bundles that give it.
        title: its name.
        unit: what it is measured in, behind a number.
        axis: what an axis says.
        most: the largest value that it can have.
        margin: loss that does not matter unless a plan says another; None: no such loss can be named.
        rates: false positives a scan whose mean sensitivity it is; empty for a mean over cases.
    """

    task: Task
    title: str
    unit: str
    axis: str
    most: float = 1.0
    margin: float | None = None
    rates: tuple[float, ...] = ()


_UP = "(0 to 1, higher is better)"
# Free-response figures move by more than Dice: of 15 boxes a single one is worth 0.067.
_DETECTION_MARGIN = 0.02

MEASURES: dict[str, Measure] = {
    "dice": Measure("segmentation", "Dice", "Dice", f"Dice {_UP}", margin=0.005),
    "surface_dice": Measure("segmentation", "surface Dice", "surface Dice", f"surface Dice {_UP}", margin=0.005),
    "hausdorff_95": Measure(
        "segmentation",
        "95 % Hausdorff distance",
        "mm",
        "95 % Hausdorff distance in mm (lower is better)",
        most=float("inf"),
    ),
    "cpm": Measure("detection", "CPM", "CPM", f"CPM {_UP}", margin=_DETECTION_MARGIN, rates=FALSE_POSITIVE_RATES),
    "sensitivity_1": Measure(
        "detection",
        "sensitivity at 1 FP a scan",
        "sensitivity",
        f"sensitivity at 1 false positive a scan {_UP}",
        margin=_DETECTION_MARGIN,
        rates=(1.0,),
    ),
}
"""By the name that ``metrics.json`` has for each; of a task the first is a plan's default."""


def task_of(bundle: Path) -> Task:
    """What a bundle does, by the ending of its name, as MONAI Label tells it; segmentation where it has none."""
    return "detection" if bundle.name.endswith("_detection") else "segmentation"


def measures_of(task: Task) -> tuple[str, ...]:
    """Names of a task's figures, its default first."""
    return tuple(name for name, measure in MEASURES.items() if measure.task == task)
