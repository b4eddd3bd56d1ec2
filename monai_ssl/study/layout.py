"""Where each run of a study lies, and what it is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai_ssl.study.plan import Plan, RunSpec
from monai_ssl.study.pretraining import PRETRAIN_STEP, PRETRAINING_LIST, PretrainSpec, pretrain_spec
from monai_ssl.study.record import RunRecord, digest
from monai_ssl.study.rounds import CASES, SUGGEST_CONFIG, has_chosen_cases, labeling_rounds
from monai_ssl.study.sources import Sources
from monai_ssl.study.splits import HELD_OUT, split_path
from monai_ssl.study.steps import Step
from monai_ssl.study.words import budget_words
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["StudyLayout"]


@dataclass(frozen=True)
class StudyLayout:
    """A plan with the folder that it is carried out in.

    Attributes:
        plan: the plan.
        output: the study's folder, absolute; its data lists are there.
        splits: its data lists, as :func:`~monai_ssl.study.splits.draw_splits` returns them.
    """

    plan: Plan
    output: Path
    splits: Mapping[Path, dict[str, Any]]

    @property
    def screens_on_validation(self) -> bool:
        """Whether the screen chooses by validation cases; else by the test cases."""
        return self.plan.screen is not None and bool(self.splits[HELD_OUT][ListParts.VALIDATION])

    def possible(self, specs: Iterable[RunSpec]) -> list[RunSpec]:
        """Leave out the runs that are :meth:`impossible`."""
        return [spec for spec in specs if not self.impossible(spec)]

    def impossible(self, spec: RunSpec) -> str:
        """Why a run cannot be, in words; empty where it can."""
        split = self.splits.get(split_path(spec))
        if split is None:
            return f"{budget_words(spec.budget)} cannot spare a case for validation"
        if not split[ListParts.UNLABELED] and self._sources.needs_unlabeled(spec.method):
            return f"{budget_words(spec.budget)} leave no unlabelled case"
        return ""

    def counts(self, spec: RunSpec) -> dict[str, int]:
        """Cases that a run sees: ``labels`` with those that choose its checkpoint, and ``unlabeled``.

        They are as many however the labelled ones are chosen.
        """
        counts = self.splits[split_path(spec)]["split"]["counts"]
        own = counts[ListParts.VALIDATION] if spec.method.checkpoint == "chosen" else 0
        return {"labels": counts[ListParts.TRAINING] + own, "unlabeled": counts[ListParts.UNLABELED]}

    def folder(self, spec: RunSpec) -> Path:
        """Where a run lies."""
        return self.output / spec.folder

    def training(self, spec: RunSpec) -> RunSpec:
        """The run that trains for this one: runs that differ in their evaluation alone share a training.

        So do those that differ in how they choose their cases alone, where no case was chosen yet, or none is left. It
        is that of the method without an evaluation of its own, else of the first, so that a method added to the plan
        leaves it where it is.
        """
        alike = spec.budget not in labeling_rounds(self.plan.budgets)[1:]
        sharing = [one for one in self.plan.methods if one.trains_as(spec.method, on_same_cases=alike)]
        method = min(sharing, key=lambda method: bool(method.evaluation))
        return RunSpec(spec.budget, method, spec.seed)

    def training_folder(self, spec: RunSpec) -> Path:
        """Where a run's training lies."""
        return self.folder(self.training(spec))

    def datalist(self, spec: RunSpec) -> Path:
        """Where the data list of a run's training lies; one of chosen cases is there once they are chosen."""
        chosen = has_chosen_cases(self.plan, spec)
        return self.training_folder(spec) / CASES if chosen else self.output / split_path(spec)

    def pretrained(self, spec: RunSpec) -> Path | None:
        """The weights that a run starts from, if it starts from any of the study."""
        pretraining = pretrain_spec(spec)
        return None if pretraining is None else self.output / pretraining.folder / RunFiles.MODEL

    def metrics(self, spec: RunSpec, part: str = ListParts.TEST) -> Path:
        """Where the figures of a run lie."""
        return self.folder(spec) / part / RunFiles.METRICS

    def parts(self, spec: RunSpec) -> tuple[str, ...]:
        """The parts of the data list that a run is scored on, the test last."""
        screen = self.plan.screen
        screened = screen is not None and spec.budget == screen.budget and spec.seed in screen.seeds
        chosen = (str(ListParts.VALIDATION),) if screened and self.screens_on_validation else ()
        return (*chosen, str(ListParts.TEST))

    def console_folder(self, spec: RunSpec, step: Step) -> Path:
        """The folder for what a process of a run prints: the run's, or the pretraining's, which others share."""
        return step.folder if step.name == PRETRAIN_STEP else self.folder(spec)

    def record(self, spec: RunSpec) -> RunRecord:
        """What is noted of a run."""
        return RunRecord(self.folder(spec), self._fingerprint(spec))

    def pretraining_record(self, pretraining: PretrainSpec) -> RunRecord:
        """What is noted of a pretraining."""
        asked = pretraining.pretraining
        parts = {
            "data list": self.splits[PRETRAINING_LIST],
            "settings": asked.settings,
            "steps or seed": [asked.steps, pretraining.seed],
            **self._sources.digests(asked.bundle, asked.configs),
        }
        return RunRecord(self.output / pretraining.folder, {name: digest(part) for name, part in parts.items()})

    def _fingerprint(self, spec: RunSpec) -> dict[str, str]:
        method, pretraining = spec.method, pretrain_spec(spec)
        files, rounds = ["train.yaml", "evaluate.yaml", f"methods/{method.method}.yaml"], {}
        drawn = spec
        if has_chosen_cases(self.plan, spec):
            budgets = labeling_rounds(self.plan.budgets)
            drawn = RunSpec(budgets[0], method, spec.seed)
            rounds = {"acquisition": [method.acquisition, budgets[: budgets.index(spec.budget) + 1]]}
            files.append(SUGGEST_CONFIG)
        parts = {
            "data list": self.splits[split_path(drawn)],
            "settings": [self.plan.settings, method.settings, self.plan.evaluation, method.evaluation],
            "steps or seed": [self.plan.steps, spec.seed],
            **({} if method.checkpoint == "last" else {"checkpoint": method.checkpoint}),
            **({} if pretraining is None else {"pretraining": self.pretraining_record(pretraining).fingerprint}),
            **rounds,
            **self._sources.digests(self.plan.bundle, files),
        }
        return {name: digest(part) for name, part in parts.items()}

    @cached_property
    def _sources(self) -> Sources:
        return Sources(self.plan)
