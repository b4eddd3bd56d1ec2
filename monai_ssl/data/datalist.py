"""Data lists in Decathlon form with our ``unlabeled`` part: find, read, check, resolve paths.

Nothing here opens an image or a label, and neither MONAI nor torch is imported, so that the command line stays fast.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai_ssl.data.boxes import checked_boxes
from monai_ssl.utils.errors import UserError

__all__ = ["PARTS", "check_leaks", "class_names", "find_datalist", "load_cases", "load_images", "read_datalist"]

PARTS = ("training", "unlabeled", "validation", "test")
"""Parts of a list, in the order in which they are checked."""

_MAY_BE_STRINGS = ("unlabeled", "test")  # Decathlon's `test` is a list of image paths
_SHOWN = 5  # missing files that an error names


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
    ``unlabeled``). Paths stay as written. Entries are counted from 1 in messages.

    Args:
        path: the JSON file.
        class_labels: whether ``label`` may be a whole number from 0, the class of the image, instead of a file.
        boxes: whether an entry may have ``box``, a list of boxes, and ``label``, the class of each, as
            :func:`~monai_ssl.data.boxes.checked_boxes` says. ``labels`` of the list then names the classes without a
            background, and is the limit of the classes where it is there.

    Raises:
        UserError: if the file is unreadable, is no JSON, is no Decathlon list, or its boxes are wrong.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a JSON text file: {error}.") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: the top level must be an object with a `training` list, got {_kind(data)}.")
    if "training" not in data and ("channel_names" in data or "file_ending" in data):
        raise UserError(
            f"{path}: this is an nnU-Net dataset.json without cases; a Decathlon list is expected, with "
            "`training`: a list of entries of `image` and `label`."
        )
    allowed = _Labels(class_labels, boxes, [name for _, name in _label_pairs(data.get("labels"))])
    for part in PARTS:
        if part in data:
            if not isinstance(data[part], list):
                raise UserError(f"{path}: `{part}` must be a list of entries, got {_kind(data[part])}.")
            data[part] = [
                _checked(entry, f"{path}: entry {n} of `{part}`", part, allowed)
                for n, entry in enumerate(data[part], 1)
            ]
    if not any(part in data for part in PARTS):
        raise UserError(f"{path}: a Decathlon list is expected, with at least one of the parts {', '.join(PARTS)}.")
    return data


def load_cases(
    datalist: str | os.PathLike[str] | None,
    part: str,
    dataset_dir: str | os.PathLike[str] | None = None,
    *,
    required: bool = False,
    class_labels: bool = False,
    boxes: bool = False,
) -> list[dict[str, Any]]:
    """Return the cases of one part with absolute paths.

    The door of the leak guard: a case of ``unlabeled`` comes out as ``{"image": path}`` and nothing else, whatever the
    list says about it, and its label file is not even looked for. Cases of the other parts keep their further entries
    (``patient``, ``fold``, ...). No file is opened; the paths of this part are only checked to exist.

    Args:
        datalist: as in :func:`find_datalist`.
        part: one of ``training``, ``unlabeled``, ``validation``, ``test``. An absent part is empty.
        dataset_dir: folder that the list's paths are relative to; if None, the list's own folder.
        required: whether a part without any case is an error.
        class_labels: as in :func:`read_datalist`; a class stays the number that it is.
        boxes: as in :func:`read_datalist`; a case then has ``box`` and ``label`` as lists, or ``label`` as the path of
            a mask, from which its boxes are to be made.

    Raises:
        UserError: if ``part`` is unknown, a case of a labelled part has no label or both boxes and a mask, files are
            missing, or a required part is empty.
    """
    if part not in PARTS:
        raise UserError(f"`part` must be one of {', '.join(PARTS)}, got {part!r}.")
    path = find_datalist(datalist, dataset_dir)
    base = _base(path, dataset_dir)
    paths = ("image",) if part == "unlabeled" else ("image", "label")
    cases = []
    data = read_datalist(path, class_labels=class_labels, boxes=boxes)
    for number, entry in enumerate(data.get(part, []), 1):
        if part == "unlabeled":
            entry = {"image": entry["image"]}
        elif "label" not in entry:
            raise UserError(
                f"{path}: entry {number} of `{part}` ({entry['image']}) has no `label`: give one, "
                "or move the case to `unlabeled`."
            )
        elif boxes and "box" in entry and isinstance(entry["label"], str):
            raise UserError(
                f"{path}: entry {number} of `{part}` ({entry['image']}) has `box` and a mask as `label`: leave out one."
            )
        cases.append(entry)
    if required and not cases:
        raise UserError(f"{path}: has no case in `{part}`. Add cases to that part, or name another part.")
    files = [{key: case[key] for key in paths if isinstance(case[key], str)} for case in cases]
    _check_exist(path, part, [file for case in files for file in case.values()], base)
    return [
        {**case, **{key: _absolute(file, base) for key, file in named.items()}}
        for case, named in zip(cases, files, strict=True)
    ]


def load_images(
    datalist: str | os.PathLike[str] | None,
    dataset_dir: str | os.PathLike[str] | None = None,
    parts: Sequence[str] = PARTS,
) -> list[dict[str, str]]:
    """Return the scans of some parts as ``{"image": absolute path}``, each once; labels are not even looked for.

    Args:
        datalist: as in :func:`find_datalist`.
        dataset_dir: folder that the list's paths are relative to; if None, the list's own folder.
        parts: of the list; the others are not looked at.

    Raises:
        UserError: if files are missing, or there is no case.
    """
    path = find_datalist(datalist, dataset_dir)
    data, base = read_datalist(path, class_labels=True, boxes=True), _base(path, dataset_dir)
    found: dict[str, None] = {}
    for part in parts:
        files = [entry["image"] for entry in data.get(part, [])]
        _check_exist(path, part, files, base)
        found |= dict.fromkeys(_absolute(file, base) for file in files)
    if not found:
        raise UserError(f"{path}: has no case in {', '.join(parts)}. Add cases to it, or name another list.")
    return [{"image": file} for file in found]


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
        UserError: if the values are not 0, 1, 2, ..., names repeat, or there are neither ``labels`` nor ``default``.
    """
    given = bool(datalist or dataset_dir)
    path = find_datalist(datalist, dataset_dir) if given or default is None else None
    labels = read_datalist(path, class_labels=True, boxes=True).get("labels") if path else None
    if labels is None:
        if default is None:
            raise UserError(f'{path}: `labels` is missing: add e.g. "labels": {{"0": "background", "1": "spleen"}}.')
        return list(default)
    pairs = _label_pairs(labels)
    values, names = [value for value, _ in pairs], [name for _, name in pairs]
    if not pairs or values != list(range(len(pairs))) or len(set(names)) != len(names):
        raise UserError(
            f'{path}: `labels` must name the values 0, 1, 2, ... once each, as {{"0": "background", "1": "spleen"}}, '
            f"got {json.dumps(labels)}."
        )
    return names


