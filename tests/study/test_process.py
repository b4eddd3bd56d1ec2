from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monai_ssl.study import process
from monai_ssl.study.process import CONSOLE, last_error, start_process
from monai_ssl.study.steps import Step


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("step 1\nError: no\nmore\n", "Error: no"),
        ("Traceback\nValueError: x\nRuntimeError: y\n", "RuntimeError: y"),
        ("torch.OutOfMemoryError: big\n", "torch.OutOfMemoryError: big"),
        ("first\nlast\n\n", "last"),
        ("", "it printed nothing"),
    ],
)
def test_the_line_that_tells(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / CONSOLE).write_text("Error: of the run before\n" + text)
    assert last_error(tmp_path / CONSOLE, len("Error: of the run before\n")) == line


@pytest.mark.parametrize(("given", "expected"), [(None, "3"), ("1", "1")])
def test_a_process_writes_its_console_and_gets_its_threads(
    given: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    code = "import os, sys; print(os.environ['OMP_NUM_THREADS'], file=sys.stderr)"
    monkeypatch.setattr(process, "bundle_command", lambda *_: [sys.executable, "-S", "-c", code])
    for count in (1, 2):
        assert start_process(tmp_path, Step("train", (), {}), tmp_path / CONSOLE, 3).wait() == 0
        assert (tmp_path / CONSOLE).read_text() == f"{expected}\n" * count


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at a parent's death")
def test_a_process_dies_with_the_study(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    child = f"import time\nwhile True:\n    open({str(beats)!r}, 'a').write('.')\n    time.sleep(0.02)"
    code = f"import os, subprocess, sys, time\nlaunch = {process._LAUNCH!r}\n"
    code += "start = [sys.executable, '-c', launch, str(os.getpid()), sys.executable, '-S', '-c', sys.argv[1]]\n"
    code += "subprocess.Popen(start, start_new_session=True)\ntime.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-S", "-c", code, child])
    while not beats.exists():
        time.sleep(0.01)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    time.sleep(0.1)
    size = beats.stat().st_size
    time.sleep(0.2)
    assert beats.stat().st_size == size
