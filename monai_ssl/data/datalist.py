"""Data lists in Decathlon form with our ``unlabeled`` part, and folders of nnU-Net: find, read, check.

Nothing here opens an image or a label, and neither MONAI nor torch is imported, so that the command line stays fast.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from monai_ssl.data.entries import AllowedLabels, channels_of, checked_entry, json_kind, label_pairs
from monai_ssl.data.nnunet import is_nnunet, nnunet_parts, refuse_unsupported_labels
from monai_ssl.utils.config_values import check_values
from monai_ssl.utils.errors import UserError

__all__ = [
    "PARTS",
    "absolute_path",
    "channel_count",
    "class_names",
    "find_datalist",
    "list_folder",
    "read_datalist",
]

PARTS = ("training", "unlabeled", "validation", "test")
"""Parts of a list, in the order in which they are checked."""


def find_datalist(datalist: str | os.PathLike[str] | None, dataset_dir: str | os.PathLike[str] | None) -> Path:
    """Find the JSON file of a data list.

    Args:
        datalist: a JSON file, or a folder that holds ``dataset.json``; if None, ``dataset_dir`` is that folder.
        dataset_dir: folder of the data set.

    Raises:
        UserError: if both are None, or no file is found.
    """
    given = datalist or dataset_dir
    if not given:
        raise UserError(
            "`datalist` (a Decathlon JSON file) or `dataset_dir` (a folder with dataset.json) must be given."
        )
    argument, path = ("datalist" if datalist else "dataset_dir"), Path(given)
    if path.is_dir():
        if not (path / "dataset.json").is_file():
            raise UserError(
                f"{path}: `{argument}` is a folder without dataset.json: put a Decathlon list there (`training`: "
                "entries of `image` and `label`; `unlabeled`: entries of `image`), or name a JSON file with `datalist`."
            )
        return path / "dataset.json"
    if not path.is_file():
        raise UserError(f"{path}: `{argument}` must be an existing file or folder, and there is none of this name.")
    if not datalist:
        raise UserError(f"{path}: `dataset_dir` must be a folder, got a file: name a JSON file with `datalist`.")
    return path


def read_datalist(path: str | os.PathLike[str], *, class_labels: bool = False, boxes: bool = False) -> dict[str, Any]:
    """Read a data list and check its shape.

    Entries that are plain strings, as in Decathlon's ``test``, become ``{"image": string}`` (in ``test`` and
    ``unlabeled``). Paths stay as written. Entries are counted from 1 in messages. A ``dataset.json`` of nnU-Net, which
    lists no cases, gets those of its folder, see :func:`~monai_ssl.data.nnunet.nnunet_parts`.

    Args:
        path: the JSON file.
        class_labels: whether ``label`` may be a whole number from 0, the class of the image, instead of a file.
        boxes: whether an entry may have ``box``, a list of boxes, and ``label``, the class of each, as
            :func:`~monai_ssl.data.boxes.checked_boxes` says. ``labels`` of the list then names the classes without a
            background, and is the limit of the classes where it is there.

    Raises:
        UserError: if the file is unreadable, is no JSON, is no list, or its boxes are wrong.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}.") from error
    except RecursionError as error:
        raise UserError(f"{path}: is nested too deeply to be a data list.") from error
    except (OSError, ValueError) as error:  # no text, or a number of thousands of digits
        raise UserError(f"{path}: cannot be read as a JSON text file: {str(error).split(';')[0]}.") from error
    _check_text(path, data)
    if not isinstance(data, dict):
        raise UserError(f"{path}: the top level must be an object with a `training` list, got {json_kind(data)}.")
    if is_nnunet(data):
        data |= nnunet_parts(Path(path), data)
    allowed = AllowedLabels(class_labels, boxes, [name for _, name in label_pairs(data.get("labels"))])
    for part in PARTS:
        if part in data:
            if not isinstance(data[part], list):
                raise UserError(f"{path}: `{part}` must be a list of entries, got {json_kind(data[part])}.")
            data[part] = [
                checked_entry(entry, f"{path}: entry {n} of `{part}`", part, allowed)
                for n, entry in enumerate(data[part], 1)
            ]
    if not any(part in data for part in PARTS):
        raise UserError(f"{path}: a Decathlon list is expected, with at least one of the parts {', '.join(PARTS)}.")
    return data


def class_names(
    datalist: str | os.PathLike[str] | None,
    dataset_dir: str | os.PathLike[str] | None = None,
    default: list[str] | None = None,
) -> list[str]:
    """Return the names of the classes, ordered by their value in the label files.

    ``labels`` of the list may be Decathlon's ``{"0": "background", ...}`` or nnU-Net's ``{"background": 0, ...}``.

    Args:
        datalist: as in :func:`find_datalist`.
        dataset_dir: folder of the data set.
        default: the names if no list is given (both None) or the list has no ``labels``.

    Raises:
        UserError: if the values are not 0, 1, 2, ..., names repeat or would be code in a config, or there are neither
            ``labels`` nor ``default``.
    """
    given = bool(datalist or dataset_dir)
    path = find_datalist(datalist, dataset_dir) if given or default is None else None
    labels = read_datalist(path, class_labels=True, boxes=True).get("labels") if path else None
    if labels is None:
        if default is None:
            raise UserError(f'{path}: `labels` is missing: add e.g. "labels": {{"0": "background", "1": "spleen"}}.')
        return list(default)
    refuse_unsupported_labels(str(path), labels)
    pairs = label_pairs(labels)
    values, names = [value for value, _ in pairs], [name for _, name in pairs]
    if not pairs or values != list(range(len(pairs))) or len(set(names)) != len(names):
        raise UserError(
            f'{path}: `labels` must name the values 0, 1, 2, ... once each, as {{"0": "background", "1": "spleen"}}, '
            f"got {json.dumps(labels)}."
        )
    check_values(names, f"{path}: `labels`")  # they become a part of the config that uses the weights
    return names


def channel_count(
    datalist: str | os.PathLike[str] | None, dataset_dir: str | os.PathLike[str] | None = None, default: int = 1
) -> int:
    """Return the number of channels that a list names, see :func:`~monai_ssl.data.entries.channels_of`.

    Args:
        datalist: as in :func:`find_datalist`.
        dataset_dir: folder of the data set; without a list it may be one of scans.
        default: the number if there is no list, or it names none.

    Raises:
        UserError: if the list cannot be read.
    """
    listed = datalist or (dataset_dir and (Path(dataset_dir) / "dataset.json").is_file())
    if not listed:
        return default
    path = find_datalist(datalist, dataset_dir)
    return channels_of(read_datalist(path, class_labels=True, boxes=True)) or default


def list_folder(path: Path, dataset_dir: str | os.PathLike[str] | None) -> Path:
    """Return the absolute folder that a list's paths are relative to.

    Args:
        path: the list.
        dataset_dir: that folder; if None, the list's own.

    Raises:
        UserError: if ``dataset_dir`` is no folder.
    """
    if dataset_dir and not Path(dataset_dir).is_dir():
        raise UserError(f"`dataset_dir` must be a folder, but `{dataset_dir}` does not exist or is none.")
    return Path(dataset_dir or path.parent).absolute()


def absolute_path(file: str, folder: Path) -> str:
    """Return a path of a list as an absolute one, without a look at the disk."""
    return os.path.normpath(folder / file)


def _check_text(path: str | os.PathLike[str], data: Any) -> None:
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # half a character pair can be written as JSON
        raise UserError(
            f"{path}: has characters that are no text, such as {error.object[error.start]!a}. Correct the list."
        ) from error
