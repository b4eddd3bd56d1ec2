"""What a training method is: networks, and a forward pass from a batch to named loss terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.utils.errors import UserError

__all__ = ["Batch", "Objective", "Task"]

Batch = Mapping[str, Mapping[str, Tensor]]


class Objective(nn.Module):
    """A training method.

    A subclass owns its networks and says in :meth:`forward` which network sees which view and what is compared. It
    knows no optimiser, device, log or step counter, so it can be tested with a batch and nothing else.

    Args:
        network: the network that learns; maps an image to logits.
        weights: weight of each loss term by name; a term that is not named weighs 1. Handlers may change them
            between steps.

    Attributes:
        weights: see above.
        progress: share of the run that is done, in [0, 1]; the trainer sets it before every step.
        figures: numbers of the last forward pass that are logged and not learned from, such as an accuracy.
    """

    def __init__(self, network: nn.Module, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.network = network
        self.weights: dict[str, float] = dict(weights or {})
        self.progress = 0.0
        self.figures: dict[str, Tensor] = {}

    @property
    def deployed(self) -> nn.Module:
        """The network that goes into ``model.pt``."""
        return self.network

    @property
    def labeler(self) -> nn.Module:
        """The network that labels unlabelled images, maps an image to logits; an audit looks at what it says."""
        return self.deployed

    @property
    def learner(self) -> nn.Module:
        """The network that learns from these labels, maps an image to logits."""
        return self.network

    @property
    def label_threshold(self) -> float:
        """Confidence above which a label is learned from, in [0, 1)."""
        return 0.0

    def deployed_state(self) -> dict[str, Tensor]:
        """The entries of the deployed network's state dict that training has trained: all, unless overridden."""
        return self.deployed.state_dict()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The named, unweighted loss terms of a batch.

        Args:
            batch: ``{"labeled": {"image", "label"}, "unlabeled": {"image"}}``; a stream that is not loaded is absent.
        """
        raise NotImplementedError

    @staticmethod
    def stream(batch: Batch, name: str) -> Mapping[str, Tensor]:
        """A stream that the method cannot do without.

        Raises:
            UserError: when the batch has none.
        """
        if name not in batch:
            raise UserError(f"this method needs {name} cases: set {name}_batch_size to 1 or more.")
        return batch[name]

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the terms: what is differentiated."""
        return torch.stack([self.weights.get(name, 1.0) * term for name, term in terms.items()]).sum()

    def reset_teacher(self) -> None:
        """Make the teachers copies of their students, where the method has teachers."""

    def update_teacher(self, step: int) -> None:
        """Let the teachers follow their students, after optimiser step ``step`` (counted from 0)."""


class Task(nn.Module):
    """A pretext task: which images it looks at, which heads it reads, what it compares.

    It owns no network that learns, so that any number of tasks share one; :class:`~monai_ssl.objectives.Multitask` runs
    them, and lets the teachers follow the network where a task has one.

    Args:
        image: entry of the unlabelled stream that goes through the network.
        heads: names of the heads whose outputs it reads.

    Attributes:
        figures: see :class:`Objective`.
    """

    def __init__(self, image: str, heads: Sequence[str]) -> None:
        super().__init__()
        self.image = image
        self.heads = tuple(heads)
        self.figures: dict[str, Tensor] = {}

    def forward(self, outputs: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The named, unweighted loss terms.

        Args:
            outputs: of the heads, by name.
            entries: the unlabelled stream of the batch.
        """
        raise NotImplementedError

    def make_teacher(self, network: PretextNetwork) -> None:
        """Make a teacher of the network whose heads are read, where the task has one; called once, before all else."""

    def reset_teacher(self, network: PretextNetwork) -> None:
        """Make the teacher a copy of the network, where the task has one."""

    def update_teacher(self, network: PretextNetwork, step: int) -> None:
        """Let the teacher follow the network, after optimiser step ``step`` (counted from 0)."""

    @staticmethod
    def entry(entries: Mapping[str, Tensor], name: str) -> Tensor:
        """An entry that the task cannot do without.

        Raises:
            UserError: when the stream has none.
        """
        if name not in entries:
            raise UserError(
                f"this task needs the entry {name!r} in the unlabelled stream; it has {', '.join(entries)}."
            )
        return entries[name]
