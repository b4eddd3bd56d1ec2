from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_ssl.study import process, slurm_task, steps
from monai_ssl.study.frozen_plan import freeze_plan
from monai_ssl.study.plan import RunSpec
from monai_ssl.study.slurm_record import read_failures, submission_folder, write_failures, write_submission
from monai_ssl.study.slurm_task import run_task
from monai_ssl.study.state import Study
from monai_ssl.study.steps import Step
from monai_ssl.utils.files import FolderLock
from tests.study.helpers import (
    STEPS,
    fake_command,
    open_study,
    write_plan,
    write_pretraining_plan,
    write_rounds_plan,
)

SHARING = ["supervised", {"label": "flips", "method": "supervised", "evaluation": {"flip_axes": [0]}}, "mean_teacher"]
BROKEN = [
    *("mean_teacher", "supervised"),
    {"label": "broken", "method": "mean_teacher", "settings": {"objective#noise": "broken"}},
    {
        **{"label": "both", "method": "mean_teacher", "settings": {"objective#noise": "broken"}},
        "evaluation": {"flip_axes": [0]},
    },
]


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(process, "bundle_command", fake_command)
    monkeypatch.setattr(slurm_task, "_PATIENCE", 0.0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def submit(folder: Path, *, runs: int | None = None, **changes: object) -> tuple[Study, list[RunSpec], Path]:
    """A submission with a single task, which is of the first runs of a plan."""
    study, specs = open_study(write_plan(folder, **changes), folder / "out")
    freeze_plan(study.plan, study.output)
    place = submission_folder(study.output, "name")
    write_submission(place, "1", [[str(spec.folder) for spec in specs[:runs]]])
    return study, specs[:runs], place


def interrupt(monkeypatch: pytest.MonkeyPatch, number: int, step: int) -> None:
    """Let a signal come while a training has a checkpoint of a step."""
    stop = f"if state['step'] == {step}: import signal; os.kill(os.getppid(), {int(number)}); time.sleep(9)"
    row = '        write("resume.pt", json.dumps(state))\n'

    def command(*arguments: object) -> list[str]:
        *start, script, configs, settings = fake_command(*arguments)  # type: ignore[arg-type]
        return [*start, script.replace(row, row + f"        {stop}\n"), configs, settings]

    monkeypatch.setattr(process, "bundle_command", command)


def test_a_training_is_followed_by_the_evaluations_that_share_it(tmp_path: Path) -> None:
    study, specs, place = submit(tmp_path, runs=2, methods=SHARING)
    assert study.training_folder(specs[1]) == study.folder(specs[0])
    run_task(str(place), 0)
    assert all(study.is_finished(spec) for spec in specs)
    texts = [(study.folder(spec) / process.CONSOLE).read_text() for spec in specs]
    assert [text.count("starts train.yaml") for text in texts] == [1, 0]
    assert read_failures(place, 0) == {}


def test_a_failure_is_noted_with_its_words_and_what_shares_the_training_is_not_tried(tmp_path: Path) -> None:
    study, specs, place = submit(tmp_path, methods=BROKEN, budgets=[2], seeds=1)
    names = [str(spec.folder) for spec in specs]
    write_submission(place, "1", [names[2:]])
    run_task(str(place), 0)
    failures = read_failures(place, 0)
    assert failures is not None
    assert list(failures) == names[2:]
    assert all(words.startswith("train ended with status 1: Error: broken on purpose") for words in failures.values())
    assert not (study.folder(specs[3]) / process.CONSOLE).exists()


def test_a_failed_evaluation_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(bundle: Path, configs: tuple[str, ...], settings: dict[str, object]) -> list[str]:
        bad = configs[0] == "evaluate.yaml" and "flip_axes" not in settings
        return ["/bin/sh", "-c", "echo Error: no; exit 3"] if bad else fake_command(bundle, configs, settings)

    monkeypatch.setattr(process, "bundle_command", command)
    study, specs, place = submit(tmp_path, runs=2, methods=SHARING)
    run_task(str(place), 0)
    assert list(read_failures(place, 0) or {}) == [str(specs[0].folder)]
    assert study.is_finished(specs[1])


def test_a_task_that_is_over_never_starts_again(tmp_path: Path) -> None:
    study, specs, place = submit(tmp_path, runs=1)
    write_failures(place, 0, {str(specs[0].folder): "Slurm knows it no more"})
    run_task(str(place), 0)
    assert not study.folder(specs[0]).exists()


def test_a_task_whose_plan_cannot_be_read_says_so(tmp_path: Path) -> None:
    _, specs, place = submit(tmp_path, runs=1)
    (tmp_path / "data" / "dataset.json").unlink()
    run_task(str(place), 0)
    reason = (read_failures(place, 0) or {})[str(specs[0].folder)]
    assert "the plan cannot be read where the task runs" in reason
    assert str(tmp_path / "data") in reason


def test_a_folder_that_another_process_holds_is_left_alone(tmp_path: Path) -> None:
    study, specs, place = submit(tmp_path, runs=1)
    study.begin(specs[0])
    lock = FolderLock(study.folder(specs[0]))
    run_task(str(place), 0)
    lock.release()
    assert "another process is still writing in" in (read_failures(place, 0) or {})[str(specs[0].folder)]


def test_a_process_that_leaves_nothing_is_a_failure_and_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "bundle_command", lambda *_: ["/bin/true"])
    _, specs, place = submit(tmp_path, runs=1)
    run_task(str(place), 0)
    assert (read_failures(place, 0) or {})[str(specs[0].folder)].startswith("test ended with status 0: it printed")


