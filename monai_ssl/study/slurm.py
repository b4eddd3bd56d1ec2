"""Carries out runs of a study as a Slurm job array, which goes on in the cluster whatever becomes of the study."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai_ssl.study.grid import Failure, not_trained
from monai_ssl.study.plan import RunSpec, runs
from monai_ssl.study.pretraining import pretrain_specs
from monai_ssl.study.progress import StudyProgress, steps_in
from monai_ssl.study.slurm_queue import TaskState, check_cluster, explain, submit_array, task_states
from monai_ssl.study.slurm_record import (
    OpenTask,
    open_tasks,
    read_failures,
    submission_folder,
    write_failures,
    write_submission,
)
from monai_ssl.study.state import Study
from monai_ssl.utils.errors import UserError

__all__ = ["refuse_open_arrays", "run_array"]

_POLL = 2.0  # seconds between looks at the study's folder
_ASK = (2.0, 30.0)  # seconds between questions to Slurm: at first, later
_LAG = 10.0  # seconds that a file may take from one machine of the cluster to another
_USUAL = {"", "None", "Resources", "Priority", "JobArrayTaskLimit", "BeginTime", "Prolog", "Cleaning"}


@dataclass
class _Arrays:
    """The runs that wait, by their folders below the study's, the tasks that are not over, and what failed."""

    study: Study
    options: Mapping[str, str]
    jobs: int | None
    say: Callable[[str], None]
    done: Callable[[], object]
    progress: StudyProgress
    specs: Sequence[RunSpec]
    waiting: dict[str, RunSpec]
    known: Mapping[str, RunSpec]  # all runs, by the plan as it is now
    tasks: list[OpenTask] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    reasons: dict[Path, str] = field(default_factory=dict)  # of failures, by the folder of the training
    states: Mapping[tuple[str, int], TaskState] = field(default_factory=dict)
    gone: dict[OpenTask, float] = field(default_factory=dict)  # since when Slurm says that they are over
    over: dict[OpenTask, float] = field(default_factory=dict)  # since when their records say so
    told: set[str] = field(default_factory=set)
    pause: float = _ASK[0]
    asked: float = float("-inf")

    def find(self) -> None:
        """Take up the tasks of earlier calls that are not over and hold a training or pretraining that is wanted."""
        wanted = self._claims_of(self.waiting)
        self.tasks = [task for task in open_tasks(self.study.output) if self._claims_of(task.runs) & wanted]
        for array in dict.fromkeys(task.array for task in self.tasks):
            count = sum(task.array == array for task in self.tasks)
            self.say(f"waiting for {count} tasks of job array {array}, which an earlier call submitted")

    def submit(self) -> None:
        """Submit the runs whose training is in no task that goes on; those that share a training are one task.

        Of the runs that wait for the same pretraining one is submitted, which pretrains, and the others when it has;
        a run whose cases a model chooses, when that has trained.
        """
        busy = self._claims_of(run for task in self.tasks for run in task.runs)
        groups: dict[Path, list[str]] = {}
        for run, spec in self.waiting.items():
            training = self.study.training_folder(spec)
            if training in groups:
                groups[training].append(run)
            elif not self.study.places(spec) & busy and self.study.waits_for_round(spec) is None:
                groups[training] = [run]
                busy |= self.study.claims(spec)
        if not groups:
            return
        name, tasks = f"monai-ssl-{uuid.uuid4().hex[:12]}", list(groups.values())
        folder = submission_folder(self.study.output, name)
        write_submission(folder, "", tasks)  # a study that dies here finds its job by the name
        try:
            job = submit_array(folder, name, len(tasks), self.options, self.jobs)
        except UserError as error:
            if "timed out" not in str(error):  # else Slurm may have the job all the same
                shutil.rmtree(folder)
            raise
        write_submission(folder, job, tasks)
        self.tasks += [OpenTask(folder, index, job, tuple(names)) for index, names in enumerate(tasks)]
        self.pause = _ASK[0]
        count = sum(len(names) for names in tasks)
        self.say(f"submitted job array {job}: {count} runs in {len(tasks)} tasks; `scancel {job}` would end them")

    def collect(self) -> None:
        """Take up the runs that have finished, and the tasks that are over."""
        for task in list(self.tasks):
            failures = read_failures(task.folder, task.index)
            if failures is None and self._is(task, "PENDING"):
                continue
            left = [run for run in task.runs if run in self.waiting]
            for run in [run for run in left if self.study.is_finished(self.waiting[run])]:
                left.remove(run)
                self._end(run, "finished")
                self.done()
            if failures is None:
                continue
            late = time.monotonic() > self.over.setdefault(task, time.monotonic()) + _LAG
            if late or all(run in failures for run in left):
                self.tasks.remove(task)
                why = {run: failures.get(run, "its task is over, but its figures are not here") for run in left}
                for run, reason in (why | self._held_back(why)).items():
                    self._fail(run, reason)

    def fail_stranded(self) -> None:
        """Let the runs fail whose cases the model of a failed run would choose, and those that wait for them."""
        while stranded := self.study.stranded(list(self.waiting.values())):
            for spec, before in stranded:
                reason = self.reasons.get(self.study.training_folder(before), not_trained(before))
                self._fail(str(spec.folder), reason)

    def ask(self) -> None:
        """Ask Slurm now and then how the tasks fare, and close those that it says are over or knows no more."""
        now = time.monotonic()
        if not self.tasks or now < self.asked + self.pause:
            return
        self.asked, self.pause = now, min(2 * self.pause, _ASK[1])
        states = task_states({task.folder.name for task in self.tasks})
        if states is None:
            self._tell("Slurm does not answer; waiting for it")
            return
        self.states = states
        for task in self.tasks:
            state = states.get((task.folder.name, task.index))
            if state is not None and not state.is_over:
                self.gone.pop(task, None)
                if state.name == "PENDING" and state.reason not in _USUAL:
                    self._tell(f"job array {task.array} is pending: {state.reason}")
                continue
            self.pause = min(self.pause, _LAG)
            late = now >= self.gone.setdefault(task, now) + _LAG
            if late and read_failures(task.folder, task.index) is None:
                reason = explain(task.folder, task.array, task.index, state)
                write_failures(task.folder, task.index, dict.fromkeys(task.runs, reason))

    def show(self) -> None:
        """Update the progress bar by the tables that the trainings write."""
        running = [task for task in self.tasks if self._is(task, "RUNNING")]
        runs = [run for task in running for run in task.runs if run in self.waiting]
        steps = steps_in({self.study.training_folder(self.waiting[run]) for run in runs})
        pretrained = steps_in(self.study.output / one.folder for one in pretrain_specs(self.specs))
        pending = sum(self._is(task, "PENDING") for task in self.tasks)
        self.progress.update([f"{len(running)} tasks are running, {pending} pending"], steps, pretrained)

    def leave(self) -> None:
        """Say what goes on without the study."""
        for array in dict.fromkeys(task.array for task in self.tasks):
            self.say(f"job array {array} goes on in the cluster; the same command waits for it, scancel would end it")

    def _claims_of(self, names: Iterable[str]) -> set[Path]:
        return set().union(*(self.study.claims(self.known[run]) for run in names if run in self.known))

    def _held_back(self, failed: Mapping[str, str]) -> dict[str, str]:
        """The runs that wait for a pretraining that failed, which they would repeat one after another, and why."""
        reasons = {
            self.study.output / pretraining.folder: reason
            for run, reason in failed.items()
            if (pretraining := self.study.waits_for(self.waiting[run])) is not None
        }
        claims = {run: self.study.claims(spec) & reasons.keys() for run, spec in self.waiting.items()}
        return {run: reasons[folder] for run, folders in claims.items() for folder in folders}

    def _is(self, task: OpenTask, name: str) -> bool:
        state = self.states.get((task.folder.name, task.index))
        return state is not None and state.name == name

    def _fail(self, run: str, reason: str) -> None:
        spec = self.waiting[run]
        self.failures.append(Failure(spec, reason))
        self.reasons[self.study.training_folder(spec)] = reason
        self._end(run, "failed", f": {reason}")

    def _end(self, run: str, how: str, why: str = "") -> None:
        self.progress.end_run()
        self.say(f"{how}: {self.waiting.pop(run).name}{why}")

    def _tell(self, line: str) -> None:
        if line not in self.told:
            self.told.add(line)
            self.say(line)


