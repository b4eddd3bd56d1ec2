from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
import torch

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock, atomic_write, save_torch, sha256_of, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail(error: BaseException) -> Callable[[IO[bytes]], None]:
    def write(stream: IO[bytes]) -> None:
        stream.write(b"half of the new")
        raise error

    return write


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"old", b"new" * 100_000, b""):
        atomic_write(str(path), lambda stream, content=content: stream.write(content))
        assert path.read_bytes() == content
        assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a bug"), OSError(errno.EIO, "broken disk")])
@pytest.mark.parametrize("there", [True, False])
def test_an_interrupted_write_leaves_what_was(error: BaseException, there: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if there:
        path.write_bytes(b"old")
    with pytest.raises(type(error)) as caught:
        atomic_write(path, fail(error))
    assert caught.value is error
    assert names(tmp_path) == (["file"] if there else [])
    assert not there or path.read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_the_old_file_is_intact(number: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = OSError(number, os.strerror(number))
    for error in (wrapped.__cause__, wrapped):
        with pytest.raises(UserError, match=r"file: no space left on the disk; the previous file is intact"):
            atomic_write(path, fail(error))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]
    path.unlink()
    with pytest.raises(UserError, match=r"file: no space left on the disk\. Free space"):
        atomic_write(path, fail(wrapped))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: atomic_write(path, lambda stream: stream.write(b"new")),
        lambda path: atomic_write(path, lambda stream: stream.write(b"new" * 1_000_000)),
        lambda path: save_torch({"weight": torch.ones(3)}, path),
        lambda path: save_torch({"weight": torch.ones(1_000_000)}, path),
        lambda path: write_json(path, [1]),
    ],
    ids=["small", "large", "small tensor", "large tensor", "json"],
)
def test_a_device_that_is_really_full(write: Callable[[Path], None], tmp_path: Path) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.with_name(f".file.{os.getpid()}.tmp").symlink_to("/dev/full")  # where the new content goes first
    with pytest.raises(UserError, match=r"file: no space left on the disk"):
        write(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_missing_folder_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "missing" / "file", lambda stream: stream.write(b"new"))


WRITER = """
import itertools, sys
from monai_ssl.utils.files import atomic_write

def write(stream):
    for _ in range(64):
        stream.write(letter * 4096)
        stream.flush()

for number in itertools.count():
    letter = b"ABCDEFGH"[number % 8 : number % 8 + 1]
    atomic_write(sys.argv[1], write)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen, torn = set(), 0
    for attempt in range(8):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        before = path.read_bytes()
        deadline = time.monotonic() + 30
        while path.read_bytes() == before and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.0007 * attempt)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        content = path.read_bytes()
        assert len(content) == 64 * 4096
        assert content == content[:1] * len(content)
        seen.add(content[:1])
        left = path.with_name(f".file.{process.pid}.tmp")
        torn += left.exists()
        left.unlink(missing_ok=True)
        assert names(tmp_path) == ["file"]
    assert torn  # some kill came in the middle of a write


def test_tensors_are_read_back_without_unpickling_code(tmp_path: Path) -> None:
    content = {"weight": torch.randn(3), "step": 4, "names": ["a"]}
    save_torch(content, tmp_path / "file.pt")
    back = torch.load(tmp_path / "file.pt", weights_only=True)
    assert torch.equal(back.pop("weight"), content.pop("weight"))
    assert back == content


def test_json_is_plain(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"name": "Größe", "values": [1, 0.5, None]})
    text = (tmp_path / "file.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "Größe", "values": [1, 0.5, None]}
    assert "Größe" in text
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_has_not_is_refused_and_the_old_file_stays(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, [1])
    with pytest.raises((ValueError, TypeError)):
        write_json(path, [value])
    assert json.loads(path.read_text()) == [1]


HOLDER = """
import os, sys, time
from monai_ssl.utils.files import FolderLock
lock = FolderLock(sys.argv[1])
if sys.argv[2] == "worker" and os.fork() == 0:
    sys.stdout.write(f"{os.getpid()}\\n")
    sys.stdout.flush()
    time.sleep(60)
    os._exit(0)
if sys.argv[2] == "alone":
    sys.stdout.write("0\\n")
    sys.stdout.flush()
time.sleep(60)
"""


@pytest.mark.parametrize("company", ["alone", "worker"])
def test_a_lock_keeps_others_out_and_dies_with_its_process(company: str, tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), company], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    worker = int(holder.stdout.readline())
    try:
        with pytest.raises(UserError, match=r"another run is writing here\. .* another output_dir"):
            FolderLock(tmp_path)
        holder.kill()
        holder.wait()
        FolderLock(tmp_path).release()  # a loader's worker that outlives the run does not hold it
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
        if worker:
            os.kill(worker, signal.SIGKILL)


def test_a_lock_is_given_back_and_folders_are_apart(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = FolderLock(tmp_path)
    FolderLock(tmp_path / "other").release()
    with pytest.raises(UserError, match="another run"):
        FolderLock(tmp_path)
    first.release()
    FolderLock(tmp_path).release()
    (tmp_path / ".lock").write_text("left over")
    FolderLock(tmp_path).release()


def test_a_child_that_a_killed_run_was_starting_is_waited_for(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    handle = first._stream.fileno()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.7)"], pass_fds=[handle])
    first.release()  # as a kill does, while the child still has the open file
    FolderLock(tmp_path).release()
    assert child.wait() == 0


def test_a_missing_folder_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FolderLock(tmp_path / "missing")


def test_missing_bytes_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("monai_ssl.utils.files.shutil.disk_usage", lambda folder: SimpleNamespace(free=1_000))
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.with_name(f".file.{os.getpid()}.tmp").symlink_to("/dev/full")
    message = r"file: no space left on the disk: 4,00\d,\d{3} bytes are to .* 1,000 free, so 4,00\d,\d{3} are m"
    with pytest.raises(UserError, match=message):
        save_torch({"weight": torch.ones(1_000_000)}, path)


def test_a_digest_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 1_000_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
