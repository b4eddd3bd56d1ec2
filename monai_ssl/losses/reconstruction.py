"""Difference of a restored volume from the clean one, over the hidden voxels or over all."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

__all__ = ["MaskedReconstructionLoss", "masked_reconstruction"]


def masked_reconstruction(
    input: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    kind: Literal["l1", "mse"] = "mse",
    over: Literal["masked", "all"] = "masked",
) -> Tensor:
    r"""Mean absolute or squared difference over the masked voxels and their channels.

    .. math:: L = \frac{\sum_v m_v \sum_c |x_{cv} - y_{cv}|^p}{C \sum_v m_v}

    The voxels of the whole batch are pooled, so that each hidden voxel counts alike. With as many hidden voxels in
    each case this is the mean over cases; a case in which nothing was hidden, because its transform was skipped, adds
    nothing, where a mean over cases would have 0 / 0 for it. With an empty mask the loss is 0 and still
    differentiable.

    Args:
        input: the restored volume :math:`x`.
        target: the clean volume :math:`y`; no gradient flows into it.
        mask: weight of each voxel :math:`m`, 1 where it was hidden; all voxels by default.
        kind: ``l1`` with :math:`p = 1`, of Swin UNETR and sharper; ``mse`` with :math:`p = 2`, of masked autoencoders.
        over: ``masked``; ``all`` leaves the mask out of account, for a config that compares both.

    Shape:
        - input, target: :math:`(B, C, H, W[, D])`
        - mask: :math:`(B, 1, H, W[, D])`
        - output: scalar

    Raises:
        ValueError: when the shapes do not agree, or ``kind`` or ``over`` is unknown.

    Reference:
        K. He et al.: Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, https://arxiv.org/abs/2111.06377,
        section 3 (squared, masked patches alone); Y. Tang et al.: Self-Supervised Pre-Training of Swin Transformers
        for 3D Medical Image Analysis, CVPR 2022, https://arxiv.org/abs/2111.14791 (absolute; its code takes all).
    """
    _check(kind, over)
    if input.shape != target.shape:
        raise ValueError(f"`target` must have the input's shape {tuple(input.shape)}, got {tuple(target.shape)}.")
    if mask is not None and mask.shape != (input.shape[0], 1, *input.shape[2:]):
        raise ValueError(f"`mask` must be (B, 1, ...) beside input {tuple(input.shape)}, got {tuple(mask.shape)}.")
    difference = input.float() - target.detach().float()
    error = difference.abs() if kind == "l1" else difference**2
    if mask is None or over == "all":
        return error.mean()
    weight = mask.float()
    return (weight * error).sum() / (input.shape[1] * weight.sum()).clamp_min(torch.finfo(torch.float32).tiny)


class MaskedReconstructionLoss(_Loss):
    """Module form of :func:`masked_reconstruction`.

    Args:
        kind: see :func:`masked_reconstruction`.
        over: see :func:`masked_reconstruction`.
    """

    def __init__(self, kind: Literal["l1", "mse"] = "mse", over: Literal["masked", "all"] = "masked") -> None:
        super().__init__()
        _check(kind, over)
        self.kind: Literal["l1", "mse"] = kind
        self.over: Literal["masked", "all"] = over

    def forward(self, input: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :func:`masked_reconstruction`."""
        return masked_reconstruction(input, target, mask, self.kind, self.over)


def _check(kind: str, over: str) -> None:
    if kind not in ("l1", "mse"):
        raise ValueError(f"`kind` must be l1 or mse, got {kind!r}.")
    if over not in ("masked", "all"):
        raise ValueError(f"`over` must be masked or all, got {over!r}.")
