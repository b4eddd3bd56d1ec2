"""What a study is: its plan, checked, and the runs that follow from it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from monai_ssl.study.measures import measures_of
from monai_ssl.utils.bundle_files import bundle_names, bundle_path

__all__ = [
    "EXCLUDE",
    "Checkpoint",
    "Method",
    "Plan",
    "PretrainSeeds",
    "Pretraining",
    "Primary",
    "RunSpec",
    "Screen",
    "grid_runs",
    "runs",
    "screen_runs",
    "slug",
]

EXCLUDE = "exclude"
"""Setting of a training that leaves cases out; that of the plan leaves them out of the study."""

Checkpoint = Literal["last", "chosen"]
PretrainSeeds = Literal["each", "shared"]


@dataclass(frozen=True)
class Pretraining:
    """What a method starts from: weights that the study pretrains itself, on images alone.

    Attributes:
        bundle: the folder of the bundle that pretrains.
        method: file below its ``configs/methods/``, without its suffix.
        steps: optimiser steps.
        settings: of its training.
        seeds: ``each``: every seed of the study has a pretraining of its own; ``shared``: that of seed 0 serves all.
    """

    bundle: Path
    method: str
    steps: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: PretrainSeeds = "each"

    @property
    def configs(self) -> tuple[str, str]:
        """Files below its bundle's ``configs/``."""
        return ("train.yaml", f"methods/{self.method}.yaml")

    def content(self) -> dict[str, Any]:
        """Plain values without those that are the default."""
        plain = {**vars(self), "bundle": _bundle_text(self.bundle)}
        return {name: value for name, value in plain.items() if value and value != "each"}


@dataclass(frozen=True)
class Method:
    """A row of the study's table.

    Attributes:
        label: its name in the table.
        method: file below the bundle's ``configs/methods/``, without its suffix.
        settings: of its training, over the plan's.
        evaluation: settings of its evaluation, over the plan's.
        checkpoint: ``last``, which trains with the whole budget, or ``chosen`` on validation cases, for which a fifth
            of the budget is set aside.
        pretraining: what it starts from; ``None``: random weights, or what its settings say.
        acquisition: how its labelled cases are chosen: ``random``, or, with the model of the budget before, one of
            :data:`~monai_ssl.study.rounds.ACQUISITIONS`.
    """

    label: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint = "last"
    pretraining: Pretraining | None = None
    acquisition: str = "random"

    def content(self) -> dict[str, Any]:
        """Plain values without those that are the default."""
        plain = {**vars(self), "pretraining": self.pretraining and self.pretraining.content()}
        default = {"checkpoint": "last", "acquisition": "random"}
        return {name: value for name, value in plain.items() if value and value != default.get(name)}

    def trains_as(self, other: Method, *, on_same_cases: bool = False) -> bool:
        """Whether both differ in nothing but their evaluation.

        Args:
            other: the other method.
            on_same_cases: whether the labelled cases are the same, however each would choose them.
        """
        names = ("method", "settings", "checkpoint", "pretraining", *([] if on_same_cases else ["acquisition"]))
        return all(getattr(self, name) == getattr(other, name) for name in names)


@dataclass(frozen=True)
class Primary:
    """The one contrast that is named before anything runs: ``method`` against ``baseline`` at ``budget``, by label."""

    method: str
    baseline: str
    budget: str


@dataclass(frozen=True)
class Screen:
    """The first stage of a staged plan: all methods at ``budget`` with ``seeds``; the ``keep`` best go on."""

    budget: str
    seeds: tuple[int, ...]
    keep: int


@dataclass(frozen=True)
class Plan:
    """A checked plan.

    Attributes:
        bundle: the bundle's folder.
        data: the data list.
        budgets: labelled budgets as text: a number of cases, a percentage, or ``all``.
        methods: the table's rows.
        seeds: each is another labelled subset and another initialisation.
        steps: optimiser steps of every run.
        primary: the contrast named beforehand.
        validation: labelled cases set aside for validation; 0 keeps the list's own.
        test: labelled cases set aside for the test; 0 keeps the list's own.
        metric: one of :data:`~monai_ssl.study.measures.MEASURES` that the bundle gives.
        settings: of every training.
        evaluation: settings of every evaluation.
        screen: the first stage, if the plan is staged.
        patient_regex: see :func:`monai_ssl.data.split.make_split`.
        split_seed: of the draw of validation and test cases.
        margin: loss of the metric that does not matter, for "not worse"; ``None``: not asked.
    """

    bundle: Path
    data: Path
    budgets: tuple[str, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    steps: int
    primary: Primary
    validation: int = 0
    test: int = 0
    metric: str = measures_of("segmentation")[0]
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    screen: Screen | None = None
    patient_regex: str | None = None
    split_seed: int = 0
    margin: float | None = None

    def content(self) -> dict[str, Any]:
        """Return plain values, which :func:`~monai_ssl.study.plan_file.read_plan` reads back as the same plan."""
        screen = self.screen and {**vars(self.screen), "seeds": list(self.screen.seeds)}
        plain = {
            **vars(self),
            "bundle": _bundle_text(self.bundle),
            "data": str(self.data),
            "budgets": list(self.budgets),
            "methods": [method.content() for method in self.methods],
            "seeds": list(self.seeds),
            "primary": vars(self.primary),
            "screen": screen,
        }
        return {name: value for name, value in plain.items() if value not in (None, {})}


@dataclass(frozen=True)
class RunSpec:
    """One training with its evaluation: a place in the grid."""

    budget: str
    method: Method
    seed: int

    @property
    def folder(self) -> Path:
        """Where it lies below the study's folder."""
        return Path("runs") / slug(self.budget) / slug(self.method.label) / f"seed{self.seed}"

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.method.label}, labels {self.budget}, seed {self.seed}"


def slug(text: str) -> str:
    """Return a name for a folder: lower case, ``%`` as ``pct``, everything but letters and digits as ``_``."""
    return re.sub(r"[^a-z0-9.]+", "_", text.lower().replace("%", "pct")).strip("_.")


def _bundle_text(bundle: Path) -> str:
    known = bundle.name in bundle_names() and bundle_path(bundle.name) == bundle
    return bundle.name if known else str(bundle)


def screen_runs(plan: Plan) -> list[RunSpec]:
    """List the runs of the first stage; none where the plan has no screen."""
    if plan.screen is None:
        return []
    return [RunSpec(plan.screen.budget, method, seed) for seed in plan.screen.seeds for method in plan.methods]


def grid_runs(plan: Plan, kept: Collection[str] | None = None) -> list[RunSpec]:
    """List the runs of the grid, seed by seed: wherever a study is stopped, the seeds before are complete.

    Args:
        plan: the plan.
        kept: labels that go on after the screen; ``None``: all.
    """
    methods = [method for method in plan.methods if kept is None or method.label in kept]
    return [RunSpec(budget, method, seed) for seed in plan.seeds for budget in plan.budgets for method in methods]


def runs(plan: Plan, kept: Collection[str] | None = None) -> list[RunSpec]:
    """List all runs in their order, each once: the screen first where there is one, then the grid.

    Args:
        plan: the plan.
        kept: see :func:`grid_runs`.
    """
    by_folder = {spec.folder: spec for spec in [*screen_runs(plan), *grid_runs(plan, kept)]}
    return list(by_folder.values())
