"""Cross-entropy and Dice with pseudo-labels: a voxel outside the mask is left out of account, never background."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

__all__ = ["MaskedDiceCELoss", "masked_cross_entropy", "masked_dice", "masked_dice_ce"]

SMOOTH = 1e-5  # as MONAI's DiceLoss


def masked_cross_entropy(input: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Mean cross-entropy over the voxels of a mask.

    .. math:: L = - \frac{\sum_v m_v \sum_c y_{cv} \ln p_{cv}}{\sum_v m_v}

    The voxels of the whole batch are pooled. With an empty mask the loss is 0 and still differentiable.

    Args:
        input: logits of two classes or more; :math:`p` is their softmax.
        target: class numbers, or class probabilities :math:`y`; no gradient flows into them. What a class number is
            where the mask is 0 does not matter, and may be none (255, -1).
        mask: weight of each voxel :math:`m`, 0 or more, such as 1 where the pseudo-label is trusted; all voxels by
            default.

    Shape:
        - input: :math:`(B, C, H, W[, D])`
        - target: :math:`(B, 1, H, W[, D])` for class numbers, :math:`(B, C, H, W[, D])` for probabilities
        - mask: :math:`(B, 1, H, W[, D])`
        - output: scalar

    Raises:
        ValueError: when the shapes do not agree.

    Reference:
        K. Sohn et al.: FixMatch, NeurIPS 2020, https://arxiv.org/abs/2001.07685, equation 4, which divides by the
        number of all cases instead, so that the term fades where few are trusted.
    """
    weight = _weight(input, target, mask)
    entropy = F.cross_entropy(input.float(), _target(input, target, weight), reduction="none").unsqueeze(1)
    return (weight * entropy).sum() / weight.sum().clamp_min(torch.finfo(torch.float32).tiny)


def masked_dice(
    input: Tensor, target: Tensor, mask: Tensor | None = None, include_background: bool = False, batch: bool = True
) -> Tensor:
    r"""Soft Dice loss over the voxels of a mask, mean over classes.

    .. math::
        L = \frac{1}{C} \sum_c \left(1 - \frac{2 \sum_v m_v I_{cv} + \epsilon}
        {\sum_v m_v p_{cv} + \sum_v m_v y_{cv} + \epsilon}\right), \qquad
        I = p\, y \text{ for class numbers},\ \min(p, y) \text{ for probabilities}

    with :math:`\epsilon = 10^{-5}`. Both products agree where :math:`y` is 0 or 1; with probabilities in between only
    the second is least at :math:`p = y`. With an empty mask the loss is 0 and still differentiable.

    Args:
        input: see :func:`masked_cross_entropy`.
        target: see :func:`masked_cross_entropy`.
        mask: see :func:`masked_cross_entropy`.
        include_background: count class 0 among the classes.
        batch: sum over the whole batch before dividing, which suits classes that many patches lack; else the mean
            over the cases whose mask is not empty.

    Shape:
        - input, target, mask: see :func:`masked_cross_entropy`
        - output: scalar

    Raises:
        ValueError: when the shapes do not agree.

    Reference:
        F. Milletari et al.: V-Net, 3DV 2016, https://arxiv.org/abs/1606.04797, here with MONAI's unsquared
        denominator; for probabilities Z. Wang et al.: Dice Semimetric Losses, MICCAI 2023,
        https://arxiv.org/abs/2303.16296.
    """
    weight = _weight(input, target, mask)
    p, y = torch.softmax(input.float(), dim=1), _target(input, target, weight)
    hard = y.dim() < p.dim()
    y = torch.zeros_like(p).scatter_(1, y.unsqueeze(1), 1.0) if hard else y
    first = 0 if include_background else 1
    p, y = p[:, first:], y[:, first:]
    common = p * y if hard else torch.minimum(p, y)
    axes = [0, *range(2, p.dim())] if batch else list(range(2, p.dim()))
    overlap, predicted, wanted = ((weight * part).sum(axes) for part in (common, p, y))
    loss = 1.0 - (2.0 * overlap + SMOOTH) / (predicted + wanted + SMOOTH)
    if batch:
        return loss.mean()
    # A case with an empty mask has a loss of 0: it would make the others' mean look better.
    return loss.mean(1).sum() / (weight.flatten(1) > 0).any(1).sum().clamp_min(1)


