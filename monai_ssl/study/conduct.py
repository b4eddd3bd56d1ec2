"""A whole study, from its plan to its tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from monai_ssl.study.curve_picture import draw_curves
from monai_ssl.study.data_check import check_split
from monai_ssl.study.estimate import describe_estimate, pretrainings_left
from monai_ssl.study.frozen_plan import check_plan, freeze_plan
from monai_ssl.study.grid import Failure, available_cores, run_grid
from monai_ssl.study.plan import RunSpec, grid_runs, runs, screen_runs
from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.pretraining import pretrain_specs
from monai_ssl.study.probe import PROBE_STEPS, probe_pretraining, probe_training
from monai_ssl.study.screen import choose, most_kept
from monai_ssl.study.slurm import refuse_open_arrays, run_array
from monai_ssl.study.slurm_queue import check_cluster
from monai_ssl.study.splits import HELD_OUT, draw_splits, write_splits
from monai_ssl.study.state import Study
from monai_ssl.study.table import write_tables
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock

__all__ = ["StudyResult", "preview_study", "run_study"]


@dataclass(frozen=True)
class StudyResult:
    """What a study leaves behind.

    Attributes:
        content: that of ``study.json``.
        failures: runs that failed; the same call tries them again.
    """

    content: dict[str, Any]
    failures: Sequence[Failure]


def run_study(
    plan: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    slurm: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> StudyResult:
    """Carry out a plan, or go on with it: finished runs are never repeated, stopped ones go on at their checkpoint.

    The folder holds ``plan.yaml`` (the plan, which may only grow), ``splits/`` (see :mod:`monai_ssl.study.splits`),
    ``runs/<budget>/<method>/seed<k>/`` with ``test/metrics.json``, ``pretraining/`` (see
    :mod:`monai_ssl.study.pretraining`) where a method starts from one, and the tables of :mod:`monai_ssl.study.table`,
    which are written anew after every run; at the end ``curve.png`` and ``curve.svg``.

    Args:
        plan: the YAML file; see :mod:`monai_ssl.study.plan_file`.
        output: the study's folder.
        jobs: runs at once; by default one here, and on Slurm what the cluster gives. Other numbers mean other numbers
            of threads, which can change last digits.
        slurm: options of sbatch by name; the runs are then submitted as a job array, which goes on whatever becomes of
            this process. None: the runs are processes of this machine.
        say: gets the estimate before the first run, for which the first steps of each method are timed, and a line
            when a run ends.

    Raises:
        UserError: when the plan or the data has a mistake or has changed, a scan has a fault, another study holds the
            folder, or the runs are on a cluster and shall be carried out here, or there is no Slurm.
    """
    if slurm is not None:
        check_cluster()
    study = _open(plan, output)
    study.output.mkdir(parents=True, exist_ok=True)
    lock = _hold(study.output)
    try:
        if slurm is None:
            refuse_open_arrays(study)
        check_plan(study.plan, study.output)
        _check_data(study)
        freeze_plan(study.plan, study.output)
        write_splits(study.splits, study.output)
        return _carry_out(study, jobs, slurm, say)
    finally:
        lock.release()


def preview_study(
    plan: str | os.PathLike[str], output: str | os.PathLike[str], *, jobs: int | None = None
) -> list[str]:
    """Say what :func:`run_study` would do here, and write nothing.

    Args:
        plan: see :func:`run_study`.
        output: see :func:`run_study`; what is finished there counts.
        jobs: see :func:`run_study`.

    Returns:
        The estimate, then the pretrainings and the runs in their order, as lines for a person.

    Raises:
        UserError: when the plan has a mistake, or the data cannot be split so.
    """
    study = _open(plan, output)
    check_plan(study.plan, study.output)
    listed = study.possible(runs(study.plan, most_kept(study.plan)))
    left = [spec for spec in listed if not study.is_finished(spec)]
    first = pretrainings_left(study, left)
    states = {one.name: one in first for one in pretrain_specs(listed)} | {one.name: one in left for one in listed}
    return [
        *_estimate(study, listed, jobs or 1),
        *(f"{'to do' if to_do else 'finished'}: {name}" for name, to_do in states.items()),
    ]


def _open(plan: str | os.PathLike[str], output: str | os.PathLike[str]) -> Study:
    checked = read_plan(plan)
    study = Study(checked, Path(output).absolute(), draw_splits(checked))
    primary = checked.primary
    for label in (primary.method, primary.baseline):
        specs = [spec for spec in grid_runs(checked, (label,)) if spec.budget == primary.budget]
        reasons = list(filter(None, map(study.impossible, specs)))
        if reasons:
            raise UserError(
                f"{plan}: `primary` has {label} at {primary.budget} labels, which cannot be: {reasons[0]}. Choose "
                "another budget."
            )
    return study


def _hold(folder: Path) -> FolderLock:
    try:
        lock = FolderLock(folder)
    except UserError as error:
        raise UserError(f"{folder}: another study is writing here. Wait for it, or choose another output.") from error
    for stale in (*folder.glob(".*.tmp"), *(folder / "splits").rglob(".*.tmp")):  # of a study that was killed
        stale.unlink(missing_ok=True)
    return lock


def _check_data(study: Study) -> None:
    """Check every scan once, where a run is left to do; the runs themselves then check none."""
    plan = study.plan
    if all(study.is_finished(spec) for spec in study.possible(runs(plan, most_kept(plan)))):
        return
    check_split(study.splits[HELD_OUT], plan.data, plan.bundle, plan.settings, plan.data.parent)


def _estimate(study: Study, listed: Sequence[RunSpec], jobs: int) -> list[str]:
    threads = max(1, available_cores() // jobs)
    # a study of short runs is over before they could be timed
    longest = max([study.plan.steps, *(one.pretraining.steps for one in pretrain_specs(listed))])
    if longest < 20 * PROBE_STEPS:
        return describe_estimate(study, listed, jobs)
    return describe_estimate(
        study,
        listed,
        jobs,
        lambda spec: probe_training(study, spec, threads),
        lambda pretraining: probe_pretraining(study, pretraining, threads),
    )


def _carry_out(
    study: Study, jobs: int | None, slurm: Mapping[str, str] | None, say: Callable[[str], None]
) -> StudyResult:
    plan = study.plan
    listed = study.possible(runs(plan, most_kept(plan)))
    if slurm is None:
        estimate = _estimate(study, listed, jobs or 1)
        launch = partial(run_grid, study, jobs=jobs or 1, say=say)
    else:  # what this machine would take says nothing about the cluster
        estimate = describe_estimate(study, listed, jobs or len(listed))
        launch = partial(run_array, study, slurm=slurm, jobs=jobs, say=say)
    for line in estimate:
        say(line)
    screen = study.possible(screen_runs(plan))
    failures = launch(screen, done=lambda: write_tables(study))
    choice = choose(study)
    if choice is not None:
        say(choice.content()["note"])
    tried = [failure.spec for failure in failures]
    grid = study.possible(spec for spec in grid_runs(plan, choice.kept if choice else None) if spec not in tried)
    failures += launch(grid, done=lambda: write_tables(study, choice))
    content = write_tables(study, choice)
    draw_curves(content, study.output / "curve")
    return StudyResult(content, failures)
