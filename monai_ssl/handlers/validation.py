"""When a trainer runs its evaluator."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

__all__ = ["StepValidation"]


class StepValidation:
    """Runs the evaluator every ``interval`` optimiser steps and after the last one.

    With several processes all score the network of the first one.

    MONAI's ``ValidationHandler`` knows the interval alone: the model that is written at the end would go unscored
    wherever the number of steps is no multiple of it.

    Args:
        validator: a MONAI evaluator.
        interval: optimiser steps between two validations.

    Raises:
        ValueError: when ``interval`` is below 1.
    """

    def __init__(self, validator: Any, interval: int) -> None:
        if interval < 1:
            raise ValueError(f"`interval` must be at least 1 step, got {interval}.")
        self.validator = validator
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._run_if_due)

    def _run_if_due(self, engine: Any) -> None:
        step = engine.state.iteration
        if step % self.interval == 0 or step == engine.total_steps:
            if idist.get_world_size() > 1:
                # statistics of a batch normalisation are those of a process' own scans until the next step begins
                for buffer in engine.objective.buffers():
                    torch.distributed.broadcast(buffer, src=0)
            self.validator.run(engine.state.epoch)
