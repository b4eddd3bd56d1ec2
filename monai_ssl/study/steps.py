"""The processes of a run: which configs of the bundle, with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ssl.data.exclude import names_of
from monai_ssl.networks.student import has_teacher
from monai_ssl.study.data_check import unchecked
from monai_ssl.study.plan import EXCLUDE, Method, Plan, RunSpec
from monai_ssl.study.pretraining import PRETRAIN_STEP, PretrainSpec
from monai_ssl.study.rounds import SUGGEST_CONFIG, SUGGEST_STEP
from monai_ssl.utils.keys import RunFiles

__all__ = [
    "Step",
    "evaluation_settings",
    "evaluation_step",
    "left_to_exclude",
    "pretraining_step",
    "suggestion_step",
    "switch",
    "training_step",
]

# settings of a training that the processes after it must share; others of the same name mean something else there
_SHARED = ("device", "tolerance_mm", "iou_threshold", "coordinates")


@dataclass(frozen=True)
class Step:
    """One process of a run: ``pretrain``, ``suggest``, ``train``, ``validation`` or ``test``.

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


def pretraining_step(
    plan: Plan, pretraining: PretrainSpec, folder: Path, datalist: Path, settings: Mapping[str, Any]
) -> Step:
    """The process that pretrains, on the device of the plan's settings unless it has one of its own.

    Args:
        plan: the plan.
        pretraining: the pretraining.
        folder: its output.
        datalist: its data list.
        settings: over its own and those of the study.
    """
    asked = pretraining.pretraining
    own = {**_places(plan, datalist, folder), "seed": pretraining.seed, "max_steps": asked.steps}
    own |= unchecked(asked.bundle)
    shared = _shared(plan.settings, "device")
    given = left_to_exclude(plan, asked.settings)
    return Step(PRETRAIN_STEP, asked.configs, {**shared, **given, **own, **settings}, asked.bundle)


def suggestion_step(plan: Plan, spec: RunSpec, folder: Path, datalist: Path, before: Path, count: int) -> Step:
    """The process that chooses cases; where a run has a teacher, its student says what it is unsure of, too.

    Args:
        plan: the plan.
        spec: the run that gets them.
        folder: its output.
        datalist: the list of :func:`~monai_ssl.study.rounds.pool_list`.
        before: where the training of the round before lies.
        count: number of cases.

    Raises:
        UserError: when the checkpoint of the round before cannot be read.
    """
    resume = before / RunFiles.RESUME
    own = {
        **_places(plan, datalist, folder),
        "weights": before / RunFiles.MODEL,
        **({"student": resume} if has_teacher(resume) else {}),
        "strategy": spec.method.acquisition,
        "count": count,
        "seed": spec.seed,
        "overwrite": True,
    }
    shared = _shared({**plan.settings, **spec.method.settings}, "device")
    return Step(SUGGEST_STEP, (SUGGEST_CONFIG,), {**shared, **own})


def training_step(
    plan: Plan, spec: RunSpec, folder: Path, datalist: Path, pretrained: Path | None, settings: Mapping[str, Any]
) -> Step:
    """The process that trains.

    Args:
        plan: the plan.
        spec: the run.
        folder: its output.
        datalist: its data list.
        pretrained: weights that it starts from, if it starts from any of the study.
        settings: over those of the plan, the method and the study.
    """
    method = spec.method
    own = {**_places(plan, datalist, folder), "seed": spec.seed, "max_steps": plan.steps, **unchecked(plan.bundle)}
    own |= {} if method.checkpoint == "last" else {"checkpoint": method.checkpoint}
    own |= {} if pretrained is None else {"pretrained": pretrained}
    configs = ("train.yaml", f"methods/{method.method}.yaml")
    asked = left_to_exclude(plan, {**plan.settings, **method.settings})
    return Step("train", configs, {**asked, **own, **settings})


def evaluation_step(plan: Plan, spec: RunSpec, part: str, folder: Path, datalist: Path, weights: Path) -> Step:
    """The process that scores a model.

    Args:
        plan: the plan.
        spec: the run.
        part: of the data list.
        folder: its output.
        datalist: the data list.
        weights: of the model.
    """
    own = {**_places(plan, datalist, folder), "weights": weights, "part": part}
    return Step(part, ("evaluate.yaml",), {**evaluation_settings(plan, spec.method), **own})


def evaluation_settings(plan: Plan, method: Method | None = None) -> dict[str, Any]:
    """Return what an evaluation is set to, apart from its files: by a plan alone, or by a method of it, too.

    Args:
        plan: the plan.
        method: one of its rows.
    """
    training = {**plan.settings, **(method.settings if method else {})}
    return {**_shared(training, *_SHARED), **plan.evaluation, **(method.evaluation if method else {})}


def left_to_exclude(plan: Plan, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that exclude no case by a name that the plan excludes, whose lists are without it already.

    Args:
        plan: the plan.
        settings: of a training.
    """
    gone = names_of(plan.settings.get(EXCLUDE))
    names = [name for name in names_of(settings.get(EXCLUDE)) if name not in gone]
    return {**{key: value for key, value in settings.items() if key != EXCLUDE}, **({EXCLUDE: names} if names else {})}


def switch(folder: Path) -> dict[str, bool]:
    """The setting with which a training goes on where it is, or begins."""
    return {"resume" if (folder / RunFiles.RESUME).exists() else "overwrite": True}


def _places(plan: Plan, datalist: Path, folder: Path) -> dict[str, Any]:
    return {"dataset_dir": plan.data.parent, "datalist": datalist, "output_dir": folder}


def _shared(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names if name in settings}
