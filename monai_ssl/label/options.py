"""What an annotator may choose for a training, read from a request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monai_ssl.utils.errors import UserError

__all__ = ["ALL_STUDIES", "LABELED_STUDIES", "LAST_MODEL", "PRETRAINING", "TrainingOptions", "read_options"]

ALL_STUDIES, LABELED_STUDIES = "all studies", "labelled studies alone"
LAST_MODEL, PRETRAINING = "its last model", "the pretraining, or nothing"
_EPOCH = 50  # steps; between two epochs a training can be watched


@dataclass(frozen=True)
class TrainingOptions:
    """Choices of a training.

    Attributes:
        steps: optimiser steps, a multiple of ``epoch_length``.
        learn_from: :data:`ALL_STUDIES` or :data:`LABELED_STUDIES`.
        start_from: :data:`LAST_MODEL` or :data:`PRETRAINING`.
        validation: share of the labelled studies that are kept for validation.
        device: of torch.
    """

    steps: int = 500
    learn_from: str = ALL_STUDIES
    start_from: str = LAST_MODEL
    validation: float = 0.2
    device: str = "cpu"

    @property
    def epoch_length(self) -> int:
        """Steps."""
        return min(self.steps, _EPOCH)


def read_options(request: Mapping[str, Any], defaults: TrainingOptions) -> TrainingOptions:
    """Read the choices of a request; what it does not name has its default, what is no choice is left alone.

    A client may send back the whole list of a choice, of which the first is meant.

    Args:
        request: from outside.
        defaults: for what it does not name.

    Returns:
        The choices, with steps rounded up to whole epochs.

    Raises:
        UserError: for a value that is none, naming it and its rule.
    """
    chosen = {
        name: value[0] if isinstance(value := request[name], list) and value else value
        for name in TrainingOptions.__dataclass_fields__
        if request.get(name) not in (None, "", [])
    }
    values = {**vars(defaults), **chosen}
    steps = _number("steps", values["steps"], 1, 1_000_000)
    if steps != int(steps):
        raise UserError(f"steps must be a whole number, got {steps}.")
    steps = math.ceil(steps / _EPOCH) * _EPOCH if steps > _EPOCH else int(steps)
    validation = _number("validation", values["validation"], 0, 0.9)
    for name, choices in (("learn_from", (ALL_STUDIES, LABELED_STUDIES)), ("start_from", (LAST_MODEL, PRETRAINING))):
        if values[name] not in choices:
            raise UserError(f"{name} must be one of: {', '.join(choices)}; got {str(values[name])[:60]!r}.")
    return TrainingOptions(steps, values["learn_from"], values["start_from"], validation, str(values["device"]))


def _number(name: str, value: Any, low: float, high: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not low <= number <= high:
        raise UserError(f"{name} must be a number from {low} to {high}, got {str(value)[:60]!r}.")
    return number
