"""The folder of a run: opened once, locked, never silently overwritten."""

from __future__ import annotations

import importlib.metadata
import itertools
import logging
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_ssl.utils.bundle import as_bool, inside_monai_label, overrides
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock, write_json
from monai_ssl.utils.keys import RunFiles
from monai_ssl.utils.replaced_run import bring_back, set_aside

__all__ = ["model_paths", "open_predictions", "open_results", "open_run", "resumes", "run_folder", "warn_before_run"]

logger = logging.getLogger(__name__)

_PACKAGES = ("monai-ssl", "monai", "torch", "pytorch-ignite", "numpy", "nibabel")
# held until the process ends
_locks: dict[Path, FolderLock] = {}
_before_run: list[logging.LogRecord] = []


def run_folder(output_dir: str | os.PathLike[str]) -> str:
    """Where this run writes: ``output_dir``, or inside MONAI Label a fresh folder of its own below it."""
    if not inside_monai_label():
        return str(output_dir)
    first = folder = Path(output_dir) / "runs" / time.strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(2):
        if not folder.exists():
            break
        folder = first.with_name(f"{first.name}-{number}")  # another run of the same second
    return str(folder)


def model_paths(output_dir: str | os.PathLike[str], run_dir: str | os.PathLike[str]) -> list[str]:
    """The files that hold the trained model: one in the run's folder, inside MONAI Label one in ``output_dir`` too."""
    folders = dict.fromkeys([str(run_dir), str(output_dir)] if inside_monai_label() else [str(run_dir)])
    return [os.path.join(folder, RunFiles.MODEL) for folder in folders]


def resumes(resume: Any, run_dir: str | os.PathLike[str]) -> bool:
    """Whether a run goes on with its checkpoint: as it is told to, or where ``torchrun --max-restarts`` restarted it.

    Args:
        resume: the setting.
        run_dir: the run's folder; a restarted run without a checkpoint in it starts over.
    """
    return (Path(run_dir) / RunFiles.RESUME).is_file() if _restarted() else as_bool(resume)


def warn_before_run(name: str, text: str) -> None:
    """Log a warning now, and once more in the ``log.txt`` of the run that this process opens next.

    Args:
        name: of the logger.
        text: the warning.
    """
    record = logging.makeLogRecord({"name": name, "msg": text, "levelno": logging.WARNING, "levelname": "WARNING"})
    logging.getLogger(name).handle(record)
    _before_run.append(record)


def open_run(
    run_dir: str | os.PathLike[str],
    resume: Any,
    overwrite: Any,
    settings: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
) -> None:
    """Create and lock the run's folder, start ``log.txt``, write ``preprocessing.json`` and ``run_manifest.json``.

    Args:
        run_dir: the folder.
        resume: true goes on with the checkpoint that must be there.
        overwrite: true replaces an earlier run; its files are deleted with the first checkpoint of this one.
        settings: what a user of the trained network must know; goes to ``preprocessing.json``.
        fingerprint: goes to the manifest.

    Raises:
        UserError: when the folder holds a run and neither switch is on, when both are, when there is nothing to resume,
            when another run holds the lock, or when the folder cannot be written.
    """
    folder, resume, overwrite = Path(run_dir), as_bool(resume), as_bool(overwrite)
    if resume and overwrite:
        raise UserError("--resume true and --overwrite true exclude each other: give one of them.")
    if _restarted():
        resume = resumes(resume, folder)
        overwrite = not resume  # of what the processes before this restart have begun
    if resume and not (folder / RunFiles.RESUME).is_file():
        raise UserError(f"{folder}: there is no {RunFiles.RESUME} to resume. Leave out --resume true to start a run.")
    _hold(folder)
    if not (overwrite or resume or _restarted()):
        bring_back(folder)  # what a process set aside that was killed before its first checkpoint
    for stale in folder.glob(".*.tmp"):  # of a run that was killed while it wrote
        stale.unlink(missing_ok=True)
    if overwrite:
        set_aside(folder)
    elif not resume and any(
        (folder / name).exists() for name in (RunFiles.RESUME, RunFiles.MODEL, RunFiles.SAFE_MODEL)
    ):
        raise UserError(
            f"{folder}: holds a run already. Go on with --resume true, replace it with --overwrite true, or choose "
            "another output_dir."
        )
    _log_to(folder / RunFiles.LOG)
    if not resume:
        write_json(folder / RunFiles.PREPROCESSING, dict(settings))
        write_json(folder / RunFiles.MANIFEST, _manifest(fingerprint))


def open_results(output_dir: str | os.PathLike[str], overwrite: Any) -> None:
    """Create and lock the folder of an evaluation.

    Args:
        output_dir: the folder.
        overwrite: true allows to replace the figures that are there.

    Raises:
        UserError: when the folder holds figures already, another process holds it, or it cannot be written.
    """
    folder = Path(output_dir)
    if (folder / RunFiles.METRICS).exists() and not as_bool(overwrite):
        raise UserError(
            f"{folder}: holds {RunFiles.METRICS} already. Replace it with --overwrite true, or choose another folder."
        )
    _hold(folder)


def open_predictions(output_dir: str | os.PathLike[str]) -> None:
    """Create the folder of predictions, before the first one is computed.

    Args:
        output_dir: the folder.

    Raises:
        UserError: when it cannot be written.
    """
    try:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output_dir).close()
    except OSError as error:
        raise _unwritable(output_dir, error) from error


def _restarted() -> bool:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def _hold(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.resolve() not in _locks:  # this process may open its own folder again
            _locks[folder.resolve()] = FolderLock(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: str | os.PathLike[str], error: OSError) -> UserError:
    return UserError(f"{folder}: cannot be written ({error.strerror}). Choose another output_dir.")


class _RunLog(logging.FileHandler):
    """``log.txt`` of the run that this process is at."""


def _log_to(path: Path) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _RunLog)]:
        root.removeHandler(handler)
        handler.close()
    log = _RunLog(path)
    log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(log)
    while _before_run:
        log.handle(_before_run.pop(0))


def _manifest(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: _without_folders(value) for name, value in overrides().items() if not name.startswith("train")}
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "settings": given,
        "fingerprint": dict(fingerprint),
    }


def _without_folders(value: Any) -> Any:
    text = str(value)
    return Path(text).name if os.sep in text else (value if isinstance(value, (int, float, bool)) else text)
