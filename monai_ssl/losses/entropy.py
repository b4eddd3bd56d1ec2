"""Entropy of a predicted class distribution, voxel by voxel."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["predictive_entropy"]


def predictive_entropy(probabilities: Tensor) -> Tensor:
    r"""Entropy over the class axis, in nats.

    .. math:: H = - \sum_c p_c \ln p_c

    Args:
        probabilities: class probabilities that sum to one over axis 1.

    Shape:
        - probabilities: :math:`(B, C, H, W[, D])`
        - output: :math:`(B, 1, H, W[, D])`, between 0 and :math:`\ln C`

    Raises:
        ValueError: when there is no class axis.
    """
    if probabilities.dim() < 2:
        raise ValueError(f"`probabilities` must have a class axis 1, got shape {tuple(probabilities.shape)}.")
    return torch.special.entr(probabilities.float()).sum(dim=1, keepdim=True)
