"""Squared difference of two predicted class distributions, over all voxels or over the trusted ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

__all__ = ["SoftmaxConsistencyLoss", "softmax_consistency"]


def softmax_consistency(input: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Mean squared difference between the softmax of the input and given target probabilities.

    .. math:: L = \frac{\sum_v m_v \sum_c (p_{cv} - q_{cv})^2}{C \sum_v m_v}

    With an empty mask the loss is 0 and still differentiable.

    Args:
        input: the student's logits.
        target: the teacher's probabilities :math:`q`; no gradient flows into them.
        mask: weight of each voxel :math:`m`, such as 1 where the teacher is certain; all voxels by default.

    Shape:
        - input, target: :math:`(B, C, H, W[, D])`
        - mask: :math:`(B, 1, H, W[, D])`
        - output: scalar

    Raises:
        ValueError: when the shapes do not agree.

    Reference:
        A. Tarvainen, H. Valpola: Mean teachers are better role models, NeurIPS 2017,
        https://arxiv.org/abs/1703.01780; with a mask L. Yu et al.: Uncertainty-aware Self-ensembling Model,
        MICCAI 2019, https://arxiv.org/abs/1907.07034, equation 4.
    """
    if input.shape != target.shape:
        raise ValueError(f"`target` must have the input's shape {tuple(input.shape)}, got {tuple(target.shape)}.")
    squared = (torch.softmax(input.float(), dim=1) - target.detach().float()) ** 2
    if mask is None:
        return squared.mean()
    if mask.shape != (input.shape[0], 1, *input.shape[2:]):
        raise ValueError(f"`mask` must be (B, 1, ...) beside input {tuple(input.shape)}, got {tuple(mask.shape)}.")
    weight = mask.float()
    return (weight * squared).sum() / (input.shape[1] * weight.sum()).clamp_min(torch.finfo(torch.float32).tiny)


class SoftmaxConsistencyLoss(_Loss):
    """Module form of :func:`softmax_consistency`."""

    def forward(self, input: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :func:`softmax_consistency`."""
        return softmax_consistency(input, target, mask)
