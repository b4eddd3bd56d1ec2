"""What lies in a study's folder, read as far as it can be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from monai_ssl.report.tables import Columns, read_cases, read_columns, read_object
from monai_ssl.report.words import without_folders
from monai_ssl.study.frozen_plan import PLAN
from monai_ssl.study.plan import Method, Plan, RunSpec, slug
from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.process import CONSOLE, last_error
from monai_ssl.study.state import Study
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["STUDY", "OpenRun", "StudyFiles", "open_study"]

STUDY = "study.json"

_ERROR = re.compile(r"[\w.]*(Error|Exception|Killed)\b")
_NEEDED = {
    **{"metric": str, "primary": dict, "budgets": list, "methods": list, "seeds": list, "steps": int, "cases": list},
    **{"runs": list, "scores": list, "findings": dict},
}
_FINDINGS = {
    **{"answer": list, "primary": dict, "means": list, "others": list, "family": str, "non_inferiority": list},
    **{"gap": list, "labels_saved": list, "limits": list},
}


@dataclass(frozen=True)
class OpenRun:
    """A run of the plan that is not finished; ``reason`` is empty where it has not failed."""

    budget: str
    method: str
    seed: int
    reason: str


@dataclass
class StudyFiles:
    """A study's folder.

    Attributes:
        folder: it.
        content: of ``study.json``.
        plan: the frozen plan; None where it, its bundle or its data cannot be read any more.
        notes: sentences on what could not be read; more are added as more is read.
    """

    folder: Path
    content: Mapping[str, Any]
    plan: Plan | None
    notes: list[str] = field(default_factory=list)

    @property
    def method(self) -> str:
        """The method of the primary contrast."""
        return str(self.content["primary"]["method"])

    @property
    def baseline(self) -> str:
        """The method that it is compared with."""
        return str(self.content["primary"]["baseline"])

    @property
    def budget(self) -> str:
        """The budget of the primary contrast."""
        return str(self.content["primary"]["budget"])

    @property
    def case_names(self) -> list[str]:
        """Names of the test cases, without folders."""
        return [PurePath(case).name for case in self.content["cases"]]

    def run(self, budget: str, method: str, seed: int) -> Path:
        """The folder of a run."""
        return self.folder / self._spec(budget, method, seed).folder

    def training(self, budget: str, method: str, seed: int) -> Path:
        """The folder with the training of a run, which may be that of another one."""
        spec = self._spec(budget, method, seed)
        if self.plan is None:
            return self.folder / spec.folder
        return Study(self.plan, self.folder, {}).training_folder(spec)

    def scores(self, budget: str, method: str) -> dict[int, list[float | None]]:
        """By seed the figures of the test cases."""
        for entry in self.content["scores"]:
            if (entry["budget"], entry["method"]) == (budget, method):
                return dict(zip(entry["seeds"], entry["values"], strict=True))
        return {}

    def cases(self, budget: str, method: str, seed: int) -> list[dict[str, Any]]:
        """What ``metrics.json`` says of the test cases of a run."""
        path = self.run(budget, method, seed) / ListParts.TEST / RunFiles.METRICS
        return read_cases(path, self.name_of(path), self.notes)

    def table(self, budget: str, method: str, seed: int, name: str) -> Columns:
        """A table of steps of a run, such as ``audit.csv``; empty where there is none."""
        path = self.training(budget, method, seed) / name
        return read_columns(path, self.name_of(path), self.notes)

    def manifest(self) -> dict[str, Any]:
        """What the first run that has one says of its programs."""
        for row in self.content["runs"]:
            path = self.training(row["budget"], row["method"], row["seed"]) / RunFiles.MANIFEST
            found = read_object(path, self.name_of(path), self.notes)
            if found:
                return found
        return {}

    def open_runs(self) -> list[OpenRun]:
        """The runs of the plan that are not finished, with the last error of those that failed."""
        return [
            OpenRun(one["budget"], one["method"], one["seed"], self._failure(one["budget"], one["method"], one["seed"]))
            for one in self.content.get("missing", [])
        ]

    def pretrainings(self) -> list[Path]:
        """Folders of the pretrainings."""
        return sorted(path for path in self.folder.glob("pretraining/*/seed*") if path.is_dir())

    def name_of(self, path: Path) -> str:
        """What a page calls a file: its path in the study's folder."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else path.name

    def _spec(self, budget: str, method: str, seed: int) -> RunSpec:
        known = {one.label: one for one in self.plan.methods} if self.plan else {}
        return RunSpec(budget, known.get(method, Method(method, slug(method))), seed)

    def _failure(self, budget: str, method: str, seed: int) -> str:
        try:
            line = last_error(self.run(budget, method, seed) / CONSOLE, 0)
        except OSError:
            return ""
        return without_folders(line) if _ERROR.match(line) else ""


def open_study(folder: Path) -> StudyFiles:
    """Read a study's folder.

    Args:
        folder: holds ``study.json``.

    Raises:
        UserError: when that file is none of a study.
    """
    path = folder / STUDY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}). The command `study` writes it anew.") from error
    wrong = _without(content, _NEEDED) or _without(content["findings"], _FINDINGS)
    if wrong:
        raise UserError(f"{path}: has no `{wrong}`, so it is none of a study. The command `study` writes it anew.")
    notes: list[str] = []
    plan = None
    try:
        plan = read_plan(folder / PLAN)
    except UserError:
        notes.append("The plan, its bundle or its data are not where they were, so nothing is predicted anew.")
    return StudyFiles(folder, content, plan, notes)


def _without(content: Any, needed: Mapping[str, type]) -> str | None:
    """The first entry that is missing or is something else than it must be."""
    entries = content if isinstance(content, dict) else {}
    return next((key for key, kind in needed.items() if not isinstance(entries.get(key), kind)), None)
