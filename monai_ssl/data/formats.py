"""Which files and folders are scans, by their names: formats, DICOM series, the channels of a case.

Nothing here decodes an image, and neither MONAI nor torch is imported, so that the command line stays fast.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from monai_ssl.utils.errors import UserError

__all__ = [
    "DICOM_ENDING",
    "VOLUME_ENDINGS",
    "channel_files",
    "ending_of",
    "is_dicom",
    "is_series",
    "scans_of",
    "stem_of",
]

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Endings of the formats that hold a volume a file."""

DICOM_ENDING = ".dcm"

_DICOM_MARK = slice(128, 132)
_CHANNEL = re.compile(r"_(\d{4})$")


def ending_of(path: str | os.PathLike[str]) -> str:
    """Return the ending of a scan's file as it is written, or an empty string where it is that of no scan.

    Args:
        path: nothing is opened.
    """
    name = os.path.basename(os.fspath(path))
    known = (ending for ending in (*VOLUME_ENDINGS, DICOM_ENDING) if name.lower().endswith(ending))
    length = len(next(known, ""))
    return name[len(name) - length :]


def stem_of(path: str | os.PathLike[str], channels: int = 1) -> str:
    """Return the name of a scan without its ending; of a DICOM series, that of its folder.

    Args:
        path: nothing is opened.
        channels: of a case; above 1, the ``_0000`` of its first file is no part of the name.
    """
    name = os.path.basename(os.path.normpath(path))
    stem = name[: len(name) - len(ending_of(name))] or name
    return stem.removesuffix("_0000") if channels > 1 else stem


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether a file is DICOM: by its ending, or where it has none of a scan, by its mark.

    Args:
        path: of a file; a ``DICOMDIR``, which has no voxels, is none.
    """
    name, ending = os.path.basename(path), ending_of(path).lower()
    if name.startswith(".") or name.upper() == "DICOMDIR" or not os.path.isfile(path):
        return False
    if ending:
        return ending == DICOM_ENDING
    with open(path, "rb") as stream:
        return stream.read(_DICOM_MARK.stop)[_DICOM_MARK] == b"DICM"


def is_series(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds DICOM files, which are taken for the slices of one series.

    Args:
        path: whether there is such a folder is looked up.
    """
    return os.path.isdir(path) and any(is_dicom(os.path.join(path, name)) for name in sorted(os.listdir(path)))


def scans_of(folder: Path, channels: int = 1) -> list[Path]:
    """Return the scans of a folder in the order of their names.

    These are its files of one volume each; where it has none, the folder itself if it is a DICOM series, or else those
    of its subfolders that are. So the DICOM source beside a converted scan is not taken for another scan.

    Args:
        folder: must exist.
        channels: of a case; above 1, the files ``<case>_0001``, .. beside ``<case>_0000`` are none of their own.

    Returns:
        None at all is for the caller to tell.
    """
    # macOS archives carry a hidden ._<name> beside every file
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if ending_of(entry).lower() in VOLUME_ENDINGS and entry.is_file()]
    if files:
        return [file for file in files if channels == 1 or not _is_further_channel(file)]
    return [folder] if is_series(folder) else [entry for entry in entries if is_series(entry)]


def channel_files(path: str | os.PathLike[str], channels: int) -> list[str]:
    """Return the files of a case, one a channel, named by the first of them, ``<case>_0000``.

    Args:
        path: of the first file. One whose name does not end in ``_0000``, or that has no further file beside it, stands
            for itself: it may hold all channels.
        channels: of the case; if 1, only the one file is looked at.

    Raises:
        UserError: when there are more or fewer of them.
    """
    path = os.fspath(path)
    if channels == 1 or not (siblings := _siblings(path)):
        return [path]
    expected = [_channel_file(path, number) for number in range(channels)]
    if missing := [file for file in expected[1:] if file not in siblings]:
        raise UserError(
            f"{missing[0]}: is missing, and the case has {len(siblings) + 1} of {channels} channels (in_channels). Add "
            "the file, or leave the case out."
        )
    if surplus := sorted(set(siblings) - set(expected)):
        raise UserError(
            f"{surplus[0]}: is one channel more than the {channels} of the network (in_channels). Set --in_channels, "
            "or remove the file."
        )
    return expected


def _channel_file(path: str, number: int) -> str:
    folder, name = os.path.split(path)
    ending = ending_of(name)
    return os.path.join(folder, f"{name[: len(name) - len(ending)][:-4]}{number:04d}{ending}")


def _siblings(path: str) -> list[str]:
    """Return the further channels of a case that are on the disk, in any order."""
    folder, name = os.path.split(path)
    stem, ending = stem_of(name), ending_of(name)
    if not stem.endswith("_0000") or not ending or not os.path.isdir(folder or os.curdir):
        return []
    pattern = re.compile(rf"{re.escape(stem[:-4])}\d{{4}}{re.escape(ending)}")
    others = (other for other in os.listdir(folder or os.curdir) if other != name and pattern.fullmatch(other))
    return [os.path.join(folder, other) for other in others]


def _is_further_channel(file: Path) -> bool:
    number = _CHANNEL.search(stem_of(file))
    return bool(number and int(number[1])) and os.path.exists(_channel_file(str(file), 0))
