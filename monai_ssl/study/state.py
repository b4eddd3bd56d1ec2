"""How far each run of a study is, read from the disk alone, so that a kill at any moment loses nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.study.plan import Plan, RunSpec
from monai_ssl.study.record import RunRecord, digest
from monai_ssl.study.splits import HELD_OUT, split_path
from monai_ssl.study.words import budget_words
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["Step", "Study"]

# settings of the training that its evaluation must share
_SHARED = ("device", "tolerance_mm")


@dataclass(frozen=True)
class Step:
    """One process of a run: ``train``, ``validation`` or ``test``."""

    name: str
    configs: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
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
        if not split[ListParts.UNLABELED] and self._needs_unlabeled(spec):
            return f"{budget_words(spec.budget)} leave no unlabelled case"
        return ""

    def counts(self, spec: RunSpec) -> dict[str, int]:
        """Cases that a run sees: ``labels`` with those that choose its checkpoint, and ``unlabeled``."""
        counts = self.splits[split_path(spec)]["split"]["counts"]
        own = counts[ListParts.VALIDATION] if spec.method.checkpoint == "chosen" else 0
        return {"labels": counts[ListParts.TRAINING] + own, "unlabeled": counts[ListParts.UNLABELED]}

    def folder(self, spec: RunSpec) -> Path:
        """Where a run lies."""
        return self.output / spec.folder

    def training(self, spec: RunSpec) -> RunSpec:
        """The run that trains for this one: runs that differ in their evaluation alone share a training.

        It is that of the method without an evaluation of its own, else of the first, so that a method added to the plan
        leaves it where it is.
        """
        sharing = [method for method in self.plan.methods if method.trains_as(spec.method)]
        method = min(sharing, key=lambda method: bool(method.evaluation))
        return RunSpec(spec.budget, method, spec.seed)

    def training_folder(self, spec: RunSpec) -> Path:
        """Where a run's training lies."""
        return self.folder(self.training(spec))

    def metrics(self, spec: RunSpec, part: str = ListParts.TEST) -> Path:
        """Where the figures of a run lie."""
        return self.folder(spec) / part / RunFiles.METRICS

    def parts(self, spec: RunSpec) -> tuple[str, ...]:
        """The parts of the data list that a run is scored on, the test last."""
        screen = self.plan.screen
        screened = screen is not None and spec.budget == screen.budget and spec.seed in screen.seeds
        chosen = (str(ListParts.VALIDATION),) if screened and self.screens_on_validation else ()
        return (*chosen, str(ListParts.TEST))

    def is_finished(self, spec: RunSpec) -> bool:
        """Whether a run has all its figures.

        Raises:
            UserError: when they are of other settings than the plan's.
        """
        finished = all(self.metrics(spec, part).is_file() for part in self.parts(spec))
        if finished:
            self.record(spec).check()
        return finished

    def is_busy(self, spec: RunSpec) -> bool:
        """Whether a process still writes in the run's folder, such as one whose study was killed."""
        parts = (self.folder(spec) / part for part in self.parts(spec))
        for folder in (self.training_folder(spec), self.folder(spec), *parts):
            if (folder / RunFiles.LOCK).exists():
                try:
                    FolderLock(folder).release()
                except UserError:
                    return True
        return False

    def begin(self, spec: RunSpec) -> None:
        """Make the folders of the run and of its training, and note what they are.

        Raises:
            UserError: when the folder holds a run of other settings, or the bundle has changed meanwhile.
        """
        if Study(self.plan, self.output, self.splits)._configs != self._configs:
            raise UserError(f"{self.plan.bundle}: the configs have changed since the study was started: restore them.")
        for one in (self.training(spec), spec):
            self.record(one).begin()

    def next_step(self, spec: RunSpec) -> Step | None:
        """The process that a run needs next; ``None`` when it is finished. The test comes at the very end."""
        folder, plan = self.training_folder(spec), self.plan
        if not self.record(self.training(spec)).trained:
            switch = "resume" if (folder / RunFiles.RESUME).exists() else "overwrite"
            return self.training_step(spec, folder, self.output / split_path(spec), {switch: True})
        settings = {**plan.settings, **spec.method.settings}
        shared = {name: settings[name] for name in _SHARED if name in settings}
        evaluation = {**shared, **plan.evaluation, **spec.method.evaluation, "weights": folder / RunFiles.MODEL}
        cases = {"dataset_dir": plan.data.parent, "datalist": self.output / HELD_OUT}
        for part in self.parts(spec):
            if not self.metrics(spec, part).is_file():
                own = {"part": part, "output_dir": self.folder(spec) / part}
                return Step(part, ("evaluate.yaml",), {**evaluation, **cases, **own})
        return None

    def training_step(self, spec: RunSpec, folder: Path, datalist: Path, settings: Mapping[str, Any]) -> Step:
        """The process that trains.

        Args:
            spec: the run.
            folder: its output.
            datalist: its data list.
            settings: over those of the plan, the method and the study.
        """
        plan, method = self.plan, spec.method
        own: dict[str, Any] = {"dataset_dir": plan.data.parent, "datalist": datalist, "output_dir": folder}
        own |= {"seed": spec.seed, "max_steps": plan.steps}
        if method.checkpoint != "last":
            own["checkpoint"] = method.checkpoint
        configs = ("train.yaml", f"methods/{method.method}.yaml")
        return Step("train", configs, {**plan.settings, **method.settings, **own, **settings})

    def end(self, spec: RunSpec, step: Step, seconds: float) -> None:
        """Note that a process ended well, and how long it took."""
        self.record(self.training(spec) if step.name == "train" else spec).end(step.name, seconds)

    def record(self, spec: RunSpec) -> RunRecord:
        """What is noted of a run."""
        return RunRecord(self.folder(spec), self._fingerprint(spec))

    def _fingerprint(self, spec: RunSpec) -> dict[str, str]:
        method = spec.method
        files = ("train.yaml", "evaluate.yaml", f"methods/{method.method}.yaml")
        parts = {
            "data list": self.splits[split_path(spec)],
            "settings": [self.plan.settings, method.settings, self.plan.evaluation, method.evaluation],
            "steps or seed": [self.plan.steps, spec.seed],
            **({} if method.checkpoint == "last" else {"checkpoint": method.checkpoint}),
            **{f"{self.plan.bundle.name}/configs/{name}": self._config_digests[name] for name in files},
        }
        return {name: digest(part) for name, part in parts.items()}

    def _needs_unlabeled(self, spec: RunSpec) -> bool:
        method = spec.method
        configs = self._configs[f"methods/{method.method}.yaml"], self._configs["train.yaml"]
        sizes = [part.get("unlabeled_batch_size") for part in (method.settings, self.plan.settings, *configs)]
        return str(next((size for size in sizes if size is not None), 1)) != "0"

    @cached_property
    def _configs(self) -> dict[str, dict[str, Any]]:
        folder = self.plan.bundle / "configs"
        names = {"train.yaml", "evaluate.yaml", *(f"methods/{method.method}.yaml" for method in self.plan.methods)}
        return {name: yaml.safe_load((folder / name).read_text(encoding="utf-8")) for name in names}

    @cached_property
    def _config_digests(self) -> dict[str, str]:
        return {name: digest(content) for name, content in self._configs.items()}
