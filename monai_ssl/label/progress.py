"""How far a training is, from the files of its run, in the words that MONAI Label's clients read."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from monai_ssl.utils.bundle import is_untrained
from monai_ssl.utils.keys import RunFiles

__all__ = ["newest_run", "trained_weights", "training_stats"]


def newest_run(models: str | os.PathLike[str]) -> Path | None:
    """The folder of a bundle's last training that did a step.

    Args:
        models: the bundle's ``models``.
    """
    runs = sorted((Path(models) / "runs").glob(f"*/{RunFiles.STEPS}"), key=lambda path: path.stat().st_mtime)
    return runs[-1].parent if runs else None


def trained_weights(models: str | os.PathLike[str]) -> Path | None:
    """The weights that the last finished training wrote into its own folder, beside the values that they belong to.

    Args:
        models: the bundle's ``models``.

    Returns:
        Without such a training ``models/model.pt``, if that is trained; else none.
    """
    written = sorted((Path(models) / "runs").glob(f"*/{RunFiles.MODEL}"), key=lambda path: path.stat().st_mtime)
    if written:
        return written[-1]
    model = Path(models) / RunFiles.MODEL
    return model if model.is_file() and not is_untrained(model) else None


def training_stats(models: str | os.PathLike[str]) -> dict[str, Any]:
    """Of the last training: its steps, its time and its last figure on validation studies.

    Args:
        models: the bundle's ``models``.

    Returns:
        ``epoch`` and ``total_epochs``, both in steps; ``best_metric``, the figure of the last validation, which clients
        show as accuracy, 0 before there is one; ``total_time`` once the training has ended well; ``seconds`` so far;
        ``run``, the folder. Empty before the first training.
    """
    run = newest_run(models)
    if run is None:
        return {}
    with open(run / RunFiles.STEPS, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        return {}
    figures = [
        float(value)
        for row in rows
        for name, value in row.items()
        if name is not None and name.startswith("validation_") and value
    ]
    seconds = round(sum(float(row["seconds"] or 0.0) for row in rows if row.get("seconds")), 1)
    step = int(rows[-1]["step"])
    stats: dict[str, Any] = {
        "epoch": step,
        "total_epochs": _planned(run, step),
        "best_metric": figures[-1] if figures else 0.0,
        "seconds": seconds,
        "run": run.name,
    }
    if (run / RunFiles.MODEL).is_file():
        stats["total_time"] = f"{seconds:.0f} s"
    return stats


def _planned(run: Path, step: int) -> int:
    try:
        settings = json.loads((run / RunFiles.MANIFEST).read_text(encoding="utf-8"))["settings"]
        return max(step, int(settings["max_steps"]))
    except (OSError, ValueError, KeyError, TypeError):
        return step
