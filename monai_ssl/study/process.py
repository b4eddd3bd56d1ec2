"""The processes of a study's runs: how they start, and what they say when they fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from monai_ssl.study.execute import bundle_command
from monai_ssl.study.steps import Step

__all__ = ["CONSOLE", "last_error", "start_process"]

CONSOLE = "console.txt"
"""What the processes of a run print, in the run's folder."""

# the child dies with the study, however the study dies; in a process of its own, since threads and fork do not mix
_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def start_process(bundle: Path, step: Step, console: Path, threads: int) -> subprocess.Popen[bytes]:
    """Start a process of a run; it dies with this one.

    Args:
        bundle: the plan's bundle, for a step that names none of its own.
        step: the process.
        console: file to which it adds what it prints, such as :data:`CONSOLE` in the run's folder.
        threads: processor cores for it, unless ``OMP_NUM_THREADS`` is set already.
    """
    command = bundle_command(step.bundle or bundle, step.configs, step.settings)
    if sys.platform == "linux":
        command = [sys.executable, "-c", _LAUNCH, str(os.getpid()), *command]
    # MONAI warns of every config that it reads; these are our own
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONWARNINGS": "ignore"}
    with open(console, "ab") as stream:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )


def last_error(console: Path, start: int) -> str:
    """Return the last line of a console that tells of an error, or else its last line.

    Args:
        console: the file.
        start: byte at which the failed process began to print.
    """
    with open(console, "rb") as stream:
        stream.seek(start)
        lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Killed)\b", line)]
    return [*(lines or ["it printed nothing"])[-1:], *errors][-1]
