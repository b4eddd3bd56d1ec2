"""What stops a run before it does harm."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from monai_ssl.utils.errors import UserError

__all__ = ["NonFiniteGuard"]


class NonFiniteGuard:
    """Stops the run when the loss is NaN or infinite, before the gradients reach the weights.

    Raises:
        UserError: naming the step, the terms and the cases of the batch. The last checkpoint is as it was.
    """

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._check)

    def _check(self, engine: Engine) -> None:
        output = engine.state.output
        if torch.isfinite(output["loss"]):
            return
        terms = ", ".join(f"{name} {term.item():g}" for name, term in output["terms"].items())
        cases = [case for stream in engine.state.batch.values() for case in stream.get("case", [])]
        raise UserError(
            f"the loss is not finite at step {engine.state.iteration} ({terms}); cases: {', '.join(cases)}. Check "
            "these files for NaN and extreme intensities, or lower the learning rate. The last checkpoint is intact."
        )
