"""What a training method is: networks, and a forward pass from a batch to named loss terms."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from monai_ssl.utils.errors import UserError

__all__ = ["Batch", "Objective"]

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
    """

    def __init__(self, network: nn.Module, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.network = network
        self.weights: dict[str, float] = dict(weights or {})
        self.progress = 0.0

    @property
    def deployed(self) -> nn.Module:
        """The network that goes into ``model.pt``."""
        return self.network

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
