"""The configs that the runs of a study are made from, as they are now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.study.plan import Method, Plan
from monai_ssl.study.record import digest
from monai_ssl.study.rounds import SUGGEST_CONFIG
from monai_ssl.utils.errors import UserError

__all__ = ["Sources"]


@dataclass(frozen=True)
class Sources:
    """The configs of a plan's bundles, read once."""

    plan: Plan

    def check_unchanged(self) -> None:
        """Demand that they are still what they were when they were read.

        Raises:
            UserError: naming one that is not.
        """
        now = Sources(self.plan)._configs
        for path, content in self._configs.items():
            if now[path] != content:
                raise UserError(f"{path}: the configs have changed since the study was started: restore them.")

    def digests(self, bundle: Path, names: Iterable[str]) -> dict[str, str]:
        """Digests of configs, comments aside, by what a person calls the files.

        Args:
            bundle: the bundle's folder.
            names: files below its ``configs/``.
        """
        return {f"{bundle.name}/configs/{name}": self._digests[bundle / "configs" / name] for name in names}

    def needs_unlabeled(self, method: Method) -> bool:
        """Whether a method trains on unlabelled cases."""
        folder = self.plan.bundle / "configs"
        configs = self._configs[folder / f"methods/{method.method}.yaml"], self._configs[folder / "train.yaml"]
        sizes = [part.get("unlabeled_batch_size") for part in (method.settings, self.plan.settings, *configs)]
        return str(next((size for size in sizes if size is not None), 1)) != "0"

    @cached_property
    def _configs(self) -> dict[Path, dict[str, Any]]:
        methods = self.plan.methods
        names = {"train.yaml", "evaluate.yaml", *(f"methods/{method.method}.yaml" for method in methods)}
        if any(method.acquisition != "random" for method in methods):
            names.add(SUGGEST_CONFIG)
        pretrainings = [method.pretraining for method in methods if method.pretraining]
        of_bundles = [(self.plan.bundle, names), *((one.bundle, one.configs) for one in pretrainings)]
        files = {bundle / "configs" / name for bundle, names in of_bundles for name in names}
        return {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in files}

    @cached_property
    def _digests(self) -> dict[Path, str]:
        return {path: digest(content) for path, content in self._configs.items()}
