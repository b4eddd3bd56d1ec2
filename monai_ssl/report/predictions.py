"""Predictions of a run for the few cases that a page shows: made by the bundle's own workflow, kept beside the run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ssl.data.images import prediction_path
from monai_ssl.study.execute import run_bundle
from monai_ssl.utils.keys import RunFiles

__all__ = ["PREDICTIONS", "predict"]

PREDICTIONS = Path("report") / "predictions"
"""Where a run keeps them."""

# of an evaluation; the inference has them under the same names
_SHARED = ("overlap", "flip_axes", "device")


def predict(
    bundle: Path, training: Path, run: Path, images: Sequence[Path], settings: Mapping[str, Any]
) -> dict[Path, Path]:
    """Segment scans with the model of a run, in a process of its own; what is there already is not made again.

    Args:
        bundle: the bundle's folder.
        training: holds the weights.
        run: keeps the predictions, in :data:`PREDICTIONS`.
        images: NIfTI files, each of another name.
        settings: of the run's evaluation.

    Returns:
        The prediction of each image.

    Raises:
        UserError: when the process fails; its words are in ``console.txt`` beside the predictions.
        OSError: when weights or scans are not there, or the folder cannot be written.
    """
    folder = run / PREDICTIONS
    weights = training / RunFiles.MODEL
    made = weights.stat().st_mtime
    for image in images:
        image.stat()
    paths = {image: prediction_path(image.resolve(), folder, "seg") for image in images}
    due = [image for image, path in paths.items() if not path.is_file() or path.stat().st_mtime < made]
    if due:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            for image in due:
                os.symlink(image.resolve(), Path(place) / image.name)
            shared = {name: settings[name] for name in _SHARED if name in settings}
            own = {"image": place, "weights": weights, "output_dir": folder, "overwrite": True}
            run_bundle(bundle, ["inference.yaml"], {**shared, **own}, console=folder / "console.txt")
    return paths
