"""Whether a network is as right as it is sure: reliability counts and the expected calibration error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["expected_calibration_error", "mean_confidence", "reliability_counts", "top_labels"]

_ROUNDING = 1e-3  # by which a softmax in half precision may come out above 1


def reliability_counts(probabilities: Tensor, labels: Tensor, bins: int = 15, mask: Tensor | None = None) -> Tensor:
    r"""Sort voxels into bins by their confidence and count how many there are, how sure and how right.

    With :math:`\hat y = \arg\max_k p_k` and :math:`\hat p = \max_k p_k` bin :math:`m` of :math:`M` holds the voxels
    with :math:`\hat p \in ((m - 1) / M, m / M]`, apart for each predicted class :math:`\hat y`. Of each it has

    .. math:: |B_m|, \quad \sum_{i \in B_m} \hat p_i, \quad \sum_{i \in B_m} [\hat y_i = y_i]

    Tables of different cases add up, so that no voxel has to be kept; ``counts.sum(0)`` is the usual table over all
    classes, ``counts[1:]`` that of the voxels that are predicted as foreground.

    Args:
        probabilities: of C classes, background first.
        labels: reference classes, whole numbers in any dtype.
        bins: number M of bins of equal width; 15 as in the paper.
        mask: voxels that count; by default all.

    Shape:
        - probabilities: ``(B, C, H, W[, D])``
        - labels, mask: ``(B, 1, H, W[, D])``
        - counts: ``(C, bins, 3)``, float64, on the CPU

    Raises:
        ValueError: when the shapes do not agree, ``bins`` is below 1, or a value is no probability or no class.

    Reference:
        C. Guo et al.: On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599,
        equations 1 and 2.
    """
    if bins < 1:
        raise ValueError(f"`bins` must be at least 1, got {bins}.")
    if mask is not None and mask.shape != labels.shape:
        raise ValueError(f"`mask` must have the shape of `labels` {tuple(labels.shape)}, got {tuple(mask.shape)}.")
    confidence, predicted, truth = top_labels(probabilities, labels)
    if mask is not None:
        chosen = mask.as_subclass(Tensor).cpu().flatten() > 0
        confidence, predicted, truth = confidence[chosen], predicted[chosen], truth[chosen]
    classes = probabilities.shape[1]
    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    place = predicted * bins + torch.bucketize(confidence, edges)
    # on the CPU: the sums of other devices depend on the order in which their threads come by
    sums = [torch.bincount(place, values, classes * bins) for values in (confidence, (predicted == truth).double())]
    return torch.stack([torch.bincount(place, minlength=classes * bins), *sums], 1).unflatten(0, (classes, bins))


def expected_calibration_error(counts: Tensor) -> float:
    r"""Mean distance between confidence and accuracy over the bins, weighted by their voxels.

    .. math:: \mathrm{ECE} = \sum_m \frac{|B_m|}{N} \bigl|\mathrm{acc}(B_m) - \mathrm{conf}(B_m)\bigr|

    It is that of the predicted class (top-label) alone. In scans that are nearly all background it says next to nothing
    about the foreground: look at ``counts[1:]`` too, or at the ``counts[k]`` of one predicted class.

    Args:
        counts: of :func:`reliability_counts`, of all classes or some; a table ``(bins, 3)`` is one class.

    Shape:
        - counts: ``(..., bins, 3)``

    Returns:
        The error in [0, 1]; NaN of no voxel.

    Reference:
        C. Guo et al.: On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599,
        equation 3.
    """
    number, confidence, right = _bins(counts).unbind(1)
    return float((right - confidence).abs().sum() / number.sum()) if number.any() else math.nan


def mean_confidence(counts: Tensor) -> float:
    """Mean confidence of the voxels that were counted; NaN of no voxel.

    Args:
        counts: see :func:`expected_calibration_error`.
    """
    number, confidence, _ = _bins(counts).sum(0).tolist()
    return confidence / number if number else math.nan


def top_labels(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Confidence, predicted class and reference class of every voxel, in one row each, on the CPU.

    Args:
        probabilities: of C classes.
        labels: reference classes.

    Shape:
        - probabilities: ``(B, C, H, W[, D])``
        - labels: ``(B, 1, H, W[, D])``

    Raises:
        ValueError: when the shapes do not agree, or a value is no probability or no class.
    """
    if probabilities.ndim < 3 or labels.shape != (len(probabilities), 1, *probabilities.shape[2:]):
        raise ValueError(
            "`labels` must be (B, 1, H, W[, D]) beside `probabilities` (B, C, H, W[, D]), "
            f"got {tuple(labels.shape)} and {tuple(probabilities.shape)}."
        )
    classes = probabilities.shape[1]
    highest, predicted = probabilities.detach().as_subclass(Tensor).max(1)
    confidence = highest.flatten().cpu().double()
    wrong = confidence[~((confidence >= 1 / classes - _ROUNDING) & (confidence <= 1 + _ROUNDING))]
    if len(wrong):
        raise ValueError(
            f"`probabilities` must be a softmax over {classes} classes, got a largest one of {wrong[0]:g}."
        )
    given = labels.detach().as_subclass(Tensor).flatten().cpu()
    truth = given.long()
    no_class = given[(truth != given) | (truth < 0) | (truth >= classes)]
    if len(no_class):
        raise ValueError(f"`labels` must be whole numbers from 0 to {classes - 1}, got {float(no_class[0]):g}.")
    return confidence, predicted.flatten().cpu(), truth


def _bins(counts: Tensor) -> Tensor:
    if counts.ndim < 2 or counts.shape[-1] != 3:
        raise ValueError(f"`counts` must be (..., bins, 3), got {tuple(counts.shape)}.")
    return counts.reshape(-1, *counts.shape[-2:]).sum(0)
