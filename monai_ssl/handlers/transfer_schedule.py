"""Which layers of a pretrained network are frozen, step by step."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.transfer_schedule import TransferStage, stage_at

__all__ = ["PretrainedNames", "TransferSchedule"]

logger = logging.getLogger(__name__)


class PretrainedNames(Protocol):
    """Entries of a network's state dict: which are pretrained, and which of them are the encoder's."""

    @property
    def loaded(self) -> Sequence[str]:
        """All that are pretrained."""

    @property
    def encoder(self) -> Sequence[str]:
        """Those of the encoder."""


class TransferSchedule:
    """Freezes what the stage freezes, before every step, as a function of the step alone.

    A frozen parameter takes no gradient, so the optimiser passes over it, weight decay and momentum included. A frozen
    module (one whose parameters are all frozen) is in evaluation mode whenever the network is called: its running
    statistics stay and its dropout is off, whatever mode the objective is set to. A dropout layer that lies directly in
    a module with trainable parameters belongs to that module and goes on. Gradients pass through frozen layers to new
    ones before and behind them. What takes no gradient when the handler is made never will; teachers and other copies
    are not touched. When the run ends nothing is frozen any more.

    The learning rate is set by :class:`~monai_ssl.handlers.ScheduledLearningRate` with
    :func:`~monai_ssl.utils.transfer_schedule.transfer_rate` and the same stages.

    The optimiser holds every parameter from the start. ``DistributedDataParallel`` waits for the gradient of each
    parameter that took one when it was made: where a stage freezes anything it needs ``find_unused_parameters=True``.

    Args:
        network: where the weights were loaded.
        report: what was loaded, by name; ``None`` (no pretrained weights) does nothing.
        stages: from :func:`~monai_ssl.utils.transfer_schedule.transfer_stages`.

    Raises:
        ValueError: when the network has no entry of a name.
        UserError: when a stage would freeze nothing of the network, or all of it.
    """

    def __init__(self, network: nn.Module, report: PretrainedNames | None, stages: Sequence[TransferStage]) -> None:
        self.network = network
        self.stages = tuple(stages)
        self.enabled = report is not None
        self._trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._frozen: dict[str, set[int]] = {"none": set()}
        self._still: dict[str, list[nn.Module]] = {"none": []}
        self._stage: TransferStage | None = None
        self._hook: RemovableHandle | None = None
        if report is None:
            return
        entries = network.state_dict(keep_vars=True)
        names = {"encoder": report.encoder, "loaded": report.loaded}
        for stage in self.stages:
            if stage.frozen not in self._frozen:
                found = _identities(entries, names[stage.frozen])
                self._check(found, stage)
                self._frozen[stage.frozen] = found
                self._still[stage.frozen] = list(_frozen_modules(network, found))

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if self.enabled:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_STARTED, self._set)
            engine.add_event_handler(Events.COMPLETED, self._end)

    def _start(self, engine: Engine) -> None:
        self._stage = None
        if self._hook is None:  # a run that was stopped by an error left it there
            # the trainer sets the whole objective to training mode after ITERATION_STARTED: only a hook comes later
            self._hook = self.network.register_forward_pre_hook(self._hold_still)

    def _set(self, engine: Any) -> None:
        stage = stage_at(self.stages, engine.state.iteration - 1)
        count = self._freeze(stage.frozen)
        if stage is not self._stage:
            self._stage = stage
            frozen = f"{count} of {len(self._trainable)} parameter tensors frozen" if count else "all layers train"
            steps = f"steps {stage.start + 1} to {stage.end} of {self.stages[-1].end}"
            logger.info(f"transfer, {steps}: {stage.name}, {frozen}")

    def _end(self, engine: Engine) -> None:
        self._freeze("none")
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _freeze(self, what: str) -> int:
        frozen = self._frozen[what]
        for parameter in self._trainable:
            parameter.requires_grad_(id(parameter) not in frozen)
        return sum(not parameter.requires_grad for parameter in self._trainable)

    def _hold_still(self, module: nn.Module, inputs: Any) -> None:
        for part in self._still[self._stage.frozen] if self._stage else []:
            part.eval()

    def _check(self, found: set[int], stage: TransferStage) -> None:
        left = sum(id(parameter) not in found for parameter in self._trainable)
        if left == len(self._trainable):
            what = "the encoder" if stage.frozen == "encoder" else "the network"
            raise UserError(
                f"the transfer's stage {stage.name!r} freezes pretrained layers, and no trainable layer of {what} is "
                "pretrained: use transfer fine_tune."
            )
        if left == 0:
            raise UserError(
                f"the transfer's stage {stage.name!r} freezes what is pretrained, and that is the whole network: "
                "there is no new layer to train. Use transfer fine_tune."
            )


def _identities(entries: dict[str, Any], names: Sequence[str]) -> set[int]:
    unknown = [name for name in names if name not in entries]
    if unknown:
        raise ValueError(f"`report` must name entries of the network's state dict, got {unknown[0]!r}.")
    return {id(entries[name]) for name in names}


def _frozen_modules(module: nn.Module, frozen: set[int]) -> Iterator[nn.Module]:
    """The largest modules of which all parameters (without parameters: all buffers) are frozen."""
    own: list[Tensor] = [*module.parameters()] or [*module.buffers()]
    if own and all(id(value) in frozen for value in own):
        yield module
    else:
        for child in module.children():
            yield from _frozen_modules(child, frozen)
