"""FocalMix with the targets of a trained detector: what better targets than its own would be worth."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from monai_ssl.networks import Detector, load_weights
from monai_ssl.objectives import FocalMix

__all__ = ["FixedTeacher"]


class FixedTeacher(FocalMix):
    """FocalMix, but for who makes the targets of unlabelled patches: a detector that no longer learns.

    Args:
        network: the detector.
        taught_by: ``model.pt`` of the one that makes the targets, of the same architecture.
        arguments: see :class:`~monai_ssl.objectives.FocalMix`.
    """

    def __init__(self, network: Detector, taught_by: str, **arguments: Any) -> None:
        super().__init__(network, **arguments)
        self.guide = load_weights(copy.deepcopy(network), taught_by).requires_grad_(False)

    @property
    def labeler(self) -> nn.Module:
        """The trained detector."""
        return self.guide
