"""Focal loss for targets between 0 and 1: what a teacher, or a mix of two patches, says about an anchor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

__all__ = ["SoftTargetFocalLoss", "soft_target_focal_loss"]

NEAREST = 1e-4
"""With a power below 1 the slope grows without bound towards the target: closer than this it is left out."""


def soft_target_focal_loss(
    input: Tensor, target: Tensor, gamma: float = 2.0, alphas: Sequence[float] = (0.05, 0.95)
) -> Tensor:
    r"""Focal loss of every element, with a target anywhere between 0 and 1.

    .. math::
        L = [\alpha_0 + y\, (\alpha_1 - \alpha_0)]\, |y - p|^\gamma\, \mathrm{CE}(y, p), \qquad
        \mathrm{CE} = -y \ln p - (1 - y) \ln(1 - p)

    It is least at :math:`p = y`. For :math:`y` of 0 or 1 it is the focal loss; with :math:`\gamma = 0` and both alphas
    at 1 it is the binary cross-entropy. From logits :math:`z`, with :math:`p = \sigma(z)`, both factors keep their
    digits at any :math:`z`, as :math:`|y - p| = |y\, \sigma(-z) - (1 - y)\, \sigma(z)|`. So :math:`p` is clamped
    nowhere, and an anchor that is wrong with certainty keeps its full gradient. What is clamped is the distance, for
    :math:`0 < \gamma < 1` alone: :math:`|y - p|` is 0.0001 or more there, and closer to the target only the
    cross-entropy pulls.

    Args:
        input: logits; each class of an anchor is an element by itself.
        target: probabilities :math:`y`, in [0, 1]; 0 and 1, also as whole numbers or bool, for hard labels. No
            gradient flows into them.
        gamma: power :math:`\gamma`, 0 or more; the larger, the less the elements count that are nearly right.
        alphas: weights :math:`\alpha_0` and :math:`\alpha_1` of targets of 0 and 1, 0 or more. Most anchors hold no
            object, which is why those that do weigh more.

    Shape:
        - input, target: any, such as :math:`(B, N, C)` for N anchors
        - output: the same, float32

    Raises:
        ValueError: when the shapes differ, or ``gamma`` or ``alphas`` is out of range.

    Reference:
        D. Wang et al.: FocalMix: Semi-Supervised Learning for 3D Medical Image Detection, CVPR 2020,
        https://arxiv.org/abs/2003.09108, section 3.1. The focal loss is of T.-Y. Lin et al., ICCV 2017,
        https://arxiv.org/abs/1708.02002, whose :math:`\alpha` is :math:`\alpha_1 = 1 - \alpha_0` here.
    """
    _check(gamma, alphas)
    if target.shape != input.shape:
        raise ValueError(f"`target` must have the input's shape {tuple(input.shape)}, got {tuple(target.shape)}.")
    z, y = input.float(), target.detach().float()
    weight = alphas[0] + y * (alphas[1] - alphas[0])
    # 1 - p would round to 0 for large logits; sigmoid(-z) does not.
    distance = (y * torch.sigmoid(-z) - (1.0 - y) * torch.sigmoid(z)).abs()
    if gamma < 1.0:
        distance = distance.clamp_min(NEAREST)
    # Not torch's binary cross-entropy, which takes z from z + softplus(-z) and so loses the digits of a small rest.
    entropy = y * F.softplus(-z) + (1.0 - y) * F.softplus(z)
    return weight * distance**gamma * entropy


class SoftTargetFocalLoss(_Loss):
    """Module form of :func:`soft_target_focal_loss`.

    Args:
        gamma: see :func:`soft_target_focal_loss`.
        alphas: see :func:`soft_target_focal_loss`.
        reduction: ``"mean"`` over all elements, ``"sum"``, or ``"none"``. A detector takes the sum and divides it by
            the sum of the targets: the mean would fade with the number of anchors.
    """

    def __init__(self, gamma: float = 2.0, alphas: Sequence[float] = (0.05, 0.95), reduction: str = "mean") -> None:
        _check(gamma, alphas)
        if reduction not in ("none", "mean", "sum"):
            raise ValueError(f"`reduction` must be none, mean or sum, got {reduction!r}.")
        super().__init__(reduction=reduction)
        self.gamma = gamma
        self.alphas = tuple(alphas)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """See :func:`soft_target_focal_loss`."""
        loss = soft_target_focal_loss(input, target, self.gamma, self.alphas)
        if self.reduction == "none":
            return loss
        return loss.sum() if self.reduction == "sum" else loss.mean()


def _check(gamma: float, alphas: Sequence[float]) -> None:
    if not gamma >= 0.0:
        raise ValueError(f"`gamma` must be 0 or more, got {gamma}.")
    if len(alphas) != 2 or not all(alpha >= 0.0 for alpha in alphas):
        raise ValueError(f"`alphas` must be two weights from 0, those of targets 0 and 1, got {alphas}.")
