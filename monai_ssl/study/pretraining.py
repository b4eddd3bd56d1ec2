"""The pretraining that a method starts from: on images alone, none of them a validation or test case of the study.

It lies in ``pretraining/<method>_<digest>/seed<k>/`` below the study's folder. The digest is of what it is made from,
so that all budgets, and all methods that ask for the same, share it, whatever is added to the plan later.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.data.entries import channels_of
from monai_ssl.study.plan import Pretraining, RunSpec, slug
from monai_ssl.study.plan_fields import bundle_folder, check_keys, check_settings, method_file, one_of, whole_number
from monai_ssl.study.record import digest
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import BatchKeys, ListParts

__all__ = [
    "PRETRAINING_LIST",
    "PRETRAIN_STEP",
    "PretrainSpec",
    "parse_pretraining",
    "pretrain_spec",
    "pretrain_specs",
    "pretraining_list",
    "refuse_pretrained",
]

PRETRAINING_LIST = Path("splits") / "pretraining.json"
"""The list of the images that every pretraining sees, below the study's folder."""

PRETRAIN_STEP = "pretrain"
"""Name of its process."""

_BUNDLE = "ssl_pretraining"
_SETTING = "pretrained"  # of the training that starts from the weights


@dataclass(frozen=True)
class PretrainSpec:
    """One pretraining: what the plan asks for, with a seed."""

    pretraining: Pretraining
    seed: int

    @property
    def folder(self) -> Path:
        """Where it lies below the study's folder."""
        asked = self.pretraining
        content = digest([asked.bundle.name, asked.method, asked.steps, asked.settings])
        return Path("pretraining") / f"{slug(asked.method)}_{content[:8]}" / f"seed{self.seed}"

    @property
    def label(self) -> str:
        """What a person calls it, whatever its seed."""
        return f"pretraining {self.folder.parent.name} ({self.pretraining.steps} steps)"

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.label}, seed {self.seed}"


def pretrain_spec(spec: RunSpec) -> PretrainSpec | None:
    """The pretraining that a run starts from, if it starts from one."""
    asked = spec.method.pretraining
    return None if asked is None else PretrainSpec(asked, spec.seed if asked.seeds == "each" else 0)


def pretrain_specs(specs: Iterable[RunSpec]) -> list[PretrainSpec]:
    """The pretrainings that runs start from, each once, in their order."""
    return list({one.folder: one for one in map(pretrain_spec, specs) if one is not None}.values())


def pretraining_list(held_out: Mapping[str, Any]) -> dict[str, Any]:
    """Return the list that is pretrained on: all cases that may ever be trained on, without their labels.

    Where cases have several channels, it names them as the list does, so that the pretraining reads as many.

    Args:
        held_out: the list of :data:`~monai_ssl.study.splits.HELD_OUT`, whose ``training`` and ``unlabeled`` it takes.
    """
    kept = (str(BatchKeys.IMAGE), "patient")
    cases = [*held_out[ListParts.TRAINING], *held_out[ListParts.UNLABELED]]
    images = [{key: case[key] for key in kept if key in case} for case in cases]
    several = (channels_of(held_out) or 1) > 1
    named = {key: held_out[key] for key in ("channel_names", "modality") if several and key in held_out}
    return {**named, str(ListParts.UNLABELED): sorted(images, key=lambda case: case[BatchKeys.IMAGE])}


def parse_pretraining(given: Any, label: str, bundle: Path, folder: Path) -> Pretraining | None:
    """Return what a method starts from.

    Args:
        given: the mapping, or ``None``.
        label: of the method.
        bundle: the folder of the plan's bundle, which must take pretrained weights.
        folder: the plan's.

    Raises:
        UserError: with the key, the rule and the remedy.
    """
    if given is None:
        return None
    where = f"`pretraining` of `{label}`"
    check_keys(given, where, ("method", "steps"), ("bundle", "settings", "seeds"))
    if _SETTING not in yaml.safe_load((bundle / "configs" / "train.yaml").read_text(encoding="utf-8")):
        raise UserError(f"{where} must be left out: {bundle.name} has no setting `{_SETTING}`, so it starts from none.")
    try:
        own = bundle_folder(given.get("bundle", _BUNDLE), folder)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    seeds = one_of(given.get("seeds", "each"), f"pretraining: seeds` of `{label}", ("each", "shared"))
    return Pretraining(
        own,
        method_file(given["method"], own, where),
        whole_number(given["steps"], f"pretraining: steps` of `{label}", 1),
        check_settings(given.get("settings"), f"pretraining: settings` of `{label}", own, "train.yaml"),
        "each" if seeds == "each" else "shared",
    )


def refuse_pretrained(settings: Collection[str], key: str) -> None:
    """Demand that settings name no weights, where the study makes them.

    Args:
        settings: of the training.
        key: how messages call them.

    Raises:
        UserError: when they do.
    """
    if any(re.split("#|::", str(name))[0] == _SETTING for name in settings):
        raise UserError(
            f"`{key}` must leave {_SETTING!r} to the study, which pretrains: take it out, or `pretraining`."
        )
