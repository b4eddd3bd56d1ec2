"""Files that are written whole or not at all, and the lock that keeps two runs out of one folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from monai_ssl.utils.errors import UserError

__all__ = ["FolderLock", "atomic_write", "save_torch", "sha256_of", "write_json"]


def atomic_write(path: str | os.PathLike[str], write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that a reader, or a kill at any moment, sees either the old content or the new.

    The content goes to a temporary file in the same folder, is synchronised to the disk and renamed over the
    target; the folder is synchronised too, so that the rename survives a power cut.

    Args:
        path: the target; its folder must exist.
        write: called with a binary file object.

    Raises:
        UserError: when the disk is full; the old file is still there.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if _disk_is_full(error):
            missing = _missing_space(target.parent, write)
            intact = "; the previous file is intact" if target.exists() else ""
            raise UserError(f"{target}: no space left on the disk{missing}{intact}. Free space and go on.") from error
        raise
    _sync_folder(target.parent)


def save_torch(content: Any, path: str | os.PathLike[str]) -> None:
    """``torch.save`` through :func:`atomic_write`."""
    import torch

    atomic_write(path, lambda stream: torch.save(content, stream))


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Indented UTF-8 JSON through :func:`atomic_write`; NaN and infinity are refused, as JSON has neither."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(path, lambda stream: stream.write(text.encode()))


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits.

    Args:
        path: the file.

    Raises:
        OSError: when it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class FolderLock:
    """An exclusive hold on a folder, for as long as this process lives.

    It is an ``flock`` on ``<folder>/.lock``: the system drops it with the process, however that ends, so a killed
    run leaves no stale lock behind. A child that a process was just starting when it was killed has the open file
    until it runs its own program: hence the patience.

    Args:
        folder: an existing folder.
        patience: for how many seconds a held folder is tried again.

    Raises:
        UserError: when another process holds the folder.
        OSError: when the file system refuses the file or has no locks.
    """

    def __init__(self, folder: str | os.PathLike[str], patience: float = 2.0) -> None:
        self.path = Path(folder) / ".lock"
        self._stream = open(self.path, "ab")  # noqa: SIM115  the lock lives as long as the open file
        last = time.monotonic() + patience
        while not self._held():
            if time.monotonic() > last:
                self._stream.close()
                raise UserError(
                    f"{self.path.parent}: another run is writing here. Wait for it, or choose another output_dir."
                )
            time.sleep(0.02)
        # a loader's worker that outlives a killed run would hold its folder
        os.register_at_fork(after_in_child=self._stream.close)

    def _held(self) -> bool:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give the folder back before the process ends."""
        self._stream.close()


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # torch's zip writer hides the errno of a failed write behind a RuntimeError
        if isinstance(error, RuntimeError) and "PytorchStreamWriter failed" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


class _Counter(io.RawIOBase):
    """Takes bytes, and keeps their number alone."""

    count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.count += size
        return size


def _missing_space(folder: Path, write: Callable[[IO[bytes]], Any]) -> str:
    """How many bytes a file lacks on a full disk, in words; empty where a quota hides them."""
    counter: Any = _Counter()
    try:
        write(counter)
    except (OSError, RuntimeError):  # it is not this disk that is full, but one that the content comes from
        return ""
    free = shutil.disk_usage(folder).free
    if free >= counter.count:
        return ""
    return f": {counter.count:,} bytes are to be written and {free:,} free, so {counter.count - free:,} are missing"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
