"""Which predictions of a teacher are trusted, and how sharp they are made."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["confidence_mask", "entropy_mask", "kept_fraction", "sharpen"]


def confidence_mask(probabilities: Tensor, threshold: float) -> Tensor:
    r"""Voxels whose most probable class is more probable than a threshold.

    .. math:: m = [\max_c p_c > \tau]

    Args:
        probabilities: class probabilities over axis 1; a binary prediction has two channels.
        threshold: :math:`\tau`, in [0, 1). Below :math:`1/C` it keeps every voxel; 0.8 to 0.95 are usual.

    Shape:
        - probabilities: :math:`(B, C, H, W[, D])`, C of 2 or more
        - output: :math:`(B, 1, H, W[, D])`, bool

    Raises:
        ValueError: when ``threshold`` is out of range, or there are no two classes.

    Reference:
        K. Sohn et al.: FixMatch, NeurIPS 2020, https://arxiv.org/abs/2001.07685, equation 4, where a confidence equal
        to the threshold is kept.
    """
    if not 0.0 <= threshold < 1.0:
        raise ValueError(f"`threshold` must be in [0, 1), got {threshold}.")
    _check_classes(probabilities)
    return probabilities.float().amax(dim=1, keepdim=True) > threshold


def entropy_mask(probabilities: Tensor, threshold: float) -> Tensor:
    r"""Voxels whose entropy is below a share of the largest one.

    .. math:: m = [-\sum_c p_c \ln p_c < \tau \ln C]

    Args:
        probabilities: class probabilities over axis 1; a binary prediction has two channels.
        threshold: share :math:`\tau` of the largest entropy, in (0, 1]; the uncertainty-aware mean teacher lets it
            rise from 0.75 to 1.

    Shape:
        - probabilities: :math:`(B, C, H, W[, D])`, C of 2 or more
        - output: :math:`(B, 1, H, W[, D])`, bool

    Raises:
        ValueError: when ``threshold`` is out of range, or there are no two classes.

    Reference:
        L. Yu et al.: Uncertainty-aware Self-ensembling Model for Semi-supervised 3D Left Atrium Segmentation, MICCAI
        2019, https://arxiv.org/abs/1907.07034, equation 4.
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"`threshold` must be in (0, 1], a share of ln C, got {threshold}.")
    _check_classes(probabilities)
    p = probabilities.float()
    return torch.special.entr(p).sum(dim=1, keepdim=True) < threshold * math.log(p.shape[1])


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    r"""Class probabilities at a lower temperature.

    .. math:: q_c = \frac{p_c^{1/T}}{\sum_k p_k^{1/T}}

    With two classes this is :math:`p^{1/T} / (p^{1/T} + (1-p)^{1/T})`. At a temperature of 1 nothing changes; near 0
    the most probable class takes all.

    Args:
        probabilities: class probabilities that sum to one over axis 1; a binary prediction has two channels.
        temperature: :math:`T`, above 0; above 1 it flattens.

    Shape:
        - probabilities: :math:`(B, C, H, W[, D])`, C of 2 or more
        - output: the same, float32

    Raises:
        ValueError: when ``temperature`` is out of range, or there are no two classes.

    Reference:
        D. Berthelot et al.: MixMatch, NeurIPS 2019, https://arxiv.org/abs/1905.02249, equation 7.
    """
    if not temperature > 0.0:
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
    _check_classes(probabilities)
    p = probabilities.float()
    # A common factor cancels out. With the largest one at 1 the powers cannot all underflow, at any temperature.
    powers = (p / p.detach().amax(dim=1, keepdim=True)) ** (1.0 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def kept_fraction(mask: Tensor) -> Tensor:
    """Share of the voxels that a mask keeps, or the mean weight: a figure to log, without gradient.

    Args:
        mask: true where a voxel is kept, or its weight.

    Shape:
        - mask: any, such as :math:`(B, 1, H, W[, D])`
        - output: scalar, float32
    """
    return mask.detach().float().mean()


def _check_classes(probabilities: Tensor) -> None:
    if probabilities.dim() < 2 or probabilities.shape[1] < 2:
        shape = tuple(probabilities.shape)
        raise ValueError(f"`probabilities` must have 2 or more classes along axis 1, got shape {shape}.")
