"""Boxes of a case as files: JSON for programs, 3D Slicer's markups for people."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import write_json

__all__ = ["read_boxes", "write_boxes", "write_markups"]

_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
# Of a region whose axes are those of the patient, as Slicer itself writes it in LPS: the first two rows change sign.
_UPRIGHT = [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0]


def write_boxes(
    path: str | os.PathLike[str],
    image: str | os.PathLike[str],
    boxes: ArrayLike,
    labels: ArrayLike,
    scores: ArrayLike,
    class_names: Sequence[str],
) -> None:
    """Write the detections of one scan as JSON, whole or not at all.

    ``{"image", "coordinates": "RAS", "box_mode": "cccwhd", "unit": "mm", "box", "label", "class", "score"}``: the file
    name of the scan, and a row of each of the last four for every box, the highest score first. ``box`` and ``label``
    have the form of an entry of a detection list. Numbers are written as short as float32 allows, and come back as
    exactly the same float32.

    Args:
        path: the JSON file; its folder must exist.
        image: the scan; only its name is written.
        boxes: centre and size in millimetres, RAS. None at all is ordinary.
        labels: class of each box, from 0.
        scores: of each box.
        class_names: by class.

    Shape:
        - boxes: ``(N, 6)``
        - labels, scores: ``(N,)``

    Raises:
        ValueError: when shapes differ, a number is not finite, a size is not above 0, or a class has no name.
    """
    rows, classes, values = _sorted(boxes, labels, scores, class_names)
    content = {
        "image": PurePath(image).name,
        "coordinates": "RAS",
        "box_mode": "cccwhd",
        "unit": "mm",
        "box": rows,
        "label": classes,
        "class": [class_names[number] for number in classes],
        "score": values,
    }
    write_json(path, content)


def read_boxes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`write_boxes` wrote; ``box``, ``label`` and ``score`` become arrays.

    Args:
        path: the JSON file.

    Returns:
        The file's content.

    Raises:
        UserError: when the file cannot be read, or is another one.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        content["box"] = np.array(content["box"], dtype=np.float32).reshape(-1, 6)
        content["label"] = np.array(content["label"], dtype=np.int64)
        content["score"] = np.array(content["score"], dtype=np.float32)
        lengths = {len(content[key]) for key in ("box", "label", "score", "class")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as the boxes of a scan ({error!r}). Write it anew.") from error
    if len(lengths) > 1 or (content.get("coordinates"), content.get("box_mode")) != ("RAS", "cccwhd"):
        raise UserError(f"{path}: does not have a class and a score for each box, in RAS and cccwhd. Write it anew.")
    return dict(content)


def write_markups(
    path: str | os.PathLike[str],
    boxes: ArrayLike,
    labels: ArrayLike,
    scores: ArrayLike,
    class_names: Sequence[str],
) -> None:
    """Write boxes as a markups file that 3D Slicer opens beside the scan, one region (ROI) a box.

    A region is named after its class, its rank by score and its score, such as ``nodule 1 (0.93)``. Slicer works in
    RAS, but its files are in LPS, and some of its versions take nothing for a number that is written without a point.

    Args:
        path: the file, which has to end in ``.mrk.json`` for Slicer to know it.
        boxes: centre and size in millimetres, RAS. Without any the file has an empty list of markups.
        labels: class of each box, from 0.
        scores: of each box.
        class_names: by class.

    Shape:
        - boxes: ``(N, 6)``
        - labels, scores: ``(N,)``

    Raises:
        ValueError: when ``path`` ends otherwise, or as :func:`write_boxes` does.

    Reference:
        3D Slicer, markups file format (schema 1.0.3), https://slicer.readthedocs.io/en/latest/developer_guide/modules/markups.html
    """
    if not Path(path).name.endswith(".mrk.json"):
        raise ValueError(f"`path` must end in .mrk.json, or Slicer does not know the file, got {os.fspath(path)!r}.")
    rows, classes, values = _sorted(boxes, labels, scores, class_names)
    names = [
        f"{class_names[number]} {rank} ({value:.2f})"
        for rank, (number, value) in enumerate(zip(classes, values, strict=True), 1)
    ]
    regions = [_region(name, row) for name, row in zip(names, rows, strict=True)]
    write_json(path, {"@schema": _SCHEMA, "markups": regions})


def _region(name: str, row: list[float]) -> dict[str, Any]:
    centre = [-row[0], -row[1], row[2]]
    return {
        "type": "ROI",
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": True,
        "roiType": "Box",
        "center": centre,
        "orientation": _UPRIGHT,
        "size": row[3:],
        "insideOut": False,
        "controlPoints": [  # of a box its centre; without it, Slicer takes the box as not placed yet
            {"id": "1", "label": name, "position": centre, "orientation": _UPRIGHT, "positionStatus": "defined"}
        ],
        "display": {"visibility": True, "propertiesLabelVisibility": True, "handlesInteractive": False},
    }


def _sorted(
    boxes: ArrayLike, labels: ArrayLike, scores: ArrayLike, class_names: Sequence[str]
) -> tuple[list[list[float]], list[int], list[float]]:
    """Check boxes and return them by falling score as plain numbers; equal scores keep their order."""
    rows, classes, values = np.asarray(boxes, np.float32), np.asarray(labels), np.asarray(scores, np.float32)
    rows = rows.reshape(-1, 6) if rows.size == 0 else rows
    if rows.ndim != 2 or rows.shape[1] != 6 or classes.shape != rows.shape[:1] or values.shape != rows.shape[:1]:
        raise ValueError(
            f"`boxes` must be (N, 6), `labels` and `scores` (N,), got {rows.shape}, {classes.shape}, {values.shape}."
        )
    if not np.isfinite(rows).all() or not np.isfinite(values).all() or (rows[:, 3:] <= 0).any():
        raise ValueError("`boxes` and `scores` must be finite, and sizes above 0 mm.")
    if (wrong := classes[(classes < 0) | (classes >= len(class_names)) | (classes != classes.astype(int))]).size:
        raise ValueError(f"`labels` must be classes from 0 to {len(class_names) - 1} (`class_names`), got {wrong[0]}.")
    order = np.argsort(-values, kind="stable")
    # by its shortest text a float32 becomes 0.9 and not 0.8999999761581421
    shortest = [[float(str(value)) for value in row] for row in rows[order]]
    return shortest, [int(number) for number in classes[order]], [float(str(value)) for value in values[order]]
