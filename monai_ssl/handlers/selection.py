"""The checkpoint that did best on labelled validation cases."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import save_torch, write_json
from monai_ssl.utils.weight_files import read_best

__all__ = ["ModelSelection"]

logger = logging.getLogger(__name__)

_UNKNOWN = -1.0  # below every score


class ModelSelection:
    """Keeps the deployed network of the step that did best on the validation cases.

    The file holds the step, its score, its whole validation summary and the weights. It is the handler's only memory:
    a run that goes on after a kill comes by the same figures again and keeps the same step, the first of equals. Where
    the validation cases have nothing to find, the last one validated stands, with a warning.
    At the end the validation summary of that step is written over that of the last one, so that it describes
    ``model.pt``. The validation cases have chosen the model, so they count as labels, and their figures flatter it.

    Place it after the validation and before :class:`~monai_ssl.handlers.ModelWriter`, which writes the weights.

    Args:
        path: where the best so far is kept, such as ``best.pt`` in the run's folder.
        validator: evaluator whose ``state.metrics[metric]`` decides, the higher the better.
        cases: number of validation cases.
        interval: optimiser steps between validations.
        report: ``validation_metrics.json``, written at the end; None leaves it.
        metric: name of the score, ``dice`` or ``cpm``.

    Raises:
        UserError: when there is no validation case; at the start of a resumed run, when the file is gone or broken.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        validator: Any,
        cases: int,
        interval: int,
        report: str | os.PathLike[str] | None = None,
        metric: str = "dice",
    ) -> None:
        if cases < 1:
            raise UserError(
                "`checkpoint` chosen needs labelled validation cases, and the list has none: draw some with "
                "`monai-ssl split --validation N`, or leave `checkpoint` at last."
            )
        self.path = Path(path)
        self.validator = validator
        self.interval = interval
        self.report = report
        self.metric = metric
        self._best = -math.inf

    def attach(self, engine: Engine) -> None:
        """Register with the trainer and with its validator."""
        engine.add_event_handler(Events.STARTED, self._start)
        self.validator.add_event_handler(Events.COMPLETED, self._keep_if_better, engine)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Any) -> None:
        self._best = -math.inf
        if engine.state.iteration == 0:
            self.path.unlink(missing_ok=True)  # of a run that was killed before its first checkpoint
        elif self.path.is_file():
            self._best = read_best(self.path)["score"]
        elif engine.state.iteration >= self.interval:
            raise UserError(
                f"{self.path}: the best checkpoint of the run so far is gone, so the choice would be among the rest "
                "alone. Restore it, or start anew with --overwrite true."
            )

    def _keep_if_better(self, validator: Any, engine: Any) -> None:
        score = float(validator.state.metrics[self.metric])
        unknown = math.isnan(score)  # no validation case has a class
        score = _UNKNOWN if unknown else score
        if score > self._best or (unknown and self._best == _UNKNOWN):
            self._best = score
            state = {"step": int(engine.state.iteration), "score": score}
            summary = validator.state.summary
            save_torch({**state, "summary": summary, "network": engine.objective.deployed.state_dict()}, self.path)

    def _finish(self, engine: Any) -> None:
        best = read_best(self.path)
        if best["score"] == _UNKNOWN:
            logger.warning(
                f"the validation cases have nothing to find, so that no step could be chosen: the last validated one, "
                f"{best['step']}, stands. Validate on cases that have objects, or leave `checkpoint` at last."
            )
        else:
            logger.info(f"chosen on the validation cases: step {best['step']}, mean {self.metric} {best['score']:.4f}")
        if self.report is not None:
            write_json(self.report, best["summary"])
