"""Figures of an assessment as ``assessment.json`` and as a table."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from monai_ssl.utils.bundle import as_bool
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write, write_json
from monai_ssl.utils.runs import open_results

__all__ = ["assessment_table", "open_assessment", "write_assessment"]

logger = logging.getLogger(__name__)

_FILE = "assessment.json"
_TABLE = "assessment.md"
_WORDS = {
    "pretrained": "pretrained",
    "random": "random weights",
    "intensity": "intensities alone",
    "linear: balanced_accuracy": "linear, balanced accuracy",
    "linear: roc_auc": "linear, ROC AUC",
    "nearest_neighbours: balanced_accuracy": "neighbours, balanced accuracy",
    "nearest_neighbours: roc_auc": "neighbours, ROC AUC",
    "dice": "Dice",
}


def open_assessment(output_dir: str | os.PathLike[str], overwrite: Any) -> None:
    """Create and lock the folder of an assessment.

    Args:
        output_dir: the folder.
        overwrite: true allows to replace the figures that are there.

    Raises:
        UserError: when the folder holds figures already, another process holds it, or it cannot be written.
    """
    folder = Path(output_dir)
    if (folder / _FILE).exists() and not as_bool(overwrite):
        raise UserError(f"{folder}: holds {_FILE} already. Replace it with --overwrite true, or choose another folder.")
    open_results(folder, overwrite)


def write_assessment(
    output_dir: str | os.PathLike[str], figures: Mapping[str, Any], weights: str, list_name: str, **protocol: Any
) -> None:
    """Write ``assessment.json`` and ``assessment.md``, and log the table.

    The JSON file: ``weights``, ``list`` (names only), ``labels`` (``"class"`` or ``"mask"``), ``cases``, more counts,
    ``lengths`` (features a scan or voxel, by set), ``features`` (by set ``pretrained``, ``random``, ``intensity`` and
    by score: ``mean``, ``low``, ``high`` of a 95 % interval, and ``per_seed`` of ``random``), ``differences``
    (``"pretrained - random"``, ``"pretrained - intensity"``, paired, likewise), and the settings.

    Args:
        output_dir: the folder.
        figures: of :class:`~monai_ssl.engines.assessment.ClassAssessment` or ``MaskAssessment``.
        weights: file of the weights.
        list_name: file of the data list.
        protocol: settings that decide the figures.
    """
    folder = Path(output_dir)
    content = {
        "weights": PurePath(weights).name,
        "list": PurePath(list_name).name,
        **protocol,
        **figures,
    }
    table = assessment_table(content)
    atomic_write(folder / _TABLE, lambda stream: stream.write(table.encode()))
    write_json(folder / _FILE, content)
    logger.info(f"{folder / _FILE}\n{table}")


def assessment_table(content: Mapping[str, Any]) -> str:
    """The figures as Markdown.

    Args:
        content: of ``assessment.json``.
    """
    scores = list(content["features"]["pretrained"])
    lines = [
        f"# Features of {content['weights']} as they are, on {content['list']}",
        "",
        _sentence(content),
        "",
        "| features | length | " + " | ".join(_WORDS.get(score, score) for score in scores) + " |",
        "|---" * (len(scores) + 2) + "|",
    ]
    for name, figures in content["features"].items():
        cells = [f"{figures[score]['mean']:.3f} ({_ends(figures[score])})" for score in scores]
        lines.append(f"| {_WORDS[name]} | {content['lengths'][name]} | " + " | ".join(cells) + " |")
    for name, figures in content["differences"].items():
        other = _WORDS[name.split(" - ")[1]]
        cells = [f"{figures[score]['mean']:+.3f} ({_ends(figures[score])})" for score in scores]
        lines.append(f"| pretrained minus {other} | | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _sentence(content: Mapping[str, Any]) -> str:
    seeds = len(next(iter(content["features"]["random"].values()))["per_seed"])
    mean = "one seed" if seeds == 1 else f"the mean of {seeds} seeds"
    about = f"Random weights: {mean}. In brackets 95 % intervals; differences are paired."
    if content["labels"] == "mask":
        return (
            f"A linear readout of single voxels, fitted to {content['training_cases']} cases, on {content['cases']} "
            f"others. {about}"
        )
    classes = ", ".join(f"{count} of class {label}" for label, count in content["classes"].items())
    return (
        f"{content['cases']} cases of {content['patients']} patients ({classes}), {content['folds']}-fold "
        f"cross-validation by patients, dealt {content['repeats']} times. Chance is balanced accuracy "
        f"{content['chance']['balanced_accuracy']:.3f} and ROC AUC 0.5. {about}"
    )


def _ends(figures: Mapping[str, float]) -> str:
    return f"{figures['low']:.3f} to {figures['high']:.3f}"
