from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from monai_ssl.study.slurm_queue import TaskState, check_cluster, explain, slurm_options, submit_array, task_states
from monai_ssl.utils.errors import UserError


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose scripts stand for Slurm's commands."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin")
    for name in ("sbatch", "srun", "squeue"):
        write_tool(folder, name, "exit 0")
    return folder


def write_tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_options_are_those_of_sbatch() -> None:
    given = ["time=1-12:00:00", "cpus_per_task=4", "--mem=16g", "gres=gpu:a100:1", "setup=module load a=b"]
    assert slurm_options(given) == {
        "time": "1-12:00:00",
        "cpus-per-task": "4",
        "mem": "16g",
        "gres": "gpu:a100:1",
        "setup": "module load a=b",
    }
    assert slurm_options([]) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["partion=gpu"], "unknown option 'partion': did you mean 'partition'"),
        (["array=0-3"], "unknown option 'array': there are mem, "),
        (["time"], "give it as time=VALUE"),
        (["account="], "give it as account=VALUE"),
        (["account=a\n#SBATCH --uid=0"], "on one line"),
        (["time=soon"], "must be like time=120"),
        (["mem=16 GB"], "must be like mem=16G"),
        (["cpus-per-task=all"], "must be like cpus-per-task=4"),
        (["mem=1G", "mem=2G"], "mem is given twice"),
    ],
)
def test_options_that_cannot_be_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        slurm_options(given)


def test_what_is_missing_is_named(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_cluster()
    (tools / "srun").unlink()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(UserError, match="needs Slurm's srun, which is not here"):
        check_cluster()
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install monai-ssl\[slurm\]"):
        check_cluster()


@pytest.mark.parametrize(("count", "limit", "array"), [(3, None, "0-2%3"), (3, 2, "0-2%2"), (1, 5, None)])
def test_a_submission_asks_for_what_was_given(
    tools: Path, tmp_path: Path, count: int, limit: int | None, array: str | None
) -> None:
    write_tool(tools, "sbatch", 'cp "$1" ' + f"{tmp_path}/script; echo Submitted batch job 17")
    options = {"time": "2:00:00", "cpus-per-task": "4", "setup": "module load cuda"}
    folder = tmp_path / "a study" / "slurm" / "name"
    assert submit_array(folder, "name", count, options, limit) == "17"
    lines = (tmp_path / "script").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")}
    assert asked > {"--time=2:00:00", "--cpus-per-task=4", "--job-name=name", "--requeue"}
    assert {line for line in asked if line.startswith("--array")} == ({f"--array={array}"} if array else set())
    assert "{ module load cuda; } || exit" in lines
    (command,) = (line for line in lines if line.startswith("srun"))
    assert "--cpus-per-task=4" in command
    assert f"{sys.executable} -u -m submitit" in command
    pickles = list(folder.glob("*_submitted.pkl"))
    assert len(pickles) == count
    assert all(path.stat().st_size < 1000 for path in pickles)


def test_without_options_everything_is_the_clusters_default(tools: Path, tmp_path: Path) -> None:
    write_tool(tools, "sbatch", 'cp "$1" ' + f"{tmp_path}/script; echo Submitted batch job 17")
    submit_array(tmp_path / "name", "name", 2, {}, None)
    asked = [line for line in (tmp_path / "script").read_text().splitlines() if line.startswith("#SBATCH")]
    names = {line.split()[1].split("=")[0] for line in asked}
    own = {"--array", "--error", "--output", "--open-mode", "--job-name", "--signal", "--requeue", "--nodes"}
    assert names == own


def test_the_words_of_sbatch_are_told(tools: Path, tmp_path: Path) -> None:
    write_tool(tools, "sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    with pytest.raises(UserError, match="refused the job array of 2 tasks: sbatch: error: invalid partition"):
        submit_array(tmp_path / "name", "name", 2, {"partition": "gpu"}, None)


def test_states_are_those_of_squeue(tools: Path, tmp_path: Path) -> None:
    rows = "a|12_0|RUNNING|None\\na|12_3|PENDING|Resources\\nb|14|CANCELLED|None"
    write_tool(tools, "squeue", f"echo \"$@\" > {tmp_path}/asked; printf '{rows}\\n'")
    states = task_states(["a", "b"])
    assert states == {
        ("a", 0): TaskState("RUNNING", "None"),
        ("a", 3): TaskState("PENDING", "Resources"),
        ("b", 0): TaskState("CANCELLED", "None"),
    }
    assert [state.is_over for state in states.values()] == [False, False, True]
    assert "--name=a,b" in (tmp_path / "asked").read_text()


def test_no_answer_is_not_the_answer_that_there_is_nothing(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert task_states(["a"]) == {}
    write_tool(tools, "squeue", "exit 1")
    assert task_states(["a"]) is None
    (tools / "squeue").unlink()
    monkeypatch.setenv("PATH", str(tools))
    assert task_states(["a"]) is None


def test_a_task_that_is_gone_is_explained(tmp_path: Path) -> None:
    reason = explain(tmp_path, "12", 3, None)
    assert reason == "task 3 of job array 12: it left the queue before it began, as after scancel"
    (tmp_path / "12_3_0_log.err").write_text("slurmstepd: error: *** STEP 12.0 ON n1 CANCELLED DUE TO TIME LIMIT ***\n")
    reason = explain(tmp_path, "12", 3, TaskState("TIMEOUT"))
    assert "its time limit passed: ask for more `time`: slurmstepd: error: *** STEP 12.0" in reason
    assert "`sacct -j 12_3` may tell why" in explain(tmp_path, "12", 3, None)
    (tmp_path / "14_0_log.err").write_text("Killed\n")  # a task alone
    assert "out of memory: ask for more `mem`: Killed" in explain(tmp_path, "14", 0, TaskState("OUT_OF_MEMORY"))