def write_tool(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """A script that stands for a command of Slurm's, which calls the task 17_3."""
    if not folder.exists():
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    for variable, value in {"JOB_ID": "20", "ARRAY_JOB_ID": "17", "ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(f"SLURM_{variable}", value)


def test_before_the_time_limit_a_task_goes_back_into_the_queue_and_on_at_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tool(tmp_path / "tools", monkeypatch, "scontrol", f'echo "$@" > {tmp_path}/asked')
    study, specs, place = submit(tmp_path, runs=1)
    interrupt(monkeypatch, signal.SIGUSR2, 2)
    with pytest.raises(SystemExit):
        run_task(str(place), 0)
    assert (tmp_path / "asked").read_text() == "requeue 17_3\n"
    assert read_failures(place, 0) is None
    step = study.next_step(specs[0])
    assert isinstance(step, Step)
    assert step.settings["resume"] is True
    monkeypatch.setattr(process, "bundle_command", fake_command)
    run_task(str(place), 0)
    assert read_failures(place, 0) == {}
    assert (study.folder(specs[0]) / "steps.csv").read_text().count("\n") == STEPS + 1


def test_a_time_limit_that_comes_before_any_progress_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tool(tmp_path / "tools", monkeypatch, "scontrol", f"echo called > {tmp_path}/asked")
    _, specs, place = submit(tmp_path, runs=2)
    stop = f"import os, time; os.kill(os.getppid(), {int(signal.SIGUSR2)}); time.sleep(9)"
    monkeypatch.setattr(process, "bundle_command", lambda *_: [sys.executable, "-c", stop])
    run_task(str(place), 0)
    failures = read_failures(place, 0)
    assert failures is not None
    assert list(failures) == [str(spec.folder) for spec in specs]
    assert all("before the run gets any further: ask for more `time`" in words for words in failures.values())
    assert not (tmp_path / "asked").exists()


def test_a_queue_that_does_not_take_the_task_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tool(tmp_path / "tools", monkeypatch, "scontrol", "echo 'Requested operation is disabled' >&2; exit 1")
    _, specs, place = submit(tmp_path, runs=1)
    interrupt(monkeypatch, signal.SIGUSR2, 2)
    run_task(str(place), 0)
    reason = (read_failures(place, 0) or {})[str(specs[0].folder)]
    assert reason.endswith("cannot go back into the queue: Requested operation is disabled")


@pytest.mark.parametrize(("state", "asked"), [("CANCELLED", False), ("", False), ("RUNNING", True)])
def test_a_task_that_is_stopped_ends_or_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, asked: bool
) -> None:
    write_tool(tmp_path / "tools", monkeypatch, "squeue", f"echo {state}")
    write_tool(tmp_path / "tools", monkeypatch, "scontrol", f'echo "$@" > {tmp_path}/asked')
    study, specs, place = submit(tmp_path, runs=2)
    interrupt(monkeypatch, signal.SIGTERM, 1)
    with pytest.raises(SystemExit, match="143"):
        run_task(str(place), 0)
    assert (tmp_path / "asked").exists() is asked
    assert read_failures(place, 0) is None
    assert not study.is_busy(specs[0])
    assert not study.folder(specs[1]).exists()


def test_a_pretraining_goes_on_at_its_checkpoint_and_the_training_starts_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tool(tmp_path / "tools", monkeypatch, "scontrol", f'echo "$@" > {tmp_path}/asked')
    study, specs = open_study(write_pretraining_plan(tmp_path), tmp_path / "out")
    freeze_plan(study.plan, study.output)
    place = submission_folder(study.output, "name")
    write_submission(place, "1", [[str(specs[1].folder)]])
    interrupt(monkeypatch, signal.SIGUSR2, 2)
    with pytest.raises(SystemExit):
        run_task(str(place), 0)
    step = study.next_step(specs[1])
    assert step is not None
    assert (step.name, step.settings["resume"]) == ("pretrain", True)
    monkeypatch.setattr(process, "bundle_command", fake_command)
    run_task(str(place), 0)
    assert read_failures(place, 0) == {}
    assert study.is_finished(specs[1])
    assert (step.folder / "steps.csv").read_text().count("\n") == STEPS + 2 + 1
    assert (study.folder(specs[1]) / process.CONSOLE).read_text().count("starts train.yaml") == 1


def test_with_a_pretraining_that_failed_no_run_of_the_task_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "bundle_command", lambda *_: ["/bin/sh", "-c", "echo Error: no; exit 3"])
    pretraining = {"bundle": "first", "method": "inpainting", "steps": STEPS + 2}
    flips = {"label": "flips", "method": "supervised", "evaluation": {"device": "cpu"}, "pretraining": pretraining}
    study, specs = open_study(write_pretraining_plan(tmp_path, flips), tmp_path / "out")
    freeze_plan(study.plan, study.output)
    place = submission_folder(study.output, "name")
    names = [str(spec.folder) for spec in specs[1:3]]
    write_submission(place, "1", [names])
    run_task(str(place), 0)
    failures = read_failures(place, 0) or {}
    assert list(failures) == names
    assert all(words.startswith("pretrain ended with status 3: Error: no") for words in failures.values())
    (console,) = study.output.rglob(process.CONSOLE)
    assert console.read_text().count("Error: no") == 1


