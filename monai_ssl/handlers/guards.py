"""What keeps a NaN out of the weights."""

from __future__ import annotations

import logging
import math
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor

from monai_ssl.utils.errors import UserError

__all__ = ["NonFiniteGuard"]

logger = logging.getLogger(__name__)

_MOST_OVERFLOWS = 100  # steps in a row; a scaler that starts at 2 ** 16 has found its scale long before


class NonFiniteGuard:
    """Stops the run when the loss or a gradient is NaN or infinite, before the gradients reach the weights.

    Or leaves such steps out: no weight, no buffer (such as the statistics of a batch normalisation, which the forward
    pass has changed already) and no state of the optimiser takes part in them. With several processes all leave the
    same steps out.

    Where gradients are scaled, as float16 needs it, those that overflow are the scaler's to skip; only when they do so
    all the time the run stops.

    Args:
        action: ``stop`` or ``skip``.
        most_skips: steps that are left out by one process before it stops the run all the same.

    Raises:
        UserError: naming the step, the terms and the cases of the batch. The last checkpoint is as it was.
        ValueError: when ``action`` is neither.
    """

    def __init__(self, action: str = "stop", most_skips: int = 10) -> None:
        if action not in ("stop", "skip"):
            raise ValueError(f"`action` must be stop or skip, got {action!r}.")
        self.skips = action == "skip"
        self.most_skips = most_skips
        self.skipped = 0
        self._overflows = 0
        self._buffers: list[Tensor] = []

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if self.skips:
            engine.add_event_handler(Events.ITERATION_STARTED, self._keep_buffers)
        else:
            engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._refuse_loss)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._check_gradients)

    def _keep_buffers(self, engine: Any) -> None:
        self._buffers = [buffer.clone() for buffer in engine.objective.buffers()]

    def _refuse_loss(self, engine: Any) -> None:
        if not torch.isfinite(engine.state.output["loss"]):
            raise UserError(self._words(engine, "loss"))

    def _check_gradients(self, engine: Any) -> None:
        loss, gradients = _is_finite(engine.state.output["loss"]), _is_finite(_largest(engine.objective))
        scaled = engine.scaler.is_enabled()
        if self.skips:
            loss, gradients = _everywhere(loss, engine), _everywhere(gradients, engine)
            if not loss or not (gradients or scaled):
                self._skip(engine, "loss" if not loss else "gradient")
        elif not gradients and not scaled:
            raise UserError(self._words(engine, "gradient"))
        self._overflows = 0 if gradients or not scaled else self._overflows + 1
        if self._overflows >= _MOST_OVERFLOWS:
            raise UserError(
                f"the gradients overflowed float16 in {_MOST_OVERFLOWS} steps in a row, until step "
                f"{engine.state.iteration}. Give --amp bfloat16 or --amp false. The last checkpoint is intact."
            )

    def _skip(self, engine: Any, what: str) -> None:
        self.skipped += 1
        if self.skipped > self.most_skips:
            raise UserError(f"{self.skipped - 1} steps were left out, and again {self._words(engine, what)}")
        logger.warning(f"step {engine.state.iteration} is left out: {self._words(engine, what)}")
        for buffer, kept in zip(engine.objective.buffers(), self._buffers, strict=True):
            buffer.copy_(kept)
        if not engine.scaler.is_enabled():  # a scaler wants to see the gradients, and leaves the step out by itself
            engine.optimizer.zero_grad(set_to_none=True)

    def _words(self, engine: Any, what: str) -> str:
        output, batch = engine.state.output, engine.state.batch
        terms = ", ".join(f"{name} {term.item():g}" for name, term in output["terms"].items())
        cases = [case for stream in batch.values() for case in stream.get("case", [])]
        end = "" if self.skips and self.skipped <= self.most_skips else " The last checkpoint is intact."
        return (
            f"the {what} is not finite at step {engine.state.iteration} ({terms}); cases: {', '.join(cases)}. Check "
            f"these files for NaN and extreme intensities, or lower the learning rate.{end}"
        )


def _largest(module: Any) -> Tensor:
    """The largest magnitude among all gradients, NaN where one is; 0 where there is none."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients, norm_type=math.inf) if gradients else torch.zeros(())


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value))


def _everywhere(fine: bool, engine: Any) -> bool:
    """Whether something holds in all processes; a gradient is shared by them, a loss is not."""
    if idist.get_world_size() == 1:
        return fine
    wrong = torch.tensor(int(not fine), device=engine.state.device)
    torch.distributed.all_reduce(wrong)
    return not wrong
