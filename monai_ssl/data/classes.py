"""Classes as a list names them, and as a model knows them.

Neither MONAI nor torch is imported, so that the command line stays fast.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monai_ssl.data.boxes import box_source
from monai_ssl.data.datalist import class_names, find_datalist, read_datalist
from monai_ssl.utils.errors import UserError

__all__ = ["check_box_classes", "check_class_names", "object_names"]

logger = logging.getLogger(__name__)


def object_names(
    datalist: str | os.PathLike[str] | None,
    dataset_dir: str | os.PathLike[str] | None,
    default: Sequence[str],
    parts: Sequence[str] = ("training", "validation"),
) -> list[str]:
    """Return the names of the classes of objects of a detection list.

    The first value of masks is where nothing is, whatever it is called; classes of boxes count from 0. Where no case
    has a label, one that is called background is none.

    Args:
        datalist: as in :func:`~monai_ssl.data.datalist.find_datalist`.
        dataset_dir: folder of the data set.
        default: the names if no list is given (both None) or the list has no ``labels``.
        parts: of the list, whose labelled cases are looked at.

    Raises:
        UserError: when no class is left, or the parts have boxes and masks; further as
            :func:`~monai_ssl.data.datalist.class_names` does.
    """
    names = class_names(datalist, dataset_dir, [])
    if not names:
        return list(default)
    data = read_datalist(find_datalist(datalist, dataset_dir), boxes=True)
    masks = box_source(case for part in parts for case in data.get(part, []) if "label" in case) == "mask"
    objects = names[1:] if masks else [name for name in names if name.lower() != "background"]
    if not objects:
        what = "0, where nothing is, and the objects, from 1 on" if masks else "the objects, from 0 on"
        raise UserError(f"the list's `labels` must name {what}, got {', '.join(names)} alone.")
    return objects


def check_box_classes(cases: Iterable[Mapping[str, Any]], class_names: Sequence[str]) -> None:
    """Refuse boxes of a class that has no name: no detector could have learned it.

    Args:
        cases: as :func:`~monai_ssl.data.cases.load_cases` returns them with ``boxes=True``.
        class_names: of the classes 0, 1, ...

    Raises:
        UserError: naming the image and the class.
    """
    for case in cases:
        classes = case["label"] if isinstance(case["label"], list) else []
        if (highest := max(classes, default=0)) >= len(class_names):
            raise UserError(
                f"{case['image']}: has a box of class {highest}, and the classes, counted from 0, are "
                f"{', '.join(class_names)}. Name all in the list's `labels`, or correct the class."
            )


def check_class_names(listed: Sequence[str], trained: Sequence[str]) -> None:
    """Refuse a list whose classes stand in another order than those of the model that is scored with it.

    A name that only one of them has may be another word for the same: that is a warning.

    Args:
        listed: names by value, of the list.
        trained: names by value, of the model.

    Raises:
        UserError: when a name that both have stands for another value.
    """
    for value, name in enumerate(listed):
        if name in trained and trained.index(name) != value:
            raise UserError(
                f"the list's `labels` have the classes {', '.join(listed)}, the model {', '.join(trained)}: {name} is "
                f"number {value} of the one and {trained.index(name)} of the other. Number the list's as the model's."
            )
    if list(listed) != list(trained):
        logger.warning(
            f"the list's classes are {', '.join(listed)}, the model's {', '.join(trained)}; they are taken for the same"
        )
