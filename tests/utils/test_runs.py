from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.utils import runs
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.replaced_run import bring_back, drop_replaced
from monai_ssl.utils.runs import model_paths, open_predictions, open_results, open_run, run_folder, warn_before_run

SETTINGS, PRINT = {"spacing": [1.0, 1.0, 1.0], "modality": "MRI"}, {"seed": "0"}


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the end of a process does."""
    monkeypatch.delenv("MONAI_LABEL_APP_DIR", raising=False)
    before = list(logging.getLogger().handlers)
    yield
    end(before)
    runs._before_run.clear()


def end(before: list[logging.Handler] | None = None) -> None:
    while runs._locks:
        runs._locks.popitem()[1].release()
    for handler in list(logging.getLogger().handlers):
        if isinstance(handler, logging.FileHandler) and handler not in (before or ()):
            logging.getLogger().removeHandler(handler)
            handler.close()


def start(folder: Path, resume: Any = False, overwrite: Any = False, **settings: Any) -> None:
    open_run(folder, resume, overwrite, SETTINGS | settings, PRINT)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_run_has_its_folder_log_and_descriptions(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    start(folder)
    assert names(folder) == [".lock", "log.txt", "preprocessing.json", "run_manifest.json"]
    assert json.loads((folder / "preprocessing.json").read_text()) == SETTINGS
    manifest = json.loads((folder / "run_manifest.json").read_text())
    assert manifest["fingerprint"] == PRINT
    assert manifest["versions"].keys() >= {"monai-ssl", "monai", "torch"}
    assert str(tmp_path) not in (folder / "run_manifest.json").read_text()
    logging.getLogger("monai_ssl.test").warning("what happened")
    assert "WARNING monai_ssl.test: what happened" in (folder / "log.txt").read_text()


def test_what_was_told_before_a_run_is_in_its_log_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warn_before_run("monai_ssl.test", "a scan is blank")
    warn_before_run("monai_ssl.test", "a label is empty")
    assert caplog.messages == ["a scan is blank", "a label is empty"]
    start(tmp_path / "one")
    lines = (tmp_path / "one" / "log.txt").read_text().splitlines()
    assert [line.partition(" WARNING ")[2] for line in lines] == [
        "monai_ssl.test: a scan is blank",
        "monai_ssl.test: a label is empty",
    ]
    start(tmp_path / "two")
    assert (tmp_path / "two" / "log.txt").read_text() == ""


@pytest.mark.parametrize("name", ["resume.pt", "model.pt"])
def test_a_folder_that_holds_a_run_is_refused_and_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("old")
    with pytest.raises(UserError, match=r"holds a run already\. .* --resume true, .* --overwrite true, .* output_dir"):
        start(tmp_path)
    assert set(names(tmp_path)) == {name, ".lock"}
    assert (tmp_path / name).read_text() == "old"
    start(tmp_path, overwrite="true")  # in the same process, such as a notebook


@pytest.mark.parametrize("overwrite", [True, "true", "True"])
def test_overwriting_removes_the_run_and_nothing_else(overwrite: Any, tmp_path: Path) -> None:
    own = [
        "resume.pt",
        "model.pt",
        "steps.csv",
        "progress.png",
        "validation_metrics.json",
        "metrics.json",
        "overlay.png",
    ]
    for name in [*own, "notes.md", "log.txt"]:
        (tmp_path / name).write_text("old")
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events").touch()
    (tmp_path / "mine").mkdir()
    start(tmp_path, overwrite=overwrite)
    own = [".lock", ".replaced", "log.txt", "mine", "notes.md", "preprocessing.json", "run_manifest.json"]
    assert names(tmp_path) == own
    drop_replaced(tmp_path)
    assert names(tmp_path) == [name for name in own if name != ".replaced"]
    assert "old" not in (tmp_path / "log.txt").read_text()


def old_run(folder: Path) -> dict[str, bytes]:
    start(folder)
    end()
    for name in ("resume.pt", "model.pt", "steps.csv"):
        (folder / name).write_text("old")
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events").write_text("old")
    return content(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_replaced_run_comes_back_where_the_new_one_ends_without_a_checkpoint(tmp_path: Path) -> None:
    before = old_run(tmp_path)
    start(tmp_path, overwrite=True, modality="PET")
    (tmp_path / "steps.csv").write_text("new")
    bring_back(tmp_path)  # at the end of the process
    assert content(tmp_path) == before
    start(tmp_path, overwrite=True, modality="PET")
    end()  # killed
    start(tmp_path, overwrite=True, modality="US")
    bring_back(tmp_path)
    assert content(tmp_path) == before
    start(tmp_path, overwrite=True)
    end()
    with pytest.raises(UserError, match="holds a run already"):
        start(tmp_path)
    assert content(tmp_path) == before


def test_a_replaced_run_is_gone_with_the_first_checkpoint_of_the_new_one(tmp_path: Path) -> None:
    old_run(tmp_path)
    start(tmp_path, overwrite=True)
    (tmp_path / "resume.pt").write_text("new")
    bring_back(tmp_path)  # killed between the checkpoint and the deletion
    assert set(names(tmp_path)) == {".lock", "log.txt", "preprocessing.json", "resume.pt", "run_manifest.json"}
    start(tmp_path, overwrite=True)
    drop_replaced(tmp_path)
    bring_back(tmp_path)
    assert set(names(tmp_path)) == {".lock", "log.txt", "preprocessing.json", "run_manifest.json"}


def test_an_error_in_the_process_brings_it_back(tmp_path: Path) -> None:
    before = old_run(tmp_path)
    code = f"from tests.utils.test_runs import start, Path\nstart(Path({str(tmp_path)!r}), overwrite=True)\n1 / 0"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert "ZeroDivisionError" in done.stderr
    assert content(tmp_path) == before


def test_a_resumed_run_keeps_its_files(tmp_path: Path) -> None:
    start(tmp_path)
    end()
    (tmp_path / "resume.pt").write_text("old")
    (tmp_path / "log.txt").write_text("before\n")
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    start(tmp_path, resume="true", modality="CT")
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    logging.getLogger().warning("after")
    assert (tmp_path / "log.txt").read_text().startswith("before\n")


def test_predictions_need_a_folder_that_can_be_written(tmp_path: Path) -> None:
    open_predictions(tmp_path / "deep" / "new")
    assert names(tmp_path / "deep") == ["new"]
    assert names(tmp_path / "deep" / "new") == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "new", Path("/proc/new")):
        with pytest.raises(UserError, match=rf"{folder}: cannot be written \(.+\)\. Choose another output_dir\."):
            open_predictions(folder)


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(UserError, match=r"there is no resume\.pt to resume\. Leave out --resume true"):
            start(folder, resume=True)
    assert names(tmp_path) == ["model.pt"]


def test_both_switches_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "resume.pt").touch()
    with pytest.raises(UserError, match="--resume true and --overwrite true exclude each other"):
        start(tmp_path, resume="true", overwrite="true")
    assert names(tmp_path) == ["resume.pt"]


def test_switches_are_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "resume.pt").touch()
    with pytest.raises(UserError, match="holds a run already"):
        start(tmp_path, resume="false", overwrite="false")
    with pytest.raises(UserError, match="must be true or false, got 'maybe'"):
        start(tmp_path, overwrite="maybe")


@pytest.mark.parametrize("switch", [{}, {"resume": True}, {"overwrite": True}])
def test_a_running_run_is_left_alone(switch: dict[str, bool], tmp_path: Path) -> None:
    (tmp_path / "resume.pt").write_text("running")
    code = (
        "import sys; from monai_ssl.utils.files import FolderLock; lock = FolderLock(sys.argv[1]);"
        "sys.stdout.write('held\\n'); sys.stdout.flush(); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=-1, stdout=-1, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another run is writing here"):
            start(tmp_path, **switch)
        assert (tmp_path / "resume.pt").read_text() == "running"
    finally:
        other.communicate()
    assert names(tmp_path) == [".lock", "resume.pt"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=r"file.*: cannot be written \(.+\)\. Choose another output_dir"):
            start(folder)


def test_without_monai_label_everything_lies_in_output_dir(tmp_path: Path) -> None:
    assert run_folder(tmp_path) == str(tmp_path)
    assert model_paths(tmp_path, run_folder(tmp_path)) == [str(tmp_path / "model.pt")]


def test_inside_monai_label_a_run_has_a_fresh_folder_and_the_model_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", "/app")
    folder = Path(run_folder(tmp_path))
    assert folder.parent == tmp_path / "runs"
    assert folder.name.replace("-", "").isdigit()
    assert model_paths(tmp_path, folder) == [str(folder / "model.pt"), str(tmp_path / "model.pt")]
    (tmp_path / "model.pt").write_text("old")  # refuses no run: it lies elsewhere
    start(folder)
    assert (tmp_path / "model.pt").read_text() == "old"


def test_results_are_replaced_on_demand_alone(tmp_path: Path) -> None:
    open_results(tmp_path / "new", False)
    (tmp_path / "metrics.json").write_text("old")
    with pytest.raises(UserError, match=r"holds metrics\.json already\. Replace it with --overwrite true"):
        open_results(tmp_path, "false")
    open_results(tmp_path, "true")
    assert (tmp_path / "metrics.json").read_text() == "old"  # until the new ones are there
    open_results(tmp_path, True)  # the process that holds a folder may open it again


def test_what_a_killed_write_left_is_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / ".resume.pt.123.tmp").write_text("half")
    (tmp_path / "notes.tmp").write_text("the user's own")
    start(tmp_path)
    assert not (tmp_path / ".resume.pt.123.tmp").exists()
    assert (tmp_path / "notes.tmp").exists()


def test_two_runs_of_one_second_inside_monai_label_have_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", str(tmp_path))
    monkeypatch.setattr(runs.time, "strftime", lambda form: "20260101-000000")
    folders = []
    for _ in range(3):
        folders.append(Path(run_folder(tmp_path)))
        folders[-1].mkdir(parents=True)
    assert [folder.name for folder in folders] == ["20260101-000000", "20260101-000000-2", "20260101-000000-3"]