def test_with_a_choice_that_failed_no_run_of_the_task_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "has_teacher", lambda checkpoint: False)
    flips = {"label": "flips", "method": "mean_teacher", "acquisition": "uncertainty", "evaluation": {"device": "cpu"}}
    study, specs = open_study(write_rounds_plan(tmp_path, flips), tmp_path / "out")
    freeze_plan(study.plan, study.output)
    first, *rest = [spec for spec in specs if spec.method.label in ("unsure", "flips") and spec.budget != "6"]
    place = submission_folder(study.output, "name")
    names = [str(spec.folder) for spec in rest[1:]]
    write_submission(place, "1", [[str(first.folder)], names, names])
    run_task(str(place), 1)  # before its time, as where files take theirs between machines
    reasons = read_failures(place, 1) or {}
    assert list(reasons) == names
    assert all("labels 2, seed 0, which has not trained yet" in words for words in reasons.values())
    run_task(str(place), 0)
    monkeypatch.setattr(process, "bundle_command", lambda *_: ["/bin/sh", "-c", "echo Error: no; exit 3"])
    run_task(str(place), 2)
    failures = read_failures(place, 2) or {}
    assert list(failures) == names
    assert all(words.startswith("suggest ended with status 3: Error: no") for words in failures.values())
    texts = [path.read_text() for path in (study.output / "runs/4").rglob(process.CONSOLE)]
    assert sum(text.count("Error: no") for text in texts) == 1
