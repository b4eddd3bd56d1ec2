"""How far each run of a study is, read from the disk alone, so that a kill at any moment loses nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.data.leaks import check_leaks
from monai_ssl.study.plan import Plan, RunSpec
from monai_ssl.study.pretraining import PRETRAIN_STEP, PRETRAINING_LIST, PretrainSpec, pretrain_spec
from monai_ssl.study.record import RunRecord, digest
from monai_ssl.study.splits import HELD_OUT, split_path
from monai_ssl.study.words import budget_words
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["Step", "Study"]

# settings of the training that its evaluation must share
_SHARED = ("device", "tolerance_mm", "iou_threshold", "coordinates")


@dataclass(frozen=True)
class Step:
    """One process of a run: ``pretrain``, ``train``, ``validation`` or ``test``.

    Attributes:
        name: as above.
        configs: files below ``configs/`` of its bundle.
        settings: over those files.
        bundle: its bundle, where that is not the plan's.
    """

    name: str
    configs: tuple[str, ...]
    settings: Mapping[str, Any]
    bundle: Path | None = None

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return Path(self.settings["output_dir"])


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

    def is_pretrained(self, pretraining: PretrainSpec) -> bool:
        """Whether a pretraining has ended and its weights are there."""
        folder = self.output / pretraining.folder
        return _trained(folder) and (folder / RunFiles.MODEL).is_file()

    def waits_for(self, spec: RunSpec) -> PretrainSpec | None:
        """The pretraining that must end before a run can train; ``None`` where nothing is left to wait for."""
        pretraining = pretrain_spec(spec)
        if pretraining is None or _trained(self.training_folder(spec)) or self.is_pretrained(pretraining):
            return None
        return pretraining

    def places(self, spec: RunSpec) -> set[Path]:
        """Folders of a run in which one process at a time may be: of its training and its pretraining."""
        pretraining = pretrain_spec(spec)
        return {self.training_folder(spec), *([self.output / pretraining.folder] if pretraining else [])}

    def claims(self, spec: RunSpec) -> set[Path]:
        """Those :meth:`places` that a run which goes on keeps from others: a pretraining that has ended is free."""
        pretraining = self.waits_for(spec)
        return {self.training_folder(spec), *([self.output / pretraining.folder] if pretraining else [])}

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
        for folder in (*self.claims(spec), self.folder(spec), *parts):
            if (folder / RunFiles.LOCK).exists():
                try:
                    FolderLock(folder).release()
                except UserError:
                    return True
        return False

    def begin(self, spec: RunSpec) -> None:
        """Make the folders of a run, its training and the pretraining that it waits for, and note what they are.

        Raises:
            UserError: when a folder holds a run of other settings, a bundle has changed meanwhile, or an image that
                would be pretrained on is, by another path, one of the test or validation.
        """
        now = Study(self.plan, self.output, self.splits)._configs
        for path, content in self._configs.items():
            if now[path] != content:
                raise UserError(f"{path}: the configs have changed since the study was started: restore them.")
        pretraining = self.waits_for(spec)
        if pretraining is not None:
            check_leaks(self.output / HELD_OUT, self.plan.data.parent)
            self.pretraining_record(pretraining).begin()
        for one in (self.training(spec), spec):
            self.record(one).begin()

    def next_step(self, spec: RunSpec) -> Step | None:
        """The process that a run needs next; ``None`` when it is finished. The test comes at the very end."""
        folder, plan = self.training_folder(spec), self.plan
        pretraining = self.waits_for(spec)
        if pretraining is not None:
            into = self.output / pretraining.folder
            return self.pretraining_step(pretraining, into, self.output / PRETRAINING_LIST, _switch(into))
        if not self.record(self.training(spec)).trained:
            return self.training_step(spec, folder, self.output / split_path(spec), _switch(folder))
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
        pretraining = pretrain_spec(spec)
        if pretraining is not None:
            own["pretrained"] = self.output / pretraining.folder / RunFiles.MODEL
        configs = ("train.yaml", f"methods/{method.method}.yaml")
        return Step("train", configs, {**plan.settings, **method.settings, **own, **settings})

    def pretraining_step(
        self, pretraining: PretrainSpec, folder: Path, datalist: Path, settings: Mapping[str, Any]
    ) -> Step:
        """The process that pretrains, on the device of the plan's settings unless it has one of its own.

        Args:
            pretraining: the pretraining.
            folder: its output.
            datalist: its data list.
            settings: over its own and those of the study.
        """
        asked = pretraining.pretraining
        shared = {name: self.plan.settings[name] for name in ("device",) if name in self.plan.settings}
        own: dict[str, Any] = {"dataset_dir": self.plan.data.parent, "datalist": datalist, "output_dir": folder}
        own |= {"seed": pretraining.seed, "max_steps": asked.steps}
        return Step(PRETRAIN_STEP, asked.configs, {**shared, **asked.settings, **own, **settings}, asked.bundle)

    def end(self, spec: RunSpec, step: Step, seconds: float) -> None:
        """Note that a process ended well, and how long it took."""
        pretraining = pretrain_spec(spec)
        if step.name == PRETRAIN_STEP and pretraining is not None:
            self.pretraining_record(pretraining).end(step.name, seconds)
        else:
            self.record(self.training(spec) if step.name == "train" else spec).end(step.name, seconds)

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
            **self._config_digests(asked.bundle, asked.configs),
        }
        return RunRecord(self.output / pretraining.folder, {name: digest(part) for name, part in parts.items()})

    def _fingerprint(self, spec: RunSpec) -> dict[str, str]:
        method, pretraining = spec.method, pretrain_spec(spec)
        files = ("train.yaml", "evaluate.yaml", f"methods/{method.method}.yaml")
        parts = {
            "data list": self.splits[split_path(spec)],
            "settings": [self.plan.settings, method.settings, self.plan.evaluation, method.evaluation],
            "steps or seed": [self.plan.steps, spec.seed],
            **({} if method.checkpoint == "last" else {"checkpoint": method.checkpoint}),
            **({} if pretraining is None else {"pretraining": self.pretraining_record(pretraining).fingerprint}),
            **self._config_digests(self.plan.bundle, files),
        }
        return {name: digest(part) for name, part in parts.items()}

    def _needs_unlabeled(self, spec: RunSpec) -> bool:
        method = spec.method
        folder = self.plan.bundle / "configs"
        configs = self._configs[folder / f"methods/{method.method}.yaml"], self._configs[folder / "train.yaml"]
        sizes = [part.get("unlabeled_batch_size") for part in (method.settings, self.plan.settings, *configs)]
        return str(next((size for size in sizes if size is not None), 1)) != "0"

    @cached_property
    def _configs(self) -> dict[Path, dict[str, Any]]:
        names = {"train.yaml", "evaluate.yaml", *(f"methods/{method.method}.yaml" for method in self.plan.methods)}
        pretrainings = [method.pretraining for method in self.plan.methods if method.pretraining]
        of_bundles = [(self.plan.bundle, names), *((one.bundle, one.configs) for one in pretrainings)]
        files = {bundle / "configs" / name for bundle, names in of_bundles for name in names}
        return {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in files}

    def _config_digests(self, bundle: Path, names: Iterable[str]) -> dict[str, str]:
        return {f"{bundle.name}/configs/{name}": self._digests[bundle / "configs" / name] for name in names}

    @cached_property
    def _digests(self) -> dict[Path, str]:
        return {path: digest(content) for path, content in self._configs.items()}


def _trained(folder: Path) -> bool:
    return RunRecord(folder, {}).trained


def _switch(folder: Path) -> dict[str, bool]:
    return {"resume" if (folder / RunFiles.RESUME).exists() else "overwrite": True}
