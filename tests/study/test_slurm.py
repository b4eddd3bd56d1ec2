from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.study import process, slurm, slurm_queue, steps
from monai_ssl.study.frozen_plan import freeze_plan
from monai_ssl.study.plan import RunSpec
from monai_ssl.study.slurm import refuse_open_arrays, run_array
from monai_ssl.study.slurm_queue import TaskState
from monai_ssl.study.slurm_record import open_tasks, read_tasks, write_submission
from monai_ssl.study.slurm_task import run_task
from monai_ssl.study.state import Study
from monai_ssl.utils.errors import UserError
from tests.study.helpers import fake_command, open_study, write_plan, write_pretraining_plan, write_rounds_plan

BROKEN = {"label": "broken", "method": "mean_teacher", "settings": {"objective#noise": "broken"}}
FLIPS = {"label": "flips", "method": "supervised", "evaluation": {"flip_axes": [0]}}


@dataclass
class Cluster:
    """Stands for Slurm: whenever it is asked, it carries out one pending task first."""

    tasks: dict[tuple[str, int], Path] = field(default_factory=dict)
    states: dict[tuple[str, int], TaskState] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    before: Callable[[], object] = lambda: None

    def submit(self, folder: Path, name: str, count: int, options: Mapping[str, str], limit: int | None) -> str:
        self.counts.append(count)
        for index in range(count):
            self.tasks[name, index] = folder
            self.states[name, index] = TaskState("PENDING", "Resources")
        return str(len(self.counts))

    def ask(self, names: set[str]) -> dict[tuple[str, int], TaskState] | None:
        self.before()
        for (name, index), state in self.states.items():
            if state.name == "PENDING":
                run_task(str(self.tasks[name, index]), index)
                self.states[name, index] = TaskState("COMPLETED")
                break
        return {key: state for key, state in self.states.items() if key[0] in names}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(process, "bundle_command", fake_command)
    monkeypatch.setattr(steps, "has_teacher", lambda checkpoint: False)
    monkeypatch.setattr("monai_ssl.study.slurm_task.signal.signal", lambda *_: None)
    monkeypatch.setattr(slurm, "check_cluster", lambda: None)
    monkeypatch.setattr(slurm, "submit_array", made.submit)
    monkeypatch.setattr(slurm, "task_states", made.ask)
    monkeypatch.setattr(slurm, "_POLL", 0.0)
    monkeypatch.setattr(slurm, "_ASK", (0.0, 0.0))
    monkeypatch.setattr(slurm._Arrays, "pause", 0.0)
    monkeypatch.setattr(slurm, "_LAG", 0.0)
    return made


def start(folder: Path, **changes: Any) -> tuple[Study, list[RunSpec]]:
    study, specs = open_study(write_plan(folder, **{"seeds": 1, "budgets": [2], **changes}), folder / "out")
    freeze_plan(study.plan, study.output)
    return study, specs


def interrupt() -> None:
    raise KeyboardInterrupt


def test_all_runs_are_done_in_one_array_and_none_again(tmp_path: Path, cluster: Cluster) -> None:
    study, specs = start(tmp_path, methods=["supervised", FLIPS, "mean_teacher"])
    lines: list[str] = []
    done: list[int] = []
    assert run_array(study, specs, slurm={}, say=lines.append, done=lambda: done.append(len(lines))) == []
    assert all(study.is_finished(spec) for spec in specs)
    assert cluster.counts == [2]
    (folder,) = set(cluster.tasks.values())
    assert read_tasks(folder) == [["runs/2/supervised/seed0", "runs/2/flips/seed0"], ["runs/2/mean_teacher/seed0"]]
    assert lines[0] == "submitted job array 1: 3 runs in 2 tasks; `scancel 1` would end them"
    assert lines[1:] == [f"finished: {spec.name}" for spec in specs]
    assert done == [2, 3, 4]
    times = {path: path.stat().st_mtime_ns for path in study.output.rglob("*") if path.is_file()}
    assert run_array(study, specs, slurm={}) == []
    assert times == {path: path.stat().st_mtime_ns for path in study.output.rglob("*") if path.is_file()}


def test_a_failing_method_is_told_and_tried_again_by_the_next_call(tmp_path: Path, cluster: Cluster) -> None:
    study, specs = start(tmp_path, methods=["supervised", "mean_teacher", BROKEN])
    for array in (1, 2):
        lines: list[str] = []
        (failure,) = run_array(study, specs, slurm={}, say=lines.append)
        assert failure.spec == specs[2]
        assert failure.reason.startswith("train ended with status 1: Error: broken on purpose (all of it: ")
        assert lines[-1] == f"failed: {specs[2].name}: {failure.reason}"
        assert lines[0].startswith(f"submitted job array {array}: ")
    assert cluster.counts == [3, 1]


