from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

from tests.cli.helpers import monai_ssl

IMPORTS = "import sys; sys.argv[0] = 'monai-ssl'\nfrom monai_ssl.cli import app\ntry: app()\nfinally: "
IMPORTS += "sys.stderr.write('heavy: ' + ' '.join(m for m in ('monai', 'torch', 'numpy') if m in sys.modules))"


def test_debug_brings_the_traceback(data):
    result = monai_ssl("--debug", "path", "nothing")
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "UserError"
    done = subprocess.run(
        [sys.executable, "-m", "monai_ssl.cli", "--debug", "path", "x"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_usage_errors_exit_with_two():
    assert monai_ssl("split").exit_code == 2
    assert monai_ssl("no-such-command").exit_code == 2
    assert monai_ssl("split", "--data", "x", "--labels", 1, "--output", "y", "--test", "two").exit_code == 2


def test_version():
    result = monai_ssl("--version")
    assert result.exit_code == 0
    assert re.fullmatch(r"monai-ssl \d+\.\d+\S*\n", result.stdout)


@pytest.mark.parametrize(
    "arguments", [("--help",), ("split", "--help"), ("--version",), ("bundles",), ("split",), ("inspect",)]
)
def test_nothing_heavy_is_imported(data, tmp_path, arguments):
    if arguments == ("split",):
        arguments = ("split", "--data", str(data), "--labels", "2", "--output", str(tmp_path / "split.json"))
    if arguments == ("inspect",):
        arguments = ("inspect", str(data))
    done = subprocess.run([sys.executable, "-c", IMPORTS, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "heavy: "


def test_help_answers_at_once():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "monai_ssl.cli", "--help"], capture_output=True, text=True)
        times.append(time.perf_counter() - start)
        assert done.returncode == 0
        assert "split" in done.stdout
    assert min(times) < 2  # about 0.2 s on an idle machine; importing torch alone takes longer than this bound
