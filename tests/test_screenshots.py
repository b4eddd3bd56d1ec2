"""The pictures of benchmarks/screenshots.py, where there is a browser to take them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.browser import VARIABLE, find_chromium

ROOT = Path(__file__).parents[1]
PAGE = """<!DOCTYPE html><html><head><meta name="color-scheme" content="light dark"></head>
<body style="margin: 0"><div style="height: 1500px">first</div><h2 id="last">last</h2></body></html>"""


def take(page: Path, output: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "screenshots.py"), str(page), str(output), *options]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(PAGE)
    return path


def test_a_page_is_taken_wide_narrow_and_dark(page: Path, tmp_path: Path) -> None:
    try:
        find_chromium()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    done = take(page, tmp_path / "pictures" / "report", "--whole")
    assert done.returncode == 0, done.stderr
    pictures = {}
    for name in ("desktop", "narrow", "dark"):
        with Image.open(tmp_path / f"pictures/report_{name}.png") as opened:
            pictures[name] = np.asarray(opened)
    assert [picture.shape[1] for picture in pictures.values()] == [1280, 420, 1280]
    assert all(picture.shape[0] > 1500 for picture in pictures.values())
    assert pictures["desktop"].mean() > 200
    assert pictures["dark"].mean() < 60


def test_what_is_missing_is_said_in_one_line(page: Path, tmp_path: Path) -> None:
    gone = take(tmp_path / "none.html", tmp_path / "report", **{VARIABLE: sys.executable})
    assert gone.returncode == 1
    assert gone.stderr.startswith("Error: ")
    assert "none.html" in gone.stderr
    without = take(page, tmp_path / "report", PATH="", **{VARIABLE: ""})
    assert without.stderr == f"Error: needs Chromium: install it, or name the program with {VARIABLE}=FILE\n"
    assert not list(tmp_path.glob("*.png"))
