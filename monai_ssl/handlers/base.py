"""What reports of every task share: cases scored one by one, gathered over processes, written and drawn once."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Protocol

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data.meta_tensor import MetaTensor
from monai.utils import ImageMetaKey

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import write_json

__all__ = ["CaseReport", "file_name"]

logger = logging.getLogger(__name__)


class Clearable(Protocol):
    """What every ``overlay`` must offer beside its own way to take a case."""

    def clear(self) -> None: ...


class CaseReport(ABC):
    """Score each case as it comes out of an evaluator and write the summary at the end.

    The summary also goes to ``engine.state.summary``. Batch and output must be lists of cases, as those of
    :class:`~monai_ssl.engines.DetectionEvaluator` and, with ``decollate=True``, of MONAI's evaluators.

    With several processes the cases of all are gathered, and the first process writes; an overlay then chooses among
    the first process's cases. Give each case to one process only.

    Args:
        output: the JSON file, or a function that is given the summary instead.
        class_names: of the classes that are scored.
        part: part of the data list that is scored, ``"test"`` or ``"validation"``.
        weights: file of the weights that are scored; its name goes into the summary.
        list_name: data list; its name goes into the summary.
        overlay: draws cases; None draws nothing.
    """

    def __init__(
        self,
        output: str | os.PathLike[str] | Callable[[dict[str, Any]], Any],
        class_names: Sequence[str],
        part: str,
        weights: str | os.PathLike[str],
        list_name: str | os.PathLike[str],
        overlay: Clearable | None,
    ) -> None:
        self.output = output
        self.class_names = list(class_names)
        self.part = part
        self.weights = os.fspath(weights)
        self.list_name = os.fspath(list_name)
        self._overlay = overlay
        self.cases: list[Any] = []

    @abstractmethod
    def score_case(self, name: str, case: Mapping[str, Any]) -> Any:
        """What is kept of one case, small and fit to be pickled.

        Raises:
            UserError: when the case lacks something or its parts do not fit; without the case's name.
        """

    @abstractmethod
    def summarise(self, cases: list[Any]) -> dict[str, Any]:
        """The summary of all cases, as it is written.

        Raises:
            UserError: when there was no case.
        """

    @abstractmethod
    def publish(self, engine: Engine, summary: dict[str, Any]) -> str:
        """Leave the main figure in ``engine.state.metrics``; return it in words."""

    @abstractmethod
    def draw(self, summary: dict[str, Any]) -> None:
        """Draw what there is to draw."""

    def attach(self, engine: Engine) -> None:
        """Hang on to the start of the run, each iteration and the end."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.score)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Forget the cases of the run before."""
        self.cases = []
        if self._overlay is not None:
            self._overlay.clear()

    def score(self, engine: Engine) -> None:
        """Score the cases of this iteration and let go of their volumes.

        Raises:
            UserError: as :meth:`score_case`, with the case's file.
        """
        if not isinstance(engine.state.output, list) or not isinstance(engine.state.batch, list):
            raise UserError(f"`{type(self).__name__}` must be attached to an evaluator of cases (decollate=True).")
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            case = {**batch, **output}
            name = file_name(case)
            try:
                self.cases.append(self.score_case(name, case))
            except UserError as error:
                raise UserError(f"{name}: {error}") from error

    def finish(self, engine: Engine) -> None:
        """Summarise, publish, write and draw.

        Raises:
            UserError: when there was no case.
        """
        cases = self.cases
        if idist.get_world_size() > 1:
            gathered: list[list[Any]] = [[] for _ in range(idist.get_world_size())]
            torch.distributed.all_gather_object(gathered, cases)
            cases = [case for part in gathered for case in part]
        summary = self.summarise(cases)
        engine.state.summary = summary
        words = self.publish(engine, summary)
        if idist.get_rank() != 0:
            return
        logger.info(f"{self.part}: {words}")
        if callable(self.output):
            self.output(summary)
        else:
            write_json(Path(self.output), summary)
        self.draw(summary)


def file_name(case: Mapping[str, Any]) -> str:
    """Name of the file that a case's image, or else its label, was read from."""
    for key in ("image", "label"):
        path = case[key].meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(case.get(key), MetaTensor) else None
        if path:
            return PurePath(str(path)).name
    return "case without a file name"