def masked_dice_ce(
    input: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    regions: Tensor | None = None,
    region_weights: Sequence[float] = (1.0, 0.5),
    include_background: bool = False,
    batch: bool = True,
) -> Tensor:
    r"""Half cross-entropy, half Dice, within a mask, and region by region where regions are given.

    .. math:: L = \sum_k w_k\, \frac{L_{CE}(m\, [r = k]) + L_{Dice}(m\, [r = k])}{2}

    Each region is normalised by itself, so that a small one weighs as much as a large one. In bidirectional copy-paste
    region 0 are the labelled voxels of a mix and region 1 the pseudo-labelled ones.

    Args:
        input: see :func:`masked_cross_entropy`.
        target: see :func:`masked_cross_entropy`.
        mask: see :func:`masked_cross_entropy`.
        regions: number :math:`r` of each voxel's region, from 0; bool for two. None: all is one region of weight 1.
        region_weights: :math:`w_k` of each region, read where regions are given; a voxel whose region has none is left
            out. The default is that of bidirectional copy-paste.
        include_background: see :func:`masked_dice`.
        batch: see :func:`masked_dice`.

    Shape:
        - input, target, mask: see :func:`masked_cross_entropy`
        - regions: :math:`(B, 1, H, W[, D])`, int64 or bool
        - output: scalar

    Raises:
        ValueError: when the shapes do not agree, or a region's weight is below 0.

    Reference:
        Y. Bai et al.: Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation, CVPR 2023,
        https://arxiv.org/abs/2305.00673.
    """
    _check_weights(region_weights)
    parts: list[tuple[float, Tensor | None]] = [(1.0, mask)]
    if regions is not None:
        if regions.shape != (input.shape[0], 1, *input.shape[2:]):
            shape = tuple(regions.shape)
            raise ValueError(f"`regions` must be (B, 1, ...) beside input {tuple(input.shape)}, got {shape}.")
        whole = _weight(input, target, mask)
        parts = [(weight, whole * (regions.long() == number)) for number, weight in enumerate(region_weights)]
    losses = [
        weight
        * (masked_cross_entropy(input, target, part) + masked_dice(input, target, part, include_background, batch))
        for weight, part in parts
    ]
    return 0.5 * torch.stack(losses).sum()


class MaskedDiceCELoss(_Loss):
    """Module form of :func:`masked_dice_ce`.

    Without mask and regions this is MONAI's ``DiceCELoss`` with softmax, one-hot target and both weights at 0.5.

    Args:
        include_background: see :func:`masked_dice`.
        batch: see :func:`masked_dice`.
        region_weights: see :func:`masked_dice_ce`.
    """

    def __init__(
        self, include_background: bool = False, batch: bool = True, region_weights: Sequence[float] = (1.0, 0.5)
    ) -> None:
        super().__init__()
        _check_weights(region_weights)
        self.include_background = include_background
        self.batch = batch
        self.region_weights = tuple(region_weights)

    def forward(
        self, input: Tensor, target: Tensor, mask: Tensor | None = None, regions: Tensor | None = None
    ) -> Tensor:
        """See :func:`masked_dice_ce`."""
        return masked_dice_ce(input, target, mask, regions, self.region_weights, self.include_background, self.batch)


def _weight(input: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    if input.dim() < 3 or input.shape[1] < 2:
        raise ValueError(f"`input` must be (B, C, ...) with 2 or more classes, got {tuple(input.shape)}.")
    one = (input.shape[0], 1, *input.shape[2:])
    if target.shape not in (one, input.shape):
        expected = f"{one} or {tuple(input.shape)}"
        raise ValueError(f"`target` must be {expected} beside input {tuple(input.shape)}, got {tuple(target.shape)}.")
    if mask is None:
        return input.new_ones(one, dtype=torch.float32)
    if mask.shape != one:
        raise ValueError(f"`mask` must be (B, 1, ...) beside input {tuple(input.shape)}, got {tuple(mask.shape)}.")
    return mask.detach().float()


def _target(input: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Class numbers without their channel, 0 where they do not count; or probabilities in float32."""
    target = target.detach()
    if target.shape == input.shape:
        return target.float()
    return torch.where(weight > 0, target.long(), 0).squeeze(1)


def _check_weights(region_weights: Sequence[float]) -> None:
    if not region_weights or any(weight < 0 for weight in region_weights):
        raise ValueError(f"`region_weights` must be numbers from 0, one a region, got {region_weights}.")
