"""How far each run of a study is, read from the disk alone, so that a kill at any moment loses nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.study.plan import Plan, RunSpec
from monai_ssl.study.splits import HELD_OUT, split_path
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock, write_json
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["Step", "Study"]

_RECORD = "run.json"
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
        """Leave out runs of methods that learn from unlabelled cases where a budget leaves none, as ``all`` does."""
        return [
            spec
            for spec in specs
            if self.splits[split_path(spec)][ListParts.UNLABELED] or not self._needs_unlabeled(spec)
        ]

    def folder(self, spec: RunSpec) -> Path:
        """Where a run lies."""
        return self.output / spec.folder

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
            self._check_record(spec)
        return finished

    def is_busy(self, spec: RunSpec) -> bool:
        """Whether a process still writes in the run's folder, such as one whose study was killed."""
        for folder in (self.folder(spec), *(self.folder(spec) / part for part in self.parts(spec))):
            if (folder / RunFiles.LOCK).exists():
                try:
                    FolderLock(folder).release()
                except UserError:
                    return True
        return False

    def begin(self, spec: RunSpec) -> None:
        """Make the run's folder and note what the run is.

        Raises:
            UserError: when the folder holds a run of other settings, or the bundle has changed meanwhile.
        """
        if Study(self.plan, self.output, self.splits)._configs != self._configs:
            raise UserError(f"{self.plan.bundle}: the configs have changed since the study was started: restore them.")
        self.folder(spec).mkdir(parents=True, exist_ok=True)
        if (self.folder(spec) / _RECORD).exists():
            self._check_record(spec)
        else:
            self._write_record(spec, trained=False)

    def next_step(self, spec: RunSpec) -> Step | None:
        """The process that a run needs next; ``None`` when it is finished. The test comes at the very end."""
        folder, plan = self.folder(spec), self.plan
        cases = {"dataset_dir": plan.data.parent, "datalist": self.output / split_path(spec)}
        settings = {**plan.settings, **spec.method.settings}
        if not self._record(spec)["trained"]:
            switch = "resume" if (folder / RunFiles.RESUME).exists() else "overwrite"
            own = {"output_dir": folder, "seed": spec.seed, "max_steps": plan.steps, switch: True}
            return Step("train", ("train.yaml", f"methods/{spec.method.method}.yaml"), {**settings, **cases, **own})
        shared = {name: settings[name] for name in _SHARED if name in settings}
        evaluation = {**shared, **plan.evaluation, **spec.method.evaluation, "weights": folder / RunFiles.MODEL}
        for part in self.parts(spec):
            if not self.metrics(spec, part).is_file():
                own = {"part": part, "output_dir": folder / part}
                return Step(part, ("evaluate.yaml",), {**evaluation, **cases, **own})
        return None

    def end(self, spec: RunSpec, step: Step) -> None:
        """Note that a process ended well."""
        if step.name == "train":
            self._write_record(spec, trained=True)

    def _record(self, spec: RunSpec) -> dict[str, Any]:
        return json.loads((self.folder(spec) / _RECORD).read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    def _write_record(self, spec: RunSpec, trained: bool) -> None:
        write_json(self.folder(spec) / _RECORD, {"fingerprint": self._fingerprint(spec), "trained": trained})

    def _check_record(self, spec: RunSpec) -> None:
        path = self.folder(spec) / _RECORD
        old, new = (self._record(spec) if path.exists() else {}).get("fingerprint", {}), self._fingerprint(spec)
        changed = [name for name in new if old.get(name) != new[name]]
        if changed:
            raise UserError(
                f"{path}: this run was made with other {', '.join(changed)}. Bring the old ones back, move the run's "
                "folder away, or start a study in another folder."
            )

    def _fingerprint(self, spec: RunSpec) -> dict[str, str]:
        method = spec.method
        files = ("train.yaml", "evaluate.yaml", f"methods/{method.method}.yaml")
        parts = {
            "data list": self.splits[split_path(spec)],
            "settings": [self.plan.settings, method.settings, self.plan.evaluation, method.evaluation],
            "steps or seed": [self.plan.steps, spec.seed],
            **{f"{self.plan.bundle.name}/configs/{name}": self._config_digests[name] for name in files},
        }
        return {name: _digest(part) for name, part in parts.items()}

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
        return {name: _digest(content) for name, content in self._configs.items()}


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
