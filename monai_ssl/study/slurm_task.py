"""What one task of a Slurm job array does: a training and the evaluations that share it, somewhere in the cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from monai_ssl.study.frozen_plan import PLAN
from monai_ssl.study.grid import available_cores
from monai_ssl.study.plan import RunSpec, runs
from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.pretraining import PRETRAIN_STEP
from monai_ssl.study.process import CONSOLE, last_error, start_process
from monai_ssl.study.rounds import SUGGEST_STEP
from monai_ssl.study.slurm_record import read_failures, read_tasks, study_folder, write_failures
from monai_ssl.study.splits import draw_splits
from monai_ssl.study.state import Study
from monai_ssl.study.steps import Step
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import RunFiles

__all__ = ["run_task"]

_PATIENCE = 60.0  # seconds for which a process that a requeued task left behind may still hold the run's folder


def run_task(folder: str, index: int) -> None:
    """Carry out the runs of a task, each process as the local grid would start it.

    Everything is read where the task runs: the plan from the study's folder, the data list from where that says.
    Slurm's ``USR2``, which comes shortly before the time limit, stops the task. If it has come any further than it
    was, it goes back into the queue and then on at its checkpoint. ``TERM`` stops it too: cancelled, it ends; when it
    has to make room for another job, it goes back into the queue.

    Args:
        folder: the submission's.
        index: the task's place in the array.
    """
    place = Path(folder)
    if read_failures(place, index) is not None:
        return
    names = read_tasks(place)[index]
    try:
        output = study_folder(place)
        plan = read_plan(output / PLAN)
        known = {str(spec.folder): spec for spec in runs(plan)}
        task = _Task(Study(plan, output, draw_splits(plan)))
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, task.stop)
        failures = task.carry_out([known[name] for name in names])
    except (UserError, OSError, KeyError) as error:
        failures = dict.fromkeys(names, f"the plan cannot be read where the task runs: {error}")
    write_failures(place, index, failures)


@dataclass
class _Task:
    study: Study
    process: subprocess.Popen[bytes] | None = None
    signal: int = 0
    gained: bool = False

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.signal = number
        if self.process is not None:
            self.process.kill()

    def carry_out(self, specs: list[RunSpec]) -> dict[str, str]:
        """Carry out runs that share a training; return why which of them failed."""
        failures: dict[str, str] = {}
        for spec in specs:
            try:
                step, reason = self._run(spec)
            except (UserError, OSError) as error:
                step, reason = None, str(error)
            if self.signal:
                reason = self._requeue()
                return {**failures, **{str(one.folder): reason for one in specs[specs.index(spec) :]}}
            if reason:
                failures[str(spec.folder)] = reason
            if reason and step is not None and step.name in (PRETRAIN_STEP, SUGGEST_STEP, "train"):
                return {str(one.folder): reason for one in specs}
        return failures

    def _run(self, spec: RunSpec) -> tuple[Step | None, str]:
        """Carry out a run; return the process that failed and why, or nothing."""
        patience = time.monotonic() + _PATIENCE
        while self.study.is_busy(spec):
            if time.monotonic() > patience or self.signal:
                return None, f"another process is still writing in {self.study.folder(spec)}"
            time.sleep(0.5)
        self.study.begin(spec)
        step = self.study.next_step(spec)
        while step is not None and not self.signal:
            started, checkpoint = time.monotonic(), _checkpoint(step)
            console = self.study.console_folder(spec, step) / CONSOLE
            start = console.stat().st_size if console.exists() else 0
            self.process = start_process(self.study.plan.bundle, step, console, _threads())
            if self.signal:  # it came while the process began
                self.process.kill()
            status = self.process.wait()
            if status == 0:
                self.study.end(spec, step, time.monotonic() - started)
            following = self.study.next_step(spec)
            self.gained = self.gained or following != step or _checkpoint(step) != checkpoint
            if status or following == step:
                killed = "; a process that ran out of memory is killed so: ask for more `mem`" if status == -9 else ""
                words = f"{step.name} ended with status {status}{killed}: {last_error(console, start)}"
                return step, f"{words} (all of it: {console})"
            step = following
        return None, ""

    def _requeue(self) -> str:
        """Go back into the queue and end here; return why not."""
        limit = self.signal == signal.SIGUSR2
        if limit and not self.gained:
            return "the time limit comes before the run gets any further: ask for more `time`, or save more often"
        try:
            # a task that goes on for Slurm makes room for another; cancelled, or put back already, it does not go on
            if limit or _slurm("squeue", "--noheader", "--format=%T", f"--jobs={_job()}").strip() == "RUNNING":
                _slurm("scontrol", "requeue", _job())
        except (OSError, subprocess.SubprocessError) as error:
            words = getattr(error, "stderr", None) or error
            return f"Slurm stops the task, and it cannot go back into the queue: {' '.join(str(words).split())}"
        sys.exit(128 + self.signal)


def _checkpoint(step: Step) -> int | None:
    path = step.folder / RunFiles.RESUME
    return path.stat().st_mtime_ns if path.exists() else None


def _job() -> str:
    """What Slurm calls the task; for the last task of an array ``SLURM_JOB_ID`` would mean all of them."""
    names = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
    return "_".join(os.environ[name] for name in names if name in os.environ) or os.environ.get("SLURM_JOB_ID", "")


def _slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8", timeout=60).stdout


def _threads() -> int:
    """Processor cores that Slurm gives the task; where it does not bind tasks to them, one sees all of the node's."""
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE", "")
    return max(1, int(given)) if given.isdigit() else available_cores()
