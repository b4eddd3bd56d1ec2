"""The leak guard of a list: no case and no patient on both sides of an evaluation."""

from __future__ import annotations

import os
from typing import Any

from monai_ssl.data.cases import used_entries
from monai_ssl.data.datalist import PARTS, absolute_path, find_datalist, list_folder, read_datalist
from monai_ssl.utils.errors import UserError

__all__ = ["check_leaks"]


def check_leaks(
    datalist: str | os.PathLike[str] | None,
    dataset_dir: str | os.PathLike[str] | None = None,
    exclude: Any = (),
) -> None:
    """Refuse a list in which a case or a patient is on both sides of an evaluation.

    Reads paths and patients only, never content. ``training`` and ``unlabeled`` are one side: a patient may have cases
    in both, but an image may not be in both. ``validation`` and ``test`` are a side each.

    Args:
        datalist: as in :func:`find_datalist`.
        dataset_dir: folder that the list's paths are relative to; if None, the list's own folder.
        exclude: names of cases of ``training`` and ``unlabeled`` that will not be used, see
            :func:`~monai_ssl.data.exclude.leave_out`; they are on no side.

    Raises:
        UserError: naming the case and both parts, or a name to exclude that no case has.
    """
    path = find_datalist(datalist, dataset_dir)
    data, base = read_datalist(path, class_labels=True, boxes=True), list_folder(path, dataset_dir)
    images: dict[str, str] = {}
    patients: dict[str, tuple[str, str]] = {}
    for part in PARTS:
        for entry in used_entries(data, part, exclude, path):
            image, patient = entry["image"], entry.get("patient")
            other = images.setdefault(os.path.realpath(absolute_path(image, base)), part)
            if other != part:
                raise UserError(f"{path}: {image} is in `{other}` and in `{part}`: keep it in one of them.")
            if patient is None:
                continue
            side = "training" if part == "unlabeled" else part
            first = patients.setdefault(patient, (part, image))
            if side != ("training" if first[0] == "unlabeled" else first[0]):
                raise UserError(
                    f"{path}: patient {patient} is in `{first[0]}` ({first[1]}) and in `{part}` ({image}): "
                    "keep all cases of a patient on one side."
                )
