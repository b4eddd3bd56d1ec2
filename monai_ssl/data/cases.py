"""Cases of a data list, ready to be read: the door of the leak guard, with absolute paths that exist.

Nothing here opens an image or a label, and neither MONAI nor torch is imported, so that the command line stays fast.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ssl.data.datalist import PARTS, absolute_path, find_datalist, list_folder, read_datalist
from monai_ssl.data.exclude import leave_out
from monai_ssl.data.nnunet import refuse_unsupported_labels
from monai_ssl.utils.errors import UserError

__all__ = ["load_cases", "load_images", "used_entries"]

_TRAINED_ON = ("training", "unlabeled")
_SHOWN = 5  # missing files that an error names


def load_cases(
    datalist: str | os.PathLike[str] | None,
    part: str,
    dataset_dir: str | os.PathLike[str] | None = None,
    *,
    required: bool = False,
    class_labels: bool = False,
    boxes: bool = False,
    exclude: Any = (),
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
        exclude: names of cases of ``training`` and ``unlabeled`` to leave out, see
            :func:`~monai_ssl.data.exclude.leave_out`; their files may be missing.

    Raises:
        UserError: if ``part`` is unknown, a case of a labelled part has no label or both boxes and a mask, files are
            missing, or a required part is empty.
    """
    if part not in PARTS:
        raise UserError(f"`part` must be one of {', '.join(PARTS)}, got {part!r}.")
    path = find_datalist(datalist, dataset_dir)
    base = list_folder(path, dataset_dir)
    paths = ("image",) if part == "unlabeled" else ("image", "label")
    cases = []
    data = read_datalist(path, class_labels=class_labels, boxes=boxes)
    if part != "unlabeled":
        refuse_unsupported_labels(path, data.get("labels"))
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
    cases = leave_out(cases, exclude, _to_train_on(data), path)
    if required and not cases:
        raise UserError(f"{path}: has no case in `{part}`. Add cases to that part, or name another part.")
    files = [{key: case[key] for key in paths if isinstance(case[key], str)} for case in cases]
    _check_exist(path, part, [file for case in files for file in case.values()], base)
    return [
        {**case, **{key: absolute_path(file, base) for key, file in named.items()}}
        for case, named in zip(cases, files, strict=True)
    ]


def load_images(
    datalist: str | os.PathLike[str] | None,
    dataset_dir: str | os.PathLike[str] | None = None,
    parts: Sequence[str] = PARTS,
    exclude: Any = (),
) -> list[dict[str, str]]:
    """Return the scans of some parts as ``{"image": absolute path}``, each once; labels are not even looked for.

    Args:
        datalist: as in :func:`find_datalist`.
        dataset_dir: folder that the list's paths are relative to; if None, the list's own folder.
        parts: of the list; the others are not looked at.
        exclude: as in :func:`load_cases`.

    Raises:
        UserError: if files are missing, or there is no case.
    """
    path = find_datalist(datalist, dataset_dir)
    data, base = read_datalist(path, class_labels=True, boxes=True), list_folder(path, dataset_dir)
    found: dict[str, None] = {}
    for part in parts:
        files = [entry["image"] for entry in used_entries(data, part, exclude, path)]
        _check_exist(path, part, files, base)
        found |= dict.fromkeys(absolute_path(file, base) for file in files)
    if not found:
        raise UserError(f"{path}: has no case in {', '.join(parts)}. Add cases to it, or name another list.")
    return [{"image": file} for file in found]


def used_entries(data: Mapping[str, Any], part: str, exclude: Any, path: Path) -> list[dict[str, Any]]:
    """Return the entries of a part that are not left out; those of ``validation`` and ``test`` never are.

    Args:
        data: the list.
        part: of it.
        exclude: as in :func:`load_cases`.
        path: of the list, for the message.

    Raises:
        UserError: for a name that no case to train on has.
    """
    entries = data.get(part, [])
    kept = leave_out(entries, exclude, _to_train_on(data), path)
    return kept if part in _TRAINED_ON else list(entries)


def _to_train_on(data: Mapping[str, Any]) -> list[str]:
    return [entry["image"] for part in _TRAINED_ON for entry in data.get(part, [])]


def _check_exist(path: Path, part: str, files: list[str], base: Path) -> None:
    """Raise one error that names the first missing files and counts them all."""
    missing = [file for file in files if not os.path.exists(absolute_path(file, base))]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(files)} files of `{part}` do not exist, looked up relative to {base}: "
            f"{_first(missing)}. Set `dataset_dir` to the folder that the list's paths are relative to."
        )
    # whoever opens a pipe waits for ever
    others = [
        file for file in files if not os.path.isfile(found := absolute_path(file, base)) and not os.path.isdir(found)
    ]
    if others:
        raise UserError(
            f"{path}: {len(others)} of {len(files)} files of `{part}` are pipes or devices: {_first(others)}. "
            "Name scans."
        )


def _first(files: list[str]) -> str:
    return ", ".join(files[:_SHOWN]) + (", ..." if len(files) > _SHOWN else "")
