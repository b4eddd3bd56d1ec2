"""What a folder holds, and how far its run is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock
from monai_ssl.utils.keys import RunFiles

__all__ = ["is_busy", "is_pretraining", "is_run", "run_status"]

_SIGNS = (RunFiles.MANIFEST, RunFiles.STEPS, RunFiles.METRICS)


def is_run(folder: Path) -> bool:
    """Whether a folder holds what a training or an evaluation leaves."""
    return any((folder / name).is_file() for name in _SIGNS)


def is_pretraining(folder: Path) -> bool:
    """Whether a run learned without labels; it alone says which scans it saw."""
    return (folder / RunFiles.SEEN_SCANS).is_file()


def is_busy(folder: Path) -> bool:
    """Whether a process writes in a folder right now."""
    if not (folder / RunFiles.LOCK).is_file():
        return False
    try:
        FolderLock(folder, patience=0.0).release()
    except UserError:
        return True
    except OSError:  # a file system without locks, or a folder of somebody else
        return False
    return False


def run_status(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Whether a training is finished; empty where it is.

    Args:
        folder: of the run.
        manifest: content of ``run_manifest.json``; may be empty.
    """
    if not (folder / RunFiles.MANIFEST).is_file() or (folder / RunFiles.MODEL).is_file():
        return ""
    fingerprint = manifest.get("fingerprint")
    steps = fingerprint.get("max_steps") if isinstance(fingerprint, dict) else None
    planned = f" of {steps}" if steps else ""
    if is_busy(folder):
        return f"In progress: a process still trains here. The curves end where it is; all{planned} steps are not done."
    return "Unfinished: there is no model yet, and nothing trains here now. --resume true goes on."
