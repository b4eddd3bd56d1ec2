"""How far each run of a study is, read from the disk alone, so that a kill at any moment loses nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ssl.data.leaks import check_leaks
from monai_ssl.study.layout import StudyLayout
from monai_ssl.study.plan import EXCLUDE, RunSpec
from monai_ssl.study.pretraining import PRETRAIN_STEP, PRETRAINING_LIST, PretrainSpec, pretrain_spec
from monai_ssl.study.record import RunRecord
from monai_ssl.study.rounds import POOL, SUGGEST_STEP, SUGGESTIONS, next_list, pool_list, previous_round
from monai_ssl.study.splits import HELD_OUT, split_path
from monai_ssl.study.steps import (
    Step,
    evaluation_step,
    left_to_exclude,
    pretraining_step,
    suggestion_step,
    switch,
    training_step,
)
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock, write_json
from monai_ssl.utils.keys import RunFiles

__all__ = ["Study"]


class Study(StudyLayout):
    """A study, and how far it is."""

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

    def waits_for_round(self, spec: RunSpec) -> RunSpec | None:
        """The run that must have trained before this one can begin; ``None`` where nothing is left to wait for."""
        before = self._chosen_by(spec)
        return None if before is None or _trained(self.training_folder(before)) else before

    def stranded(self, specs: Sequence[RunSpec]) -> list[tuple[RunSpec, RunSpec]]:
        """Those of some runs that wait for one that none of them trains, such as one that has failed, with that one."""
        folders = {self.training_folder(spec) for spec in specs}
        pairs = [(spec, before) for spec in specs if (before := self.waits_for_round(spec)) is not None]
        # figures can be seen before the record of the training is, where a file takes its time between machines
        return [
            (spec, before)
            for spec, before in pairs
            if self.training_folder(before) not in folders and not self.metrics(before).is_file()
        ]

    def has_to_choose(self, spec: RunSpec) -> bool:
        """Whether cases of a run are still to be chosen."""
        return self._chosen_by(spec) is not None

    def places(self, spec: RunSpec) -> set[Path]:
        """Folders of a run in which one process at a time may be: of its training and its pretraining."""
        pretraining = pretrain_spec(spec)
        return {self.training_folder(spec), *([self.output / pretraining.folder] if pretraining else [])}

    def claims(self, spec: RunSpec) -> set[Path]:
        """Those :meth:`places` that a run which goes on keeps from others: a pretraining that has ended is free."""
        pretraining = self.waits_for(spec)
        return {self.training_folder(spec), *([self.output / pretraining.folder] if pretraining else [])}

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
                    FolderLock(folder, patience=0.0).release()
                except UserError:
                    return True
        return False

    def begin(self, spec: RunSpec) -> None:
        """Make the folders of a run, its training and the pretraining that it waits for, and note what they are.

        Raises:
            UserError: when a folder holds a run of other settings, a bundle has changed meanwhile, an image that would
                be pretrained on is, by another path, one of the test or validation, or the round before has not
                trained.
        """
        self._sources.check_unchanged()
        pretraining = self.waits_for(spec)
        if pretraining is not None:
            asked = left_to_exclude(self.plan, pretraining.pretraining.settings)
            check_leaks(self.output / HELD_OUT, self.plan.data.parent, asked.get(EXCLUDE))
            self.pretraining_record(pretraining).begin()
        for one in (self.training(spec), spec):
            self.record(one).begin()
        before = self._chosen_by(spec)
        if before is not None:
            self._open_pool(spec, before)

    def next_step(self, spec: RunSpec) -> Step | None:
        """The process that a run needs next; ``None`` when it is finished. The test comes at the very end.

        Raises:
            UserError: when the checkpoint of the round before cannot be read.
        """
        folder, plan = self.training_folder(spec), self.plan
        pretraining = self.waits_for(spec)
        if pretraining is not None:
            into = self.output / pretraining.folder
            return pretraining_step(plan, pretraining, into, self.output / PRETRAINING_LIST, switch(into))
        before = self._chosen_by(spec)
        if before is not None:
            weights = self.training_folder(before)
            return suggestion_step(plan, spec, folder / SUGGEST_STEP, folder / POOL, weights, self._due(spec, before))
        if not self.record(self.training(spec)).trained:
            return training_step(plan, spec, folder, self.datalist(spec), self.pretrained(spec), switch(folder))
        for part in self.parts(spec):
            if not self.metrics(spec, part).is_file():
                into = self.folder(spec) / part
                return evaluation_step(plan, spec, part, into, self.output / HELD_OUT, folder / RunFiles.MODEL)
        return None

    def end(self, spec: RunSpec, step: Step, seconds: float) -> None:
        """Note that a process ended well, and how long it took; of one that chose cases, make the list of them.

        Raises:
            UserError: when what was chosen cannot be.
        """
        pretraining = pretrain_spec(spec)
        if step.name == PRETRAIN_STEP and pretraining is not None:
            self.pretraining_record(pretraining).end(step.name, seconds)
            return
        if step.name == SUGGEST_STEP:
            self._take_suggestions(spec)
        self.record(self.training(spec) if step.name in (SUGGEST_STEP, "train") else spec).end(step.name, seconds)

    def _chosen_by(self, spec: RunSpec) -> RunSpec | None:
        """The run whose model has to choose cases of this one; ``None`` where it has, or none does."""
        before = previous_round(self.plan, spec)
        return None if before is None or self.datalist(spec).is_file() else before

    def _open_pool(self, spec: RunSpec, before: RunSpec) -> None:
        """Write the list that is chosen from, or, where whole patients leave nothing to choose, the run's own."""
        if self.waits_for_round(spec) is not None:
            raise UserError(f"{spec.name}: waits for {before.name}, which has not trained yet.")
        self.record(self.training(before)).check()
        if self._due(spec, before):
            path = self.training_folder(spec) / POOL
            path.parent.mkdir(exist_ok=True)
            write_json(path, pool_list(self._cases(before), self.splits[HELD_OUT]))
        else:
            self._write_cases(spec, before, [])

    def _take_suggestions(self, spec: RunSpec) -> None:
        before, path = self._chosen_by(spec), self.training_folder(spec) / SUGGESTIONS
        if before is not None and path.is_file():
            try:
                self._write_cases(spec, before, json.loads(path.read_text(encoding="utf-8")).get("suggested", []))
            except UserError as error:
                raise UserError(f"{path}: {error}") from error

    def _write_cases(self, spec: RunSpec, before: RunSpec, suggested: Sequence[str]) -> None:
        drawn, strategy = self.splits[split_path(spec)], spec.method.acquisition
        cases = next_list(self._cases(before), suggested, self.splits[HELD_OUT], drawn, strategy)
        write_json(self.datalist(spec), cases)

    def _cases(self, spec: RunSpec) -> dict[str, Any]:
        return json.loads(self.datalist(spec).read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    def _due(self, spec: RunSpec, before: RunSpec) -> int:
        return self.counts(spec)["labels"] - self.counts(before)["labels"]


def _trained(folder: Path) -> bool:
    return RunRecord(folder, {}).trained
