"""The commands of the pages are followed as they stand, on generated data, and every one that is not says why.

A comment above a block of commands marks it: ``<!-- tested -->``, ``<!-- tested: slow -->`` or
``<!-- not run: REASON -->``. The blocks of a page are one script, as for a reader who goes from top to bottom.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monai_ssl.data.phantoms import write_phantoms
from tests.bundles.test_formats import affine, scan, write_nnunet
from tests.data.scan_files import write_scan, write_series

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = ["start", "data_layouts", "add_a_method"]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>tested|not run)(?:: (?P<more>.*?))? -->\n)?```bash\n(?P<commands>.*?)```", re.DOTALL
)


def blocks(page: str) -> list[re.Match[str]]:
    return list(BLOCK.finditer((DOCS / f"{page}.md").read_text()))


def write_demo(folder: Path) -> None:
    """What `monai-ssl demo` leaves, smaller, and scans that nobody labelled."""
    demo = folder / "demo" / "20260101-000000"
    path = write_phantoms(demo / "data", cases=4, unlabeled=2, size=(24, 24, 24))
    content = json.loads(path.read_text())
    content |= {"training": content["training"][:2], "test": content["training"][2:]}
    split = demo / "study" / "splits" / "2" / "seed0.json"
    split.parent.mkdir(parents=True)
    split.write_text(json.dumps(content))
    shutil.copytree(demo / "data" / "imagesUn", folder / "SCANS")


def write_folders(folder: Path) -> None:
    """Scans as researchers have them."""
    for number in range(7):
        image, label = scan(number)
        write_scan(folder / "DATA" / "images" / f"{number}.nii.gz", image, affine())
        if number < 5:
            classes = (label * (1 + (np.arange(len(label)) > 12)[:, None, None])).astype(np.uint8)
            write_scan(folder / "DATA" / "labels" / f"{number}.nii.gz", classes, affine())
    for number in range(2):
        image, _ = scan(10 + number)
        write_scan(folder / "SCANS" / f"{number}.nii.gz", image, affine())
        write_series(folder / "SERIES" / f"1.2.{number}", image, affine())
    write_nnunet(folder / "NNUNET")


def write_method(folder: Path) -> None:
    """The example, a list, and a checkout."""
    shutil.copytree(DOCS / "examples" / "virtual_adversarial", folder / "virtual_adversarial")
    write_phantoms(folder / "DATA", cases=2, unlabeled=2, size=(24, 24, 24))
    leave = shutil.ignore_patterns("__pycache__", "models", "_build", ".*")
    for name in ("monai_ssl", "bundles", "tests", "docs"):
        shutil.copytree(ROOT / name, folder / "CHECKOUT" / name, ignore=leave)
    for name in ("pyproject.toml", "setup.cfg", "LICENSE"):
        shutil.copy(ROOT / name, folder / "CHECKOUT" / name)


PREPARE = {"start": write_demo, "data_layouts": write_folders, "add_a_method": write_method}
LEFT = {
    "start": ["runs/first/model.pt", "runs/first-test/metrics.json", "predictions/*_seg.nii.gz"],
    "data_layouts": ["DATA/dataset.json", "split.json"],
    "add_a_method": ["runs/virtual_adversarial/model.pt", "my_segmentation/configs/methods/virtual_adversarial.yaml"],
}
LEFT_BY_SLOW = {
    "data_layouts": [f"runs/{name}/model.pt" for name in ("pretraining", "decathlon", "nnunet", "series")],
    "add_a_method": ["CHECKOUT/bundles/semi_segmentation/configs/methods/virtual_adversarial.yaml"],
}


def follow(page: str, folder: Path, slow: bool) -> None:
    """Run the marked blocks of a page in a folder; the commands that a reader has are those of this checkout."""
    PREPARE[page](folder)
    programs = folder / "programs"
    programs.mkdir()
    for name, arguments in {"python": "", "monai-ssl": "-m monai_ssl.cli "}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    marked = [block for block in blocks(page) if block["mark"] == "tested" and (slow or not block["more"])]
    script = "\n".join(["set -euo pipefail", *(block["commands"] for block in marked)])
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    for pattern in LEFT[page] + (LEFT_BY_SLOW.get(page, []) if slow else []):
        assert list(folder.glob(pattern)), pattern


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_it_says(page: str, tmp_path: Path) -> None:
    follow(page, tmp_path, slow=False)
    if page == "add_a_method":
        header = (tmp_path / "runs/virtual_adversarial/steps.csv").read_text().splitlines()[0]
        assert {"supervised", "virtual"} <= set(header.split(","))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", LEFT_BY_SLOW)
def test_the_long_commands_of_a_page_do_what_it_says(page: str, tmp_path: Path) -> None:
    follow(page, tmp_path, slow=True)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_commands_is_tested_or_says_why_not(page: str) -> None:
    found = blocks(page)
    text = (DOCS / f"{page}.md").read_text()
    assert text.count("```bash") == len(found) > 0
    for block in found:
        assert block["mark"], block["commands"]
        assert block["mark"] == "tested" or block["more"], f"without a reason: {block['commands']}"
        assert block["mark"] == "not run" or block["more"] in (None, "slow"), block["more"]


def test_a_block_without_a_mark_is_found() -> None:
    page = "<!-- tested -->\n```bash\na\n```\n<!-- not run: needs a GPU -->\n```bash\nb\n```\ntext\n```bash\nc\n```\n"
    marks = [(block["mark"], block["more"], block["commands"]) for block in BLOCK.finditer(page)]
    assert marks == [("tested", None, "a\n"), ("not run", "needs a GPU", "b\n"), (None, None, "c\n")]
