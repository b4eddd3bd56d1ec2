"""Carries out runs of a study, several at once, each in its own folder and process."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai_ssl.study.plan import RunSpec
from monai_ssl.study.pretraining import PRETRAIN_STEP, pretrain_specs
from monai_ssl.study.process import CONSOLE, last_error, start_process
from monai_ssl.study.progress import StudyProgress, steps_in
from monai_ssl.study.state import Study
from monai_ssl.study.steps import Step
from monai_ssl.utils.errors import UserError

__all__ = ["Failure", "available_cores", "not_trained", "run_grid"]

_POLL = 0.05  # seconds
_REFRESH = 1.0  # seconds between updates of the progress bar


@dataclass(frozen=True)
class Failure:
    """A run that did not end well, and why."""

    spec: RunSpec
    reason: str


@dataclass
class _Job:
    spec: RunSpec
    step: Step
    process: subprocess.Popen[bytes]
    console_start: int
    started: float


@dataclass
class _Grid:
    """The runs that wait, go on and failed."""

    study: Study
    jobs: int
    say: Callable[[str], None]
    done: Callable[[], object]
    progress: StudyProgress
    specs: Sequence[RunSpec]
    waiting: list[RunSpec]
    active: list[_Job] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    reasons: dict[Path, str] = field(default_factory=dict)  # of failures, by the folder of the training
    known_failures: int = -1  # when those that wait for a training were last looked at

    def fill(self) -> None:
        """Start runs while there is room; one whose folder, training or pretraining another process is at waits.

        So does one whose cases are chosen by a model that has not trained.
        """
        taken: set[Path] | None = None
        for spec in list(self.waiting):
            if len(self.active) >= self.jobs:
                return
            if taken is None:
                taken = set().union(*(self.study.claims(job.spec) for job in self.active))
            waits = self.study.waits_for_round(spec) is not None
            if waits or self.study.places(spec) & taken or self.study.is_busy(spec):
                continue
            self.waiting.remove(spec)
            try:
                self.study.begin(spec)
            except (UserError, OSError) as error:
                self.fail(spec, str(error))
            else:
                self.go_on(spec)
                taken = None

    def go_on(self, spec: RunSpec) -> None:
        """Start a run's next process, or count the run as finished."""
        try:
            step = self.study.next_step(spec)
        except UserError as error:
            self.fail(spec, str(error))
            return
        if step is None:
            self.progress.end_run()
            self.say(f"finished: {spec.name}")
            self.done()
            return
        console = self.study.console_folder(spec, step) / CONSOLE
        start = console.stat().st_size if console.exists() else 0
        threads = max(1, available_cores() // self.jobs)
        process = start_process(self.study.plan.bundle, step, console, threads)
        self.active.append(_Job(spec, step, process, start, time.monotonic()))

    def collect(self) -> None:
        """Take up the processes that have ended."""
        for job in list(self.active):
            status = job.process.poll()
            if status is None:
                continue
            self.active.remove(job)
            try:
                if status == 0:
                    self.study.end(job.spec, job.step, time.monotonic() - job.started)
                gained = status == 0 and self.study.next_step(job.spec) != job.step
            except (UserError, OSError) as error:
                self.fail(job.spec, str(error))
                continue
            if gained:
                self.go_on(job.spec)
            else:
                console = self.study.console_folder(job.spec, job.step) / CONSOLE
                reason = last_error(console, job.console_start)
                reason = f"{job.step.name} ended with status {status}: {reason} (all of it: {console})"
                self.fail(job.spec, reason)
                if job.step.name == PRETRAIN_STEP:
                    self.fail_waiting(job.step.folder, reason)

    def fail_waiting(self, pretraining: Path, reason: str) -> None:
        """Let the runs that wait for a pretraining fail with it, rather than repeat it one after another."""
        for spec in [spec for spec in self.waiting if pretraining in self.study.claims(spec)]:
            self.waiting.remove(spec)
            self.fail(spec, reason)

    def fail_stranded(self) -> None:
        """Let the runs fail whose cases the model of a failed run would choose, and those that wait for them."""
        if self.known_failures == len(self.failures):
            return
        self.known_failures = len(self.failures)
        for spec, before in self.study.stranded([*self.waiting, *(job.spec for job in self.active)]):
            self.waiting.remove(spec)
            self.fail(spec, self.reasons.get(self.study.training_folder(before), not_trained(before)))

    def fail(self, spec: RunSpec, reason: str) -> None:
        """Note a failure and say so; the other runs go on."""
        self.failures.append(Failure(spec, reason))
        self.reasons[self.study.training_folder(spec)] = reason
        self.progress.end_run()
        self.say(f"failed: {spec.name}: {reason}")

    def show(self) -> None:
        """Update the progress bar by the tables that the trainings write."""
        steps = steps_in({self.study.training_folder(job.spec) for job in self.active})
        pretrained = steps_in(self.study.output / one.folder for one in pretrain_specs(self.specs))
        self.progress.update([f"{job.spec.name} ({job.step.name})" for job in self.active], steps, pretrained)

    def stop(self) -> None:
        """End what goes on; files are written whole or not at all, so nothing breaks."""
        for job in self.active:
            job.process.kill()
        for job in self.active:
            job.process.wait()


def run_grid(
    study: Study,
    specs: Sequence[RunSpec],
    *,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
    done: Callable[[], object] = lambda: None,
) -> list[Failure]:
    """Carry out the runs that are not finished; a failed one is told, and the rest goes on.

    A run that was stopped goes on at its last checkpoint. Stopping this function, by whatever means, stops its runs.

    Args:
        study: the study; its data lists are written.
        specs: the runs in their order.
        jobs: how many to carry out at once; each gets its share of the processor's cores.
        say: gets a line when a run ends.
        done: called when a run has finished.

    Returns:
        The runs that failed.

    Raises:
        UserError: when ``jobs`` is below 1, or a finished run is of other settings than the plan's.
    """
    if jobs < 1:
        raise UserError(f"`jobs` must be 1 or more runs at once, got {jobs}.")
    waiting = [spec for spec in specs if not study.is_finished(spec)]
    if not waiting:
        return []
    pretraining = sum(one.pretraining.steps for one in pretrain_specs(specs))
    with StudyProgress(len(specs), study.plan.steps, len(specs) - len(waiting), pretraining) as progress:
        grid = _Grid(study, jobs, say, done, progress, specs, waiting)
        try:
            shown = 0.0
            while grid.waiting or grid.active:
                grid.collect()
                grid.fail_stranded()
                grid.fill()
                if time.monotonic() - shown > _REFRESH:
                    grid.show()
                    shown = time.monotonic()
                time.sleep(_POLL)
        finally:
            grid.stop()
    return sorted(grid.failures, key=lambda failure: list(specs).index(failure.spec))


def not_trained(before: RunSpec) -> str:
    """Why a run fails that waits for one which has not trained, and does not now."""
    return f"its cases are chosen by the model of {before.name}, which has not trained"


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
