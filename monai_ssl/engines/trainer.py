"""The only training step of the package."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.engines.workflow import Workflow
from torch import nn
from torch.optim import Optimizer

from monai_ssl.engines.prepare_batch import prepare_streams
from monai_ssl.objectives.base import Objective
from monai_ssl.utils.seeding import seed_torch

__all__ = ["SSLTrainer"]


class SSLTrainer(Trainer):
    """Trains an objective: forward, weighted sum, backward, optimiser step; the same path in every precision.

    It knows no method. Every step seeds torch with ``(seed, step)``, so what a step draws does not depend on what was
    drawn before it: a resumed run goes on exactly as an uninterrupted one.

    ``engine.state.output`` holds ``{"loss": .., "terms": {name: ..}, "figures": {name: ..}}``, detached, and
    ``engine.state.batch`` the loaded batch with its file names.

    Args:
        device: where the objective already is.
        max_epochs: number of epochs; an epoch is ``epoch_length`` steps, never a pass over data.
        data_loader: endless, with ``start_at(step)`` if the run may be resumed.
        objective: the method, or its ``DistributedDataParallel`` wrapper.
        optimizer: over the objective's parameters that take a gradient.
        epoch_length: optimiser steps an epoch.
        total_steps: optimiser steps of the whole run; ``max_epochs * epoch_length`` by default. What the schedules
            and ``objective.progress`` are measured against.
        seed: of everything random inside a step.
        non_blocking: asynchronous copies to the device.
        prepare_batch: from the loaded batch to tensors on the device.
        handlers: ignite handlers; attached in this order.
        amp: mixed precision: autocast on the objective's device type, gradients scaled on CUDA.
        amp_kwargs: arguments of ``torch.autocast``, such as ``dtype``.
        to_kwargs: further arguments of ``prepare_batch``.
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        data_loader: Iterable[Any],
        objective: nn.Module,
        optimizer: Optimizer,
        epoch_length: int,
        total_steps: int | None = None,
        seed: int = 0,
        non_blocking: bool = False,
        prepare_batch: Callable[..., Any] = prepare_streams,
        handlers: Sequence[Any] | None = None,
        amp: bool = False,
        amp_kwargs: Mapping[str, Any] | None = None,
        to_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.wrapped_objective = objective
        bare: Any = getattr(objective, "module", objective)
        self.objective: Objective = bare
        self.optimizer = optimizer
        self.seed = seed
        self.total_steps = total_steps if total_steps is not None else max_epochs * epoch_length
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=data_loader,
            epoch_length=epoch_length,
            non_blocking=non_blocking,
            prepare_batch=prepare_batch,
            handlers=handlers,
            amp=amp,
            decollate=False,
            to_kwargs=dict(to_kwargs or {}),
            amp_kwargs=dict(amp_kwargs or {}),
        )
        scaled = amp and self.state.device.type == "cuda" and self.amp_kwargs.get("dtype") != torch.bfloat16
        self.scaler: Any = torch.amp.GradScaler(self.state.device.type, enabled=scaled)
        # ignite logs an exception twice before raising it; whoever catches it reports it once
        self.logger.addFilter(lambda record: record.levelno < logging.ERROR)

    def run(self) -> None:
        """Run until ``max_epochs``; after a stop a second call, or a state that a handler loads, goes on from there."""
        # ignite counts an epoch that was stopped in the middle as done
        self.should_terminate = False
        self.state.epoch = self.state.iteration // max(self.state.epoch_length, 1)
        if hasattr(self.data_loader, "start_at"):
            self.data_loader.start_at(self.state.iteration)
        try:
            Workflow.run(self)  # not Trainer.run, which would replace the scaler and forget its state
        except RuntimeError as error:
            explain = getattr(self.data_loader, "explain", None)
            if explain is not None and (told := explain(error)) is not None:
                raise told from error
            raise

    def _iteration(self, engine: Engine, batchdata: Any) -> dict[str, Any]:
        step = self.state.iteration - 1
        seed_torch(self.seed, "step", step, self.state.rank)
        batch = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        self.objective.progress = step / self.total_steps
        self.wrapped_objective.train()
        self.optimizer.zero_grad(set_to_none=True)

        # without the cache: before pull request 165068 of PyTorch weights that were lowered in a pass without gradient
        # had none in the passes after it, such as those of a network that makes its own targets
        lowered = {"cache_enabled": False, **self.amp_kwargs}
        with torch.autocast(self.state.device.type, enabled=self.amp, **lowered):
            terms = self.wrapped_objective(batch)
            engine.fire_event(IterationEvents.FORWARD_COMPLETED)
            loss = self.objective.total(terms)
        self.state.output = {
            "loss": loss.detach(),
            "terms": {name: term.detach() for name, term in terms.items()},
            "figures": {name: figure.detach() for name, figure in self.objective.figures.items()},
        }
        engine.fire_event(IterationEvents.LOSS_COMPLETED)

        self.scaler.scale(loss).backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output
