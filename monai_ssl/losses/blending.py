"""Agreement of two views with a blend of both that leans towards the rarer class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from monai_ssl.utils.predictions import predicted_classes

__all__ = ["BlendedConsistencyLoss", "blended_consistency", "blended_target", "tempered_frequencies"]


def tempered_frequencies(counts: Sequence[float] | Tensor, power: float = 0.5) -> Tensor:
    r"""Class frequencies whose differences are moderated.

    .. math:: N_c = n_c^\beta / \sum_k n_k^\beta

    Among voxels background can be 97 %, and its difference from every other class is the largest that there is:
    without tempering nearly every disagreement of two views is blended towards foreground.

    Args:
        counts: how often each class occurs among the labels, as numbers or frequencies, 0 or more.
        power: :math:`\beta`, in [0, 1]; at 1 the frequencies are the true ones, at 0 all the same.

    Shape:
        - counts: :math:`(C,)`
        - output: :math:`(C,)`, float32, of sum 1

    Raises:
        ValueError: when ``counts`` or ``power`` is out of range.
    """
    if not 0.0 <= power <= 1.0:
        raise ValueError(f"`power` must be in [0, 1], got {power}.")
    given = torch.as_tensor(counts, dtype=torch.float64)
    if given.dim() != 1 or not bool((given >= 0).all()) or not 0.0 < float(given.sum()) < float("inf"):
        raise ValueError(f"`counts` must be numbers from 0, one a class and not all 0, got {given.tolist()}.")
    powers = (given / given.sum()) ** power
    return (powers / powers.sum()).float()


def blended_target(
    first: Tensor,
    second: Tensor,
    frequencies: Sequence[float] | Tensor,
    gain: float = 0.4,
    include_background: bool = True,
) -> Tensor:
    r"""Blend two predictions of one image, voxel by voxel, so that the rarer class prevails.

    .. math::
        z_b = (1 - k)\, z + k\, z', \qquad
        k = \mathrm{clip}(g\, (N_{\hat c(z)} - N_{\hat c(z')}) + 0.5,\, 0,\, 1), \qquad
        \hat c(z) = \arg\max_c z_c

    Where both views predict classes of the same frequency :math:`N`, the target is their mean.

    Args:
        first: class probabilities :math:`z` of one view.
        second: class probabilities :math:`z'` of the other.
        frequencies: :math:`N_c` of the training labels, of sum 1; tempered by :func:`tempered_frequencies` where one
            class is nearly all.
        gain: :math:`g`, 0 or more; 0 gives the mean everywhere.
        include_background: else the target is the mean wherever a view predicts class 0, and only foreground classes
            are weighed against each other; with a single foreground class nothing is left to weigh.

    Shape:
        - first, second: :math:`(B, C[, H, W[, D]])`
        - frequencies: :math:`(C,)`
        - output: as ``first``, float32, without gradient

    Raises:
        ValueError: when ``gain`` is out of range, or the shapes do not agree.

    Reference:
        T. Huynh et al.: Semi-supervised learning for medical image classification using imbalanced training data,
        Computer Methods and Programs in Biomedicine 2022, https://arxiv.org/abs/2108.08956, which blends the
        predictions of images; per voxel, tempered and without background are ours.
    """
    if gain < 0:
        raise ValueError(f"`gain` must be 0 or more, got {gain}.")
    _check_pair(first, second)
    N = torch.as_tensor(frequencies, dtype=torch.float32, device=first.device)
    if N.shape != first.shape[1:2]:
        raise ValueError(f"`frequencies` must be ({first.shape[1]},), one a class, got {tuple(N.shape)}.")
    z, other = first.detach().float(), second.detach().float()
    classes, others = predicted_classes(z, keepdim=True), predicted_classes(other, keepdim=True)
    k = (gain * (N[classes] - N[others]) + 0.5).clamp(0.0, 1.0)
    if not include_background:
        k = torch.where((classes == 0) | (others == 0), 0.5, k)
    return (1.0 - k) * z + k * other


def blended_consistency(
    first: Tensor,
    second: Tensor,
    frequencies: Sequence[float] | Tensor,
    gain: float = 0.4,
    include_background: bool = True,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Divergence of two views' predictions from their blend.

    .. math:: L = \mathrm{KL}(z_b \Vert z) + \mathrm{KL}(z_b \Vert z'), \qquad
        \mathrm{KL}(a \Vert b) = \sum_c a_c \ln (a_c / b_c)

    mean over voxels, or over those of a mask. The blend :math:`z_b` is a target without gradient; both views learn.
    With an empty mask the loss is 0 and still differentiable.

    Args:
        first: logits of one view.
        second: logits of the other.
        frequencies: see :func:`blended_target`.
        gain: see :func:`blended_target`.
        include_background: see :func:`blended_target`.
        mask: weight of each voxel; all voxels by default.

    Shape:
        - first, second: :math:`(B, C[, H, W[, D]])`
        - frequencies: :math:`(C,)`
        - mask: :math:`(B, 1[, H, W[, D]])`
        - output: scalar

    Raises:
        ValueError: see :func:`blended_target`.

    Reference:
        See :func:`blended_target`.
    """
    _check_pair(first, second)
    if mask is not None and mask.shape != (first.shape[0], 1, *first.shape[2:]):
        raise ValueError(f"`mask` must be (B, 1, ...) beside first {tuple(first.shape)}, got {tuple(mask.shape)}.")
    logs = [torch.log_softmax(logits.float(), dim=1) for logits in (first, second)]
    target = blended_target(logs[0].exp(), logs[1].exp(), frequencies, gain, include_background)
    divergence = sum(F.kl_div(log, target, reduction="none").sum(1, keepdim=True) for log in logs)
    weight = torch.ones_like(logs[0][:, :1]) if mask is None else mask.detach().float()
    return (weight * divergence).sum() / weight.sum().clamp_min(torch.finfo(torch.float32).tiny)


class BlendedConsistencyLoss(_Loss):
    """Module form of :func:`blended_consistency`.

    Args:
        counts: how often each class occurs among the labels, see :func:`tempered_frequencies`.
        power: see :func:`tempered_frequencies`.
        gain: see :func:`blended_target`.
        include_background: see :func:`blended_target`.
    """

    frequencies: Tensor

    def __init__(
        self, counts: Sequence[float], power: float = 0.5, gain: float = 0.4, include_background: bool = True
    ) -> None:
        super().__init__()
        if gain < 0:
            raise ValueError(f"`gain` must be 0 or more, got {gain}.")
        # Not in the state: the configuration has it.
        self.register_buffer("frequencies", tempered_frequencies(counts, power), persistent=False)
        self.gain = gain
        self.include_background = include_background

    def forward(self, first: Tensor, second: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :func:`blended_consistency`."""
        return blended_consistency(first, second, self.frequencies, self.gain, self.include_background, mask)


def _check_pair(first: Tensor, second: Tensor) -> None:
    if first.dim() < 2 or first.shape[1] < 2:
        raise ValueError(f"`first` must have 2 or more classes along axis 1, got shape {tuple(first.shape)}.")
    if second.shape != first.shape:
        raise ValueError(f"`second` must have the first's shape {tuple(first.shape)}, got {tuple(second.shape)}.")
