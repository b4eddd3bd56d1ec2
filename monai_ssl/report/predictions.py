"""Predictions of a run for the few cases that a page shows: made by the bundle's own workflow, kept beside the run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ssl.data.images import prediction_path
from monai_ssl.study.execute import run_bundle
from monai_ssl.study.measures import Task

__all__ = ["PREDICTIONS", "predict"]

PREDICTIONS = Path("report") / "predictions"
"""Where a run keeps them."""

# of an evaluation; the inference has them under the same names
_SHARED = ("overlap", "flip_axes", "score_threshold", "overlap_threshold", "max_boxes", "device")
_FILES: dict[Task, tuple[str, str]] = {"segmentation": ("seg", ".nii.gz"), "detection": ("boxes", ".json")}


def predict(
    bundle: Path, weights: Path, run: Path, images: Sequence[Path], settings: Mapping[str, Any], task: Task
) -> dict[Path, Path]:
    """Predict scans with the model of a run, in a process of its own; what is there already is not made again.

    Args:
        bundle: the bundle's folder.
        weights: of the run.
        run: keeps the predictions, in :data:`PREDICTIONS`.
        images: NIfTI files, each of another name.
        settings: of the run's evaluation.
        task: of the bundle.

    Returns:
        The prediction of each image: a label map, or of a detector the file of its boxes.

    Raises:
        UserError: when the process fails; its words are in ``console.txt`` beside the predictions.
        OSError: when bundle, weights or scans are not there, or the folder cannot be written.
    """
    folder = run / PREDICTIONS
    (bundle / "configs" / "inference.yaml").stat()
    trained = weights.stat().st_mtime
    for image in images:
        image.stat()
    postfix, ending = _FILES[task]
    paths = {image: prediction_path(image.resolve(), folder, postfix, ending) for image in images}
    due = [image for image, path in paths.items() if not path.is_file() or path.stat().st_mtime < trained]
    if due:
        folder.mkdir(parents=True, exist_ok=True)
        # made elsewhere, so that a file that is there is whole
        with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory(dir=folder) as made:
            for image in due:
                os.symlink(image.resolve(), Path(place) / image.name)
            shared = {name: settings[name] for name in _SHARED if name in settings}
            own = {"image": place, "weights": weights, "output_dir": made}
            run_bundle(bundle, ["inference.yaml"], {**shared, **own}, console=folder / "console.txt")
            for image in due:
                os.replace(Path(made) / paths[image].name, paths[image])
    return paths