def check_leaks(datalist: str | os.PathLike[str] | None, dataset_dir: str | os.PathLike[str] | None = None) -> None:
    """Refuse a list in which a case or a patient is on both sides of an evaluation.

    Reads paths and patients only, never content. ``training`` and ``unlabeled`` are one side: a patient may have cases
    in both, but an image may not be in both. ``validation`` and ``test`` are a side each.

    Args:
        datalist: as in :func:`find_datalist`.
        dataset_dir: folder that the list's paths are relative to; if None, the list's own folder.

    Raises:
        UserError: naming the case and both parts.
    """
    path = find_datalist(datalist, dataset_dir)
    data, base = read_datalist(path, class_labels=True, boxes=True), _base(path, dataset_dir)
    images: dict[str, str] = {}
    patients: dict[str, tuple[str, str]] = {}
    for part in PARTS:
        for entry in data.get(part, []):
            image, patient = entry["image"], entry.get("patient")
            other = images.setdefault(os.path.realpath(_absolute(image, base)), part)
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


class _Labels(NamedTuple):
    """What `label` may be beside a path."""

    class_labels: bool
    boxes: bool
    names: list[str]  # of the classes, where the list has them


def _checked(entry: Any, where: str, part: str, allowed: _Labels) -> dict[str, Any]:
    """Return one entry as a dictionary with a checked `image`, `label` and `patient`; empty ones are left out."""
    if isinstance(entry, str) and part in _MAY_BE_STRINGS:
        entry = {"image": entry}
    if not isinstance(entry, dict):
        raise UserError(f"{where} must be an object with `image`, got {_kind(entry)}.")
    if not isinstance(entry.get("image"), str) or not entry["image"]:
        raise UserError(f"{where} must have `image`, the path of one file as a string, got {entry.get('image')!r}.")
    entry = {key: value for key, value in entry.items() if key not in ("label", "patient") or value not in (None, "")}
    if part != "unlabeled":
        entry = _checked_label(entry, f"{where} ({entry['image']})", allowed)
    if "patient" in entry:
        if isinstance(entry["patient"], bool) or not isinstance(entry["patient"], (str, int)):
            raise UserError(f"{where} ({entry['image']}): `patient` must be a string, got {entry['patient']!r}.")
        entry["patient"] = str(entry["patient"])
    return entry


def _checked_label(entry: dict[str, Any], where: str, allowed: _Labels) -> dict[str, Any]:
    label = entry.get("label", "")
    if allowed.boxes and (isinstance(label, list) or ("box" in entry and label == "")):
        if allowed.names and allowed.names[0].lower() == "background":
            raise UserError(f"{where}: has boxes, so `labels` must name their classes from 0 without a background.")
        return checked_boxes(entry, where, len(allowed.names) or None)
    if isinstance(label, str) or (allowed.class_labels and type(label) is int and label >= 0):
        return entry
    rule = "a path as a string" + (", or a class as a whole number from 0" if allowed.class_labels else "")
    rule += ", or a list of one class for each box" if allowed.boxes else ""
    raise UserError(f"{where}: `label` must be {rule}, got {label!r}.")


def _label_pairs(labels: Any) -> list[tuple[int, str]]:
    """Sort `labels` of either form as (value, name); an empty list if it has neither form."""
    if not isinstance(labels, dict):
        return []
    for pairs in (list(labels.items()), [(value, name) for name, value in labels.items()]):
        if all(str(value).isdecimal() and isinstance(name, str) for value, name in pairs):
            return sorted((int(value), name) for value, name in pairs)
    return []


def _check_exist(path: Path, part: str, files: list[str], base: Path) -> None:
    """Raise one error that names the first missing files and counts them all."""
    missing = [file for file in files if not Path(_absolute(file, base)).exists()]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise UserError(
            f"{path}: {len(missing)} of {len(files)} files of `{part}` do not exist, looked up relative to {base}: "
            f"{shown}. Set `dataset_dir` to the folder that the list's paths are relative to."
        )


def _base(path: Path, dataset_dir: str | os.PathLike[str] | None) -> Path:
    """Return the absolute folder that the list's paths are relative to."""
    if dataset_dir and not Path(dataset_dir).is_dir():
        raise UserError(f"`dataset_dir` must be a folder, but `{dataset_dir}` does not exist or is none.")
    return Path(dataset_dir or path.parent).absolute()


def _absolute(file: str, base: Path) -> str:
    return os.path.normpath(base / file)


def _kind(value: Any) -> str:
    """Name a JSON value's type as JSON does."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
