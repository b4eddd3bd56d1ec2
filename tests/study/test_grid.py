from __future__ import annotations

import time
from pathlib import Path

import pytest

from monai_ssl.study import grid, process
from monai_ssl.study.grid import run_grid
from monai_ssl.study.state import Study
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock
from tests.study.helpers import fake_command, open_study, write_plan

BROKEN = {"label": "broken", "method": "mean_teacher", "settings": {"objective#noise": "broken"}}


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "bundle_command", fake_command)


def trainings(study: Study) -> int:
    texts = [path.read_text() for path in study.output.rglob(process.CONSOLE)]
    return sum(text.count("starts train.yaml") for text in texts)


def test_all_runs_are_done_and_none_again(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    lines: list[str] = []
    done: list[int] = []
    assert run_grid(study, specs, jobs=2, say=lines.append, done=lambda: done.append(len(lines))) == []
    assert all(study.is_finished(spec) for spec in specs)
    assert len(lines) == len(done) == 8
    assert trainings(study) == 8
    times = {path: path.stat().st_mtime_ns for path in study.output.rglob("*") if path.is_file()}
    assert run_grid(study, specs) == []
    assert times == {path: path.stat().st_mtime_ns for path in study.output.rglob("*") if path.is_file()}


def test_a_shared_training_is_done_once_however_many_run(tmp_path: Path) -> None:
    flips = [{"label": f"flips {n}", "method": "supervised", "evaluation": {"flip_axes": [n]}} for n in range(3)]
    study, specs = open_study(write_plan(tmp_path, methods=["supervised", "mean_teacher", *flips]), tmp_path / "out")
    mixed = [spec for spec in specs if spec.method.label.startswith("flips")]
    assert run_grid(study, [*mixed, *specs[:2]], jobs=4) == []  # the runs that share come first, and train
    assert trainings(study) == 5
    assert run_grid(study, specs, jobs=4) == []
    assert trainings(study) == 8
    assert all(study.is_finished(spec) for spec in specs)


def test_a_failing_method_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path, methods=["supervised", "mean_teacher", BROKEN]), tmp_path / "out")
    lines: list[str] = []
    failures = run_grid(study, specs, jobs=3, say=lines.append)
    assert [failure.spec for failure in failures] == [spec for spec in specs if spec.method.label == "broken"]
    assert all(study.is_finished(spec) for spec in specs if spec.method.label != "broken")
    assert failures[0].reason.startswith("train ended with status 1: Error: broken on purpose (all of it: ")
    assert sum(line.startswith("failed: broken, labels 2, seed 0: train ended") for line in lines) == 1
    assert len(run_grid(study, specs)) == 4  # tried again


def test_a_process_that_leaves_nothing_is_a_failure_and_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "bundle_command", lambda *_: ["/bin/true"])
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    (failure,) = run_grid(study, specs[:1])
    assert failure.reason.startswith("test ended with status 0: it printed nothing")


def test_a_folder_that_is_written_by_an_earlier_process_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    study.begin(specs[0])
    lock = FolderLock(study.folder(specs[0]))
    order: list[str] = []

    def say(line: str) -> None:
        order.append(line)
        if len(order) == 2:
            lock.release()

    assert run_grid(study, specs[:3], say=say) == []
    assert order[-1] == f"finished: {specs[0].name}"


def test_a_stop_ends_the_processes_and_the_next_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, specs = open_study(write_plan(tmp_path, settings={"learning_rate": 0.6}), tmp_path / "out")
    checkpoints = [study.folder(spec) / "resume.pt" for spec in specs[:2]]

    def interrupt(self: grid._Grid) -> None:
        if all(path.exists() for path in checkpoints):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(grid, "_REFRESH", 0.0)
        patch.setattr(grid._Grid, "show", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_grid(study, specs[:2], jobs=2)
    steps = [(path.parent / "steps.csv").read_text() for path in checkpoints]
    time.sleep(0.3)
    assert steps == [(path.parent / "steps.csv").read_text() for path in checkpoints]
    settings = [study.next_step(spec) for spec in specs[:2]]
    assert all(step is not None and step.settings["resume"] for step in settings)
    assert run_grid(study, specs[:2], jobs=2) == []
    assert (checkpoints[0].parent / "steps.csv").read_text().count("\n") == 5


def test_jobs_below_one_are_refused(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    with pytest.raises(UserError, match="`jobs` must be 1 or more"):
        run_grid(study, specs, jobs=0)
