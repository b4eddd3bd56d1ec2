"""Learning from the labelled cases alone: the baseline of every comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from monai_ssl.objectives.base import Batch, Objective

__all__ = ["Supervised"]


class Supervised(Objective):
    """Supervised learning.

    .. code-block:: text

        L = loss(network(x), y)      for labelled (x, y)

    Args:
        network: maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        weights: see :class:`Objective`; the term is ``supervised``.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, weights)
        self.loss = loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The term ``supervised``."""
        labeled = self.stream(batch, "labeled")
        return {"supervised": self.loss(self.network(labeled["image"]), labeled["label"])}
