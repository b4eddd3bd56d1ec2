"""Cases for probes of a network as it is: which kind of label a list has, whose scans they are, which it names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from monai_ssl.data.cases import load_images
from monai_ssl.data.datalist import PARTS, find_datalist, read_datalist
from monai_ssl.data.images import images_to_predict
from monai_ssl.data.patients import patient_rule
from monai_ssl.utils.errors import UserError

__all__ = ["common_folder", "find_images", "label_kind", "with_patients"]


def label_kind(
    datalist: str | os.PathLike[str] | None, dataset_dir: str | os.PathLike[str] | None = None
) -> Literal["class", "mask"]:
    """Whether the labels of a list are classes of whole images or masks.

    Args:
        datalist: as in :func:`~monai_ssl.data.datalist.find_datalist`.
        dataset_dir: folder of the data set.

    Raises:
        UserError: when no case of the labelled parts has a label, or there are both kinds.
    """
    path = find_datalist(datalist, dataset_dir)
    data = read_datalist(path, class_labels=True)
    labels = [
        entry["label"] for part in PARTS if part != "unlabeled" for entry in data.get(part, []) if "label" in entry
    ]
    kinds = {type(label) for label in labels}
    if not kinds:
        raise UserError(
            f"{path}: no case has a `label`: give the cases of `training` a whole number from 0 (a class of the image) "
            "or the path of a mask."
        )
    if len(kinds) > 1:
        raise UserError(f"{path}: some labels are classes and some are masks: make a list of each kind.")
    return "class" if kinds == {int} else "mask"


def with_patients(cases: Sequence[Mapping[str, Any]], regex: str | None = None) -> list[dict[str, Any]]:
    """Cases with their ``patient``, named by the rule of :func:`~monai_ssl.data.patients.patient_rule`.

    Args:
        cases: with ``image``.
        regex: names the patient of a case whose list does not.

    Raises:
        UserError: as the rule does.
    """
    entries = [dict(case) for case in cases]
    _, patient_of = patient_rule(entries, regex)
    return [{**entry, "patient": patient_of(entry)} for entry in entries]


def find_images(
    image: str | os.PathLike[str] | None,
    datalist: str | os.PathLike[str] | None,
    dataset_dir: str | os.PathLike[str] | None,
    output_dir: str | os.PathLike[str],
    postfix: str,
    overwrite: bool = False,
    channels: int = 1,
) -> list[dict[str, str]]:
    """Scans of a file, a folder, or all parts of a data list, as ``{"image": path}``; labels are never looked at.

    Args:
        image: a scan or a folder of them, see :func:`~monai_ssl.data.images.images_to_predict`; goes first.
        datalist: a Decathlon list, whose scans of every part are taken.
        dataset_dir: folder that the list's paths are relative to; without a list, a folder with ``dataset.json`` or of
            scans.
        output_dir: where files named ``<stem>_<postfix>.nii.gz`` will be written.
        postfix: what is added to a file's name.
        overwrite: whether such files may be replaced.
        channels: of a case, which is named by its first file, ``<case>_0000``.

    Raises:
        UserError: when there is no scan, or a file would be overwritten.
    """
    listed = datalist or (dataset_dir and (Path(dataset_dir) / "dataset.json").is_file())
    if image or not listed:
        return images_to_predict(image or dataset_dir, output_dir, postfix, overwrite, channels=channels)
    return load_images(datalist, dataset_dir)


def common_folder(cases: Sequence[Mapping[str, Any]]) -> str:
    """The deepest folder that holds all scans; paths below it tell them apart where names repeat.

    Args:
        cases: with absolute paths as ``image``; none gives the present folder.
    """
    return os.path.commonpath([os.path.dirname(case["image"]) for case in cases]) if cases else os.curdir
