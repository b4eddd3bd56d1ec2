"""A run that is replaced: kept until the first checkpoint of the one in its place.

Settings that turn out wrong after the folder was opened, a broken scan, a kill within the first steps: until a new
checkpoint is there, the old run comes back.
"""

from __future__ import annotations

import atexit
import shutil
from pathlib import Path

from monai_ssl.utils.keys import RunFiles

__all__ = ["bring_back", "drop_replaced", "set_aside"]

_FOLDER = ".replaced"


def set_aside(folder: Path) -> None:
    """Move the files of a run out of the way; others of the folder stay. They come back when this process ends.

    Args:
        folder: of the run, locked by this process.
    """
    aside = folder / _FOLDER
    if (folder / RunFiles.RESUME).exists() or (folder / RunFiles.MODEL).exists():
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for path in _files(folder):
            path.rename(aside / path.name)
    else:  # a run that came to no checkpoint; what it replaced may still be aside
        _remove(folder)
    if aside.exists():
        atexit.register(bring_back, folder)


def bring_back(folder: Path) -> None:
    """Put back what was set aside, in place of a run that came to no checkpoint; nothing where nothing is aside.

    Args:
        folder: of the run.
    """
    aside = folder / _FOLDER
    if not aside.is_dir():
        return
    if not (folder / RunFiles.RESUME).exists():
        _remove(folder)
        for path in aside.iterdir():
            path.rename(folder / path.name)
    shutil.rmtree(aside, ignore_errors=True)


def drop_replaced(folder: Path) -> None:
    """Delete what was set aside: a checkpoint of the new run is there.

    Args:
        folder: of the run.
    """
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in RunFiles if name != RunFiles.LOCK and (folder / name).exists()]


def _remove(folder: Path) -> None:
    for path in _files(folder):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