@pytest.mark.parametrize("knew", [True, False])
def test_what_a_stopped_call_submitted_is_waited_for(tmp_path: Path, cluster: Cluster, knew: bool) -> None:
    study, specs = start(tmp_path)
    lines: list[str] = []
    cluster.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_array(study, specs[:1], slurm={}, say=lines.append)
    assert lines[1].startswith("job array 1 goes on in the cluster")
    cluster.before = lambda: None
    name = "1"
    if not knew:  # killed before it could note the number
        ((name, _), folder) = next(iter(cluster.tasks.items()))
        write_submission(folder, "", read_tasks(folder))
    lines.clear()
    assert run_array(study, specs, slurm={}, say=lines.append) == []
    assert lines[0] == f"waiting for 1 tasks of job array {name}, which an earlier call submitted"
    assert cluster.counts == [1, 1]
    assert sum(path.read_text().count("starts train.yaml") for path in study.output.rglob(process.CONSOLE)) == 2
    assert list(open_tasks(study.output)) == []


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (TaskState("CANCELLED"), "task 0 of job array 1: it was cancelled"),
        (TaskState("TIMEOUT"), "task 0 of job array 1: its time limit passed: ask for more `time`"),
        (None, "task 0 of job array 1: it left the queue before it began"),
    ],
)
def test_a_task_that_is_gone_is_a_failure_and_tried_again(
    tmp_path: Path, cluster: Cluster, state: TaskState | None, words: str
) -> None:
    study, specs = start(tmp_path)

    def lose() -> None:
        key = next(iter(cluster.tasks))
        if state is None:
            cluster.states.pop(key, None)
        else:
            cluster.states[key] = state

    cluster.before = lose
    (failure,) = run_array(study, specs, slurm={})
    assert failure.spec == specs[0]
    assert failure.reason.startswith(words)
    cluster.before = lambda: None
    assert run_array(study, specs, slurm={}) == []
    assert cluster.counts == [2, 1]


