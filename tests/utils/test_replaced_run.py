from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from monai_ssl.utils.replaced_run import bring_back, drop_replaced, set_aside

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process ends after the folders of its tests are gone."""
    monkeypatch.setattr("atexit.register", lambda *_: None)


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("_pt", ".pt").replace("_csv", ".csv").replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


OLD = {"resume_pt": "old", "model_pt": "old", "steps_csv": "old", "tensorboard__events": "old", "notes": "mine"}


def test_what_was_set_aside_comes_back_in_place_of_the_new_files(tmp_path: Path) -> None:
    write(tmp_path, **OLD)
    before = content(tmp_path)
    set_aside(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".replaced", "notes"}
    write(tmp_path, steps_csv="new", model_pt="new", tensorboard__other="new")
    bring_back(tmp_path)
    assert content(tmp_path) == before
    assert not (tmp_path / ".replaced").exists()


def test_a_run_that_ended_by_its_weights_alone_is_kept_too(tmp_path: Path) -> None:
    write(tmp_path, model_pt="old")
    set_aside(tmp_path)
    bring_back(tmp_path)
    assert content(tmp_path) == {"model.pt": "old"}


def test_with_a_checkpoint_the_new_run_stays(tmp_path: Path) -> None:
    write(tmp_path, **OLD)
    set_aside(tmp_path)
    write(tmp_path, resume_pt="new")
    bring_back(tmp_path)
    assert content(tmp_path) == {"resume.pt": "new", "notes": "mine"}
    assert not (tmp_path / ".replaced").exists()


def test_what_was_dropped_does_not_come_back(tmp_path: Path) -> None:
    write(tmp_path, **OLD)
    set_aside(tmp_path)
    drop_replaced(tmp_path)
    bring_back(tmp_path)
    assert content(tmp_path) == {"notes": "mine"}


def test_a_run_without_a_checkpoint_is_not_worth_keeping(tmp_path: Path) -> None:
    write(tmp_path, steps_csv="old", notes="mine")
    set_aside(tmp_path)
    bring_back(tmp_path)
    assert content(tmp_path) == {"notes": "mine"}


def test_the_first_run_survives_a_second_replacement_without_a_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, **OLD)
    before = content(tmp_path)
    set_aside(tmp_path)
    write(tmp_path, steps_csv="second")
    set_aside(tmp_path)  # the process of the second was killed
    assert not (tmp_path / "steps.csv").exists()
    bring_back(tmp_path)
    assert content(tmp_path) == before


def test_where_nothing_was_set_aside_nothing_changes(tmp_path: Path) -> None:
    write(tmp_path, **OLD)
    before = content(tmp_path)
    bring_back(tmp_path)
    drop_replaced(tmp_path)
    assert content(tmp_path) == before


@pytest.mark.parametrize("end", ["raise SystemExit(1)", "1 / 0", "pass"])
def test_it_comes_back_when_the_process_ends(tmp_path: Path, end: str) -> None:
    write(tmp_path, **OLD)
    before = content(tmp_path)
    code = (
        "from pathlib import Path\nfrom monai_ssl.utils.replaced_run import set_aside\n"
        f"folder = Path({str(tmp_path)!r})\nset_aside(folder)\nprint((folder / 'model.pt').exists())\n{end}"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
    assert content(tmp_path) == before