def run_array(
    study: Study,
    specs: Sequence[RunSpec],
    *,
    slurm: Mapping[str, str],
    jobs: int | None = None,
    say: Callable[[str], None] = lambda line: None,
    done: Callable[[], object] = lambda: None,
) -> list[Failure]:
    """Carry out the runs that are not finished as a Slurm job array, and wait for it.

    Stopping this function, by whatever means, stops no run: the next call waits for those that are pending or running
    and submits the rest. A task that was cancelled, ran out of time or memory or lost its node is a failure, and failed
    runs are tried again by the next call. One that Slurm puts back into its queue goes on at its checkpoint. Runs that
    share a pretraining are submitted when it has ended, but for the one that pretrains, and a run whose cases a model
    chooses when that has trained.

    Args:
        study: the study; its plan and its data lists are written.
        specs: the runs in their order.
        slurm: options of ``sbatch``, as :func:`~monai_ssl.study.slurm_queue.slurm_options` returns them.
        jobs: most tasks of an array at once; ``None``: as many as the cluster gives.
        say: gets a line when a run ends, and what becomes of the arrays.
        done: called when a run has finished.

    Returns:
        The runs that failed.

    Raises:
        UserError: when ``jobs`` is below 1, when nothing can be submitted from here, or a finished run is of other
            settings than the plan's.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"`jobs` must be 1 or more runs at once, got {jobs}.")
    waiting = {str(spec.folder): spec for spec in specs if not study.is_finished(spec)}
    if not waiting:
        return []
    check_cluster()
    known = {str(spec.folder): spec for spec in runs(study.plan)}
    pretraining = sum(one.pretraining.steps for one in pretrain_specs(specs))
    with StudyProgress(len(specs), study.plan.steps, len(specs) - len(waiting), pretraining) as progress:
        arrays = _Arrays(study, slurm, jobs, say, done, progress, specs, waiting, known)
        arrays.find()
        try:
            arrays.submit()
            while arrays.waiting:
                arrays.ask()
                arrays.collect()
                arrays.fail_stranded()
                arrays.show()
                arrays.submit()
                time.sleep(_POLL if arrays.waiting else 0.0)
        except BaseException:
            arrays.leave()
            raise
    return sorted(arrays.failures, key=lambda failure: list(specs).index(failure.spec))


def refuse_open_arrays(study: Study) -> None:
    """Demand that no job array of this study is left in the cluster, before its runs are carried out elsewhere.

    Args:
        study: the study.

    Raises:
        UserError: naming the array, and how to wait for it or end it.
    """
    tasks = list(open_tasks(study.output))
    states = (task_states({task.folder.name for task in tasks}) if tasks else None) or {}
    for task in tasks:
        state = states.get((task.folder.name, task.index))
        if state is not None and not state.is_over:
            raise UserError(
                f"{study.output}: job array {task.array} of this study goes on in the cluster: wait for it with "
                f"`--launcher slurm`, or end it with `scancel --name={task.folder.name}`."
            )