def test_a_task_that_goes_back_into_the_queue_is_waited_for(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_LAG", 0.02)
    study, specs = start(tmp_path)
    told = [TaskState("PREEMPTED"), TaskState("COMPLETING"), TaskState("PREEMPTED"), TaskState("PENDING", "BeginTime")]

    def turn() -> None:
        if told:
            cluster.states[next(iter(cluster.tasks))] = told.pop(0)

    cluster.before = turn
    assert run_array(study, specs, slurm={}) == []
    assert cluster.counts == [2]


def test_a_cluster_that_does_not_answer_is_waited_for(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, specs = start(tmp_path)
    silent = [None] * 3
    monkeypatch.setattr(slurm, "task_states", lambda names: silent.pop() if silent else cluster.ask(names))
    lines: list[str] = []
    assert run_array(study, specs, slurm={}, say=lines.append) == []
    assert lines.count("Slurm does not answer; waiting for it") == 1
    assert cluster.counts == [2]


def test_an_unusual_reason_to_wait_is_told_once(tmp_path: Path, cluster: Cluster) -> None:
    study, specs = start(tmp_path)
    reasons = ["JobHeldUser", "JobHeldUser", "Resources"]

    def hold() -> None:
        cluster.states[list(cluster.tasks)[1]] = TaskState("PENDING", reasons.pop(0) if reasons else "None")

    cluster.before = hold
    lines: list[str] = []
    assert run_array(study, specs, slurm={}, say=lines.append) == []
    assert [line for line in lines if "pending" in line] == ["job array 1 is pending: JobHeldUser"]


def test_a_run_whose_training_goes_on_in_an_earlier_array_waits_for_it(tmp_path: Path, cluster: Cluster) -> None:
    study, specs = start(tmp_path)
    cluster.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_array(study, specs, slurm={})
    cluster.before = lambda: None
    study, specs = start(tmp_path, methods=["supervised", "mean_teacher", FLIPS])
    assert run_array(study, specs, slurm={}) == []
    assert cluster.counts == [2, 1]
    assert not (study.folder(specs[2]) / "model.pt").exists()


def test_a_study_that_was_moved_goes_on_where_it_is(tmp_path: Path, cluster: Cluster) -> None:
    study, specs = start(tmp_path)
    cluster.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_array(study, specs, slurm={})
    study.output.rename(tmp_path / "moved")
    cluster.before = cluster.states.clear  # the tasks look for the old folder, and fail
    moved = Study(study.plan, tmp_path / "moved", study.splits)
    assert len(run_array(moved, specs, slurm={})) == 2
    cluster.before = lambda: None
    assert run_array(moved, specs, slurm={}) == []
    assert not study.output.exists()


def test_elsewhere_no_run_begins_while_an_array_goes_on(tmp_path: Path, cluster: Cluster) -> None:
    study, specs = start(tmp_path)
    refuse_open_arrays(study)
    cluster.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_array(study, specs, slurm={})
    cluster.before = lambda: None
    with pytest.raises(UserError, match=r"job array 1 of this study goes on in the cluster: wait for it with"):
        refuse_open_arrays(study)
    cluster.states = dict.fromkeys(cluster.states, TaskState("CANCELLED"))
    refuse_open_arrays(study)


def test_a_refused_submission_leaves_nothing_behind(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "sbatch refused the job array of 2 tasks: invalid partition"

    def refuse(*_: object) -> str:
        raise UserError(words)

    monkeypatch.setattr(slurm, "submit_array", refuse)
    study, specs = start(tmp_path)
    with pytest.raises(UserError, match="invalid partition"):
        run_array(study, specs, slurm={"partition": "gpu"})
    assert list(open_tasks(study.output)) == []
    words = "sbatch refused the job array of 2 tasks: Socket timed out on send/recv operation"
    with pytest.raises(UserError, match="timed out"):
        run_array(study, specs, slurm={})
    assert len(list(open_tasks(study.output))) == 2  # it may be in the queue all the same


def test_jobs_below_one_are_refused(tmp_path: Path) -> None:
    study, specs = start(tmp_path)
    with pytest.raises(UserError, match="`jobs` must be 1 or more"):
        run_array(study, specs, slurm={}, jobs=0)


SEMI = {"label": "semi", "method": "mean_teacher"}
FIRST = {"bundle": "first", "method": "inpainting", "steps": 6}


def start_pretraining(folder: Path, **changes: Any) -> tuple[Study, list[RunSpec]]:
    """Two methods that start from one pretraining, with two budgets, and a baseline."""
    path = write_pretraining_plan(folder, {**SEMI, "pretraining": FIRST}, **{"seeds": 1, **changes})
    study, specs = open_study(path, folder / "out")
    freeze_plan(study.plan, study.output)
    return study, specs


def test_runs_that_share_a_pretraining_are_submitted_when_it_has_ended(tmp_path: Path, cluster: Cluster) -> None:
    study, specs = start_pretraining(tmp_path)
    lines: list[str] = []
    assert run_array(study, specs, slurm={}, say=lines.append) == []
    assert all(study.is_finished(spec) for spec in specs)
    # the two baselines and the run that pretrains; then the three that waited
    assert cluster.counts == [3, 3]
    assert lines[0].startswith("submitted job array 1: 3 runs in 3 tasks")
    (console,) = (study.output / "pretraining").rglob(process.CONSOLE)
    assert console.read_text().count("starts train.yaml") == 1


def test_with_a_pretraining_that_failed_all_fail_that_wait_for_it(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(bundle: Path, configs: tuple[str, ...], settings: dict[str, Any]) -> list[str]:
        return (
            ["/bin/sh", "-c", "echo Error: no"] if bundle.name == "first" else fake_command(bundle, configs, settings)
        )

    monkeypatch.setattr(process, "bundle_command", command)
    study, specs = start_pretraining(tmp_path, seeds=2)
    failures = run_array(study, specs, slurm={})
    assert [failure.spec for failure in failures] == [spec for spec in specs if spec.method.label != "supervised"]
    assert all(failure.reason.startswith("pretrain ended with status 0: Error: no") for failure in failures)
    assert cluster.counts == [6]
    monkeypatch.setattr(process, "bundle_command", fake_command)
    assert run_array(study, specs, slurm={}) == []
    assert cluster.counts == [6, 2, 3, 3]


def test_a_pretraining_that_an_earlier_call_submitted_is_waited_for(tmp_path: Path, cluster: Cluster) -> None:
    study, specs = start_pretraining(tmp_path)
    cluster.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_array(study, specs[1:2], slurm={})
    cluster.before = lambda: None
    assert run_array(study, specs[2:3], slurm={}) == []
    assert cluster.counts == [1, 1]
    (console,) = (study.output / "pretraining").rglob(process.CONSOLE)
    assert console.read_text().count("starts train.yaml") == 1


def start_rounds(folder: Path, *more: Any) -> tuple[Study, list[RunSpec]]:
    """Three rounds of a method that chooses its cases, and of the same without."""
    study, specs = open_study(write_rounds_plan(folder, *more), folder / "out")
    freeze_plan(study.plan, study.output)
    return study, [spec for spec in specs if spec.method.label != "supervised"]


def test_a_round_is_submitted_when_the_one_before_has_trained(tmp_path: Path, cluster: Cluster) -> None:
    study, specs = start_rounds(tmp_path)
    lines: list[str] = []
    assert run_array(study, specs, slurm={}, say=lines.append) == []
    # random at 2, with the same of unsure, at 4 and at 6; then the rounds, each a choice, a training and a test
    assert cluster.counts == [3, 1, 1]
    assert [read_tasks(folder) for folder in dict.fromkeys(cluster.tasks.values())][1:] == [
        [["runs/4/unsure/seed0"]],
        [["runs/6/unsure/seed0"]],
    ]
    assert lines[0].startswith("submitted job array 1: 4 runs in 3 tasks")
    text = (study.output / "runs/6/unsure/seed0" / process.CONSOLE).read_text()
    assert [line for line in text.splitlines() if line.startswith("starts")] == [
        f"starts {name}.yaml" for name in ("suggest", "train", "evaluate")
    ]


def test_with_a_round_that_failed_the_later_ones_fail(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(bundle: Path, configs: tuple[str, ...], settings: dict[str, Any]) -> list[str]:
        broken = configs[0] == "suggest.yaml"
        return ["/bin/sh", "-c", "echo Error: no"] if broken else fake_command(bundle, configs, settings)

    monkeypatch.setattr(process, "bundle_command", command)
    study, specs = start_rounds(tmp_path)
    lines: list[str] = []
    failures = run_array(study, specs, slurm={}, say=lines.append)
    unsure = [spec for spec in specs if spec.method.label == "unsure"]
    assert [failure.spec for failure in failures] == unsure[1:]
    assert failures[0].reason.startswith("suggest ended with status 0: Error: no")
    assert failures[1].reason == failures[0].reason
    assert cluster.counts == [3, 1]
    alone = run_array(study, unsure[2:], slurm={})
    assert [failure.reason for failure in alone] == [
        "its cases are chosen by the model of unsure, labels 4, seed 0, which has not trained"
    ]
    monkeypatch.setattr(process, "bundle_command", fake_command)
    assert run_array(study, specs, slurm={}) == []
    assert cluster.counts == [3, 1, 1, 1]


def fake_task(folder: str, index: int) -> None:
    process.bundle_command = fake_command  # type: ignore[assignment]
    run_task(folder, index)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real Slurm whose only node is this machine, so that the test's folder is there."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        pytest.skip("there is no sbatch")
    nodes = subprocess.run(["sinfo", "-h", "-N", "-o", "%n %t"], capture_output=True, text=True).stdout.split("\n")
    if not {f"{socket.gethostname()} {state}" for state in ("idle", "mix")} & {node.strip() for node in nodes}:
        pytest.skip("the node of this machine's Slurm is not up")
    monkeypatch.chdir(Path(__file__).parents[2])  # tasks import this module
    monkeypatch.setattr(slurm_queue, "run_task", fake_task)
    monkeypatch.setattr(slurm, "_POLL", 0.2)
    monkeypatch.setattr(slurm, "_LAG", 1.0)


def test_a_real_slurm_carries_out_an_array(tmp_path: Path, real: None) -> None:
    study, specs = start(tmp_path, methods=["supervised", "mean_teacher", FLIPS, BROKEN])
    specs = [spec for spec in specs if spec.method.label != "mean_teacher"]
    lines: list[str] = []

    def stop(line: str) -> None:
        lines.append(line)
        if line.startswith("submitted"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_array(study, specs, slurm={"time": "10"}, say=stop)
    (failure,) = run_array(study, specs, slurm={"time": "10"}, say=lines.append)
    assert failure.spec.method.label == "broken"
    assert "Error: broken on purpose" in failure.reason
    assert sum(line.startswith("submitted") for line in lines) == 1
    assert sum(line.startswith("finished") for line in lines) == 2
    texts = [path.read_text() for path in study.output.rglob(process.CONSOLE)]
    assert sum(text.count("starts train.yaml") for text in texts) == 2
