"""Slurm's side of a study: what may be asked of it, how a job array is submitted, and how its tasks fare."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_ssl.study.process import last_error
from monai_ssl.study.slurm_task import run_task
from monai_ssl.utils.errors import UserError

__all__ = ["TaskState", "check_cluster", "explain", "slurm_options", "submit_array", "task_states"]

# of sbatch, by its own names; what they mean is what sbatch says they mean
_NUMBERS = ("cpus-per-task", "nice")
_MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
_TEXTS = (
    *("account", "constraint", "exclude", "gpus", "gres", "licenses", "mail-type", "mail-user", "nodelist"),
    *("partition", "qos", "reservation", "setup", "time"),
)
_OPTIONS = (*_MEMORY, *_NUMBERS, *_TEXTS)
_FORMS = {
    **dict.fromkeys(_NUMBERS, (r"\d+", "4")),
    **dict.fromkeys(_MEMORY, (r"\d+[KMGT]?", "16G")),
    "time": (r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", "120 (minutes), 2:00:00 or 1-12:00:00"),
}

_OVER = {
    "BOOT_FAIL": "its node did not start",
    "CANCELLED": "it was cancelled (scancel)",
    "COMPLETED": "it ended, but left no record",
    "DEADLINE": "its deadline passed",
    "FAILED": "it failed",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it ran out of memory: ask for more `mem`",
    "PREEMPTED": "it was pre-empted",
    "TIMEOUT": "its time limit passed: ask for more `time`",
}


@dataclass(frozen=True)
class TaskState:
    """How a task fares: Slurm's name of its state, such as ``PENDING``, and the reason for which it waits."""

    name: str
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the task will never run again, unless someone puts it back into the queue by hand."""
        return self.name in _OVER


def slurm_options(given: Sequence[str]) -> dict[str, str]:
    """Read ``KEY=VALUE`` settings: options of ``sbatch`` by their own long names, ``_`` and ``-`` alike.

    ``time=120`` is two hours, ``mem=16G`` memory of the node, ``gres=gpu:1`` a GPU, as ``sbatch`` reads them. What is
    not given is the cluster's default. ``setup`` is a line of shell before the task, such as ``module load cuda``.

    Raises:
        UserError: naming the nearest option for an unknown one, or the form of a value.
    """
    options: dict[str, str] = {}
    for text in given:
        key, sign, value = (part.strip() for part in text.partition("="))
        name = key.lstrip("-").replace("_", "-")
        if name not in _OPTIONS:
            near = difflib.get_close_matches(name, _OPTIONS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_OPTIONS)}."
            raise UserError(f"--slurm {text}: unknown option {key!r}: {hint}")
        if not sign or not value or not value.isprintable():
            raise UserError(f"--slurm {text}: give it as {name}=VALUE, on one line.")
        if name in options:
            raise UserError(f"--slurm {text}: {name} is given twice.")
        form, example = _FORMS.get(name, (".*", ""))
        if not re.fullmatch(form, value, re.IGNORECASE):
            raise UserError(f"--slurm {text}: must be like {name}={example}.")
        options[name] = value
    return options


def check_cluster() -> None:
    """Demand that jobs can be submitted from here.

    Raises:
        UserError: naming what is missing.
    """
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise UserError("`--launcher slurm` needs submitit: pip install monai-ssl[slurm]") from error
    for tool in ("sbatch", "srun", "squeue"):
        if shutil.which(tool) is None:
            raise UserError(f"`--launcher slurm` needs Slurm's {tool}, which is not here: call it on a login node.")


def submit_array(folder: Path, name: str, count: int, options: Mapping[str, str], limit: int | None) -> str:
    """Submit a job array of :func:`~monai_ssl.study.slurm_task.run_task`, and return its number.

    Args:
        folder: the submission's.
        name: of the job, by which it is found again.
        count: number of tasks.
        options: as :func:`slurm_options` returns them.
        limit: most tasks at once; ``None``: as many as the cluster gives.

    Raises:
        UserError: with the words of ``sbatch`` when it refuses.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.helpers import clean_env

    setup = [f"{{ {options['setup']}; }} || exit"] if "setup" in options else []
    cores = {name: value for name, value in options.items() if name == "cpus-per-task"}
    asked = {name: value for name, value in options.items() if name != "setup"}
    executor = submitit.SlurmExecutor(folder)
    executor.update_parameters(
        job_name=name,
        time=None,  # the cluster's default; submitit's own is five minutes
        wckey=None,
        array_parallelism=limit or count,
        additional_parameters={"requeue": True, **asked},
        signal_delay_s=30,  # before the time limit; Slurm may signal a minute earlier than it is told
        setup=setup,
        srun_args=[f"--{name}={value}" for name, value in cores.items()],  # srun does not take it from sbatch
    )
    # a study that itself runs in a job would hand its own share of the node on
    environment = clean_env() if "SLURM_JOB_ID" in os.environ else contextlib.nullcontext()
    try:
        with environment:
            submitted = executor.map_array(run_task, [str(folder)] * count, range(count))
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"sbatch refused the job array of {count} tasks: {' '.join(str(error).split())}") from error
    return str(submitted[0].job_id).split("_")[0]


def task_states(names: Collection[str]) -> dict[tuple[str, int], TaskState] | None:
    """Ask Slurm for the tasks of job arrays; its controller answers, so that no accounting database is needed.

    Args:
        names: of the jobs.

    Returns:
        States by job name and place in the array, without the tasks that Slurm knows no more (it forgets those that are
        over after some minutes); ``None`` when it does not answer.
    """
    command = ["squeue", f"--user={os.getuid()}", f"--name={','.join(names)}", "--states=all", "--array", "--noheader"]
    try:
        answer = subprocess.run(
            [*command, "--format=%j|%i|%T|%r"], check=True, capture_output=True, encoding="utf-8", timeout=120
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    states = {}
    for line in answer.splitlines():
        name, number, state, reason = line.strip().split("|", 3)
        states[name, int(number.partition("_")[2] or 0)] = TaskState(state, reason)
    return states


def explain(folder: Path, job: str, index: int, state: TaskState | None) -> str:
    """Say what became of a task that left no record of its end, with the last line of what it printed.

    Args:
        folder: the submission's.
        job: number of the array, or its name where that is not known.
        index: the task's place in it.
        state: what Slurm says; ``None``: it knows the task no more.
    """
    # the task alone in its array has no place in it
    logs = [*folder.glob(f"{job}_{index}_*_log.err"), *folder.glob(f"{job}_0_log.err")]
    said = f": {last_error(logs[0], 0)} (all of it: {logs[0]})" if logs else ""
    if state is not None:
        words = _OVER[state.name]
    elif logs:
        words = f"Slurm knows it no more (`sacct -j {job}_{index}` may tell why)"
    else:
        words = "it left the queue before it began, as after scancel"
    return f"task {index} of job array {job}: {words}{said}"
