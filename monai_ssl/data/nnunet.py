"""Folders of nnU-Net as they are: which of their files are which case, told as the parts of a data list.

Nothing here opens an image or a label, and neither MONAI nor torch is imported, so that the command line stays fast.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_ssl.data.entries import channels_of
from monai_ssl.data.formats import VOLUME_ENDINGS
from monai_ssl.utils.errors import UserError

__all__ = ["is_nnunet", "nnunet_parts", "refuse_unsupported_labels"]

_TRAINING = "imagesTr"

Parts = dict[str, list[dict[str, str]]]


def is_nnunet(data: Mapping[str, Any]) -> bool:
    """Whether the content of a ``dataset.json`` is nnU-Net's, version 2, which lists no cases.

    Args:
        data: as it was read.
    """
    return "training" not in data and ("channel_names" in data or "file_ending" in data)


def nnunet_parts(path: Path, data: Mapping[str, Any]) -> Parts:
    """Return the cases of an nnU-Net folder by part, with paths relative to it.

    Cases of ``imagesTr`` with a label in ``labelsTr`` are ``training``, those without ``unlabeled``; cases of
    ``imagesTs`` with a label in ``labelsTs`` are ``test``, and those without are left out. A case's ``image`` is its
    first channel, ``<case>_0000``. Where ``dataset`` names the files of the training cases, ``imagesTr`` and
    ``labelsTr`` are not looked at.

    Args:
        path: of ``dataset.json``.
        data: its content.

    Raises:
        UserError: when a channel of a case is missing or one too many, a label has no image, the number of cases is not
            ``numTraining``, there is no case, or the file says what cannot be read.

    Reference:
        nnU-Net, dataset format, https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
    """
    channels, ending = channels_of(data), data.get("file_ending")
    if channels is None:
        raise UserError(f'{path}: `channel_names` must name the channels, as {{"0": "CT"}}.')
    if ending not in VOLUME_ENDINGS:
        raise UserError(
            f"{path}: `file_ending` must be one of {', '.join(VOLUME_ENDINGS)}, got {ending!r}. Convert the files."
        )
    if "dataset" in data:
        parts = _named_cases(path, data["dataset"], channels)
    else:
        parts = _paired(path, _TRAINING, "labelsTr", channels, ending)
    _check_number(path, data.get("numTraining"), parts)
    if (path.parent / "imagesTs").is_dir():
        parts["test"] = _paired(path, "imagesTs", "labelsTs", channels, ending)["training"]
    return parts


def refuse_unsupported_labels(path: str | os.PathLike[str], labels: Any) -> None:
    """Refuse what nnU-Net's ``labels`` may say beyond one value a class; other faults of them are told elsewhere.

    Args:
        path: of the list, for the message.
        labels: of the list.

    Raises:
        UserError: for a region of several values, and for the label ``ignore``.
    """
    if not isinstance(labels, Mapping):
        return
    for name, value in labels.items():
        if isinstance(value, list):
            raise UserError(
                f"{path}: `labels` has the region {name!r} of the values {value}: regions that overlap cannot be "
                "learned. Give each value a name of its own, as it is in the label files."
            )
    if "ignore" in labels:
        raise UserError(
            f"{path}: `labels` has `ignore` ({labels['ignore']!r}): voxels cannot be left out of the loss. Give them a "
            "class in the label files, and move cases that are labelled in part out of labelsTr: they are learned from "
            "as unlabelled."
        )


def _paired(path: Path, images: str, labels: str, channels: int, ending: str) -> Parts:
    found, labeled = _cases(path, images, channels, ending), _labels(path.parent, labels, ending)
    for case, label in labeled.items():
        if case not in found:
            raise UserError(
                f"{path.parent / label}: is a label without an image: there is no {images}/{case}_0000{ending}. Add "
                "the image, or remove the label."
            )
    return {
        "training": [{"image": image, "label": labeled[case]} for case, image in found.items() if case in labeled],
        "unlabeled": [{"image": image} for case, image in found.items() if case not in labeled],
    }


def _cases(path: Path, images: str, channels: int, ending: str) -> dict[str, str]:
    """Return the first file of each case of a folder."""
    folder = path.parent / images
    if not folder.is_dir():
        raise UserError(f"{path}: is an nnU-Net dataset.json, and there is no folder {images} beside it. Put it there.")
    found: dict[str, set[int]] = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith(".") or not name.endswith(ending):
            continue
        match = re.fullmatch(r"(.+)_(\d{4})", name.removesuffix(ending))
        if match is None:
            raise UserError(
                f"{folder / name}: has no channel in its name. Name it <case>_0000{ending}, as nnU-Net does."
            )
        found.setdefault(match[1], set()).add(int(match[2]))
    for case, numbers in found.items():
        if wrong := sorted(numbers ^ set(range(channels))):
            file, missing = folder / f"{case}_{wrong[0]:04d}{ending}", wrong[0] not in numbers
            raise UserError(
                f"{file}: is {'missing' if missing else 'one too many'}: `channel_names` names {channels} channels. "
                f"{'Add' if missing else 'Remove'} the file, or leave the case out."
            )
    if not found and images == _TRAINING:
        raise UserError(f"{folder}: holds no case: there is no file <case>_0000{ending} (`file_ending`). Add cases.")
    return {case: f"{images}/{case}_0000{ending}" for case in found}


def _labels(folder: Path, labels: str, ending: str) -> dict[str, str]:
    names = sorted(os.listdir(folder / labels)) if (folder / labels).is_dir() else []
    files = [name for name in names if name.endswith(ending) and not name.startswith(".")]
    return {name.removesuffix(ending): f"{labels}/{name}" for name in files}


def _named_cases(path: Path, named: Any, channels: int) -> Parts:
    """Return the training cases whose files ``dataset`` names."""
    parts: Parts = {"training": [], "unlabeled": []}
    if not isinstance(named, dict) or not named:
        raise UserError(f"{path}: `dataset` must be an object of cases, each with `images` and `label`.")
    for case, files in named.items():
        images = files.get("images") if isinstance(files, dict) else None
        if not isinstance(images, list) or len(images) != channels or not all(isinstance(i, str) for i in images):
            raise UserError(
                f"{path}: `dataset` must give {case} `images`, a list of one path for each of {channels} channels, got "
                f"{images!r}."
            )
        if channels > 1 and images != [_channel_path(images[0], number) for number in range(channels)]:
            raise UserError(
                f"{path}: the images of {case} in `dataset` must be <name>_0000, <name>_0001, .. in one folder, got "
                f"{', '.join(images)}. Rename or link them."
            )
        label = files.get("label")
        entry = {"image": os.path.expandvars(images[0])}
        if isinstance(label, str) and label:
            parts["training"].append({**entry, "label": os.path.expandvars(label)})
        else:
            parts["unlabeled"].append(entry)
    return parts


def _channel_path(first: str, number: int) -> str:
    return re.sub(r"_0000(\.[A-Za-z.]+)$", rf"_{number:04d}\1", first)


def _check_number(path: Path, number: Any, parts: Parts) -> None:
    labeled = len(parts["training"])
    every = labeled + len(parts["unlabeled"])
    if number is not None and number not in (labeled, every):
        raise UserError(
            f"{path}: `numTraining` is {number!r}, and there are {labeled} cases with a label and {every - labeled} "
            "without. Add the missing files, or correct the number."
        )
