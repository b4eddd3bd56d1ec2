"""Boxes in the entries of a data list: their form, and every way to get it wrong.

Neither MONAI nor torch is imported, so that the command line stays fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from monai_ssl.utils.errors import UserError

__all__ = ["box_source", "checked_boxes"]

_FORM = "six numbers in mm, [x, y, z, width, height, depth] (centre and size, cccwhd)"


def checked_boxes(entry: Mapping[str, Any], where: str, classes: int | None = None) -> dict[str, Any]:
    """Return an entry of a detection list with its boxes and their classes checked.

    ``box`` lists boxes by centre and size in millimetres of the world, as MONAI's LUNA16 example does, and ``label``
    has the class of each, counted from 0 without a background. An empty list of boxes is a healthy scan and needs no
    ``label``.

    Two corners can be told from centre and size only where a side comes out as 0 or less; where the numbers are
    possible, a wrong box is found when its image is read
    (:class:`~monai_ssl.transforms.boxes.WorldToVoxelBoxd`).

    Args:
        entry: with ``box``, ``label`` or both; not changed.
        where: what a message begins with: the list, the entry and its image.
        classes: number of classes; any number by default.

    Raises:
        UserError: naming what is wrong, and the box, counted from 1.
    """
    label = entry.get("label")
    if "box" not in entry:
        raise UserError(f"{where}: has a list of classes as `label` but no `box`: give `box`, a list of boxes, too.")
    boxes = entry["box"]
    if not isinstance(boxes, list):
        raise UserError(f"{where}: `box` must be a list of boxes, each {_FORM}, got {boxes!r}.")
    if len(boxes) == 6 and not any(isinstance(box, list) for box in boxes):
        raise UserError(f"{where}: `box` must be a list of boxes, got the numbers of one: write [{boxes}].")
    if label is None and not boxes:
        label = []
    if not isinstance(label, list) or len(label) != len(boxes):
        got = "none" if label is None else f"{len(label)}" if isinstance(label, list) else f"{label!r}"
        raise UserError(f"{where}: `label` must be a list of one class for each of {len(boxes)} boxes, got {got}.")
    checked = [_checked_box(box, f"{where}: box {number}") for number, box in enumerate(boxes, 1)]
    for number, value in enumerate(label, 1):
        if type(value) is not int or value < 0 or (classes is not None and value >= classes):
            rule = f"from 0 to {classes - 1} (`labels` names {classes})" if classes else "from 0"
            raise UserError(f"{where}: the class of box {number} must be a whole number {rule}, got {value!r}.")
    return {**entry, "box": checked, "label": list(label)}


def box_source(cases: Iterable[Mapping[str, Any]]) -> Literal["box", "mask"]:
    """Whether the boxes of labelled cases are in the list or come from masks, which decides how cases are read.

    Args:
        cases: as :func:`~monai_ssl.data.cases.load_cases` returns them with ``boxes=True``; none have boxes.

    Raises:
        UserError: if there are both kinds.
    """
    kinds = {"mask" if isinstance(case["label"], str) else "box": case["image"] for case in cases}
    if len(kinds) > 1:
        raise UserError(
            f"some cases have boxes ({kinds['box']}) and some have masks ({kinds['mask']}): make a list of each kind."
        )
    return "mask" if "mask" in kinds else "box"


def _checked_box(box: Any, where: str) -> list[float]:
    numbers = isinstance(box, list) and all(type(value) in (int, float) and math.isfinite(value) for value in box)
    if not numbers or len(box) != 6:
        raise UserError(f"{where} must be {_FORM}, got {box!r}.")
    if min(box[3:]) <= 0:
        raise UserError(
            f"{where} must have a width, height and depth above 0 mm, got {box[3:]}: boxes are centre and size "
            "(cccwhd), not two corners (xyzxyz)."
        )
    return [float(value) for value in box]
