"""How good pseudo-labels are: what a threshold keeps, how much of it is right, and whether two networks agree."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from monai_ssl.losses.confidence import confidence_mask
from monai_ssl.metrics.calibration import top_labels

__all__ = ["agreement_counts", "foreground_agreement", "kept_label_counts", "kept_share", "precision_and_recall"]


def kept_label_counts(probabilities: Tensor, labels: Tensor, threshold: float = 0.0) -> Tensor:
    r"""Count, class by class, the voxels that a confidence threshold keeps as pseudo-labels.

    With :math:`\hat y` the most probable class of a voxel, :math:`\hat p` its probability and :math:`y` the reference,
    row :math:`k` holds

    .. math:: |\{y = k\}|, \quad |\{\hat y = k\}|, \quad |\{\hat y = k, \hat p > \tau\}|, \quad
        |\{\hat y = k, \hat p > \tau, y = k\}|

    the voxels that are labelled, predicted, kept, and kept and right. What is kept is what
    :func:`~monai_ssl.losses.confidence.confidence_mask` keeps in training. Tables of different cases add up.

    Args:
        probabilities: of C classes, background first.
        labels: reference classes, whole numbers in any dtype.
        threshold: confidence :math:`\tau` above which a voxel is kept, in [0, 1); 0 keeps all.

    Shape:
        - probabilities: ``(B, C, H, W[, D])``
        - labels: ``(B, 1, H, W[, D])``
        - counts: ``(C, 4)``, int64, on the CPU

    Raises:
        ValueError: when the shapes do not agree, or a value is no probability, no class or no threshold.

    Reference:
        K. Sohn et al.: FixMatch, NeurIPS 2020, https://arxiv.org/abs/2001.07685, equation 4: the threshold.
    """
    _, predicted, truth = top_labels(probabilities, labels)
    kept = confidence_mask(probabilities.detach().as_subclass(Tensor), threshold).flatten().cpu()
    parts = (truth, predicted, predicted[kept], predicted[kept & (predicted == truth)])
    return torch.stack([torch.bincount(part, minlength=probabilities.shape[1]) for part in parts], 1)


def precision_and_recall(counts: Tensor) -> tuple[Tensor, Tensor]:
    r"""Of the kept voxels of a class those that are right, and of the labelled voxels those that are kept and right.

    .. math:: P_k = \frac{|\mathrm{kept} \cap \mathrm{right}|_k}{|\mathrm{kept}|_k}, \qquad
        R_k = \frac{|\mathrm{kept} \cap \mathrm{right}|_k}{|\mathrm{labelled}|_k}

    A voxel that the threshold drops is missing like one that gets a wrong class: otherwise the recall of a class would
    be best where nearly nothing of it is kept.

    Args:
        counts: of :func:`kept_label_counts`.

    Shape:
        - counts: ``(C, 4)``
        - precision, recall: ``(C,)``, NaN where no voxel is kept, or labelled
    """
    labelled, _, kept, right = _columns(counts, 4)
    return right / kept, right / labelled


def kept_share(counts: Tensor) -> float:
    """Share of the voxels that are kept, of those predicted as one of the classes given; NaN of no voxel.

    Args:
        counts: of :func:`kept_label_counts`; all rows, or those of some classes, such as ``counts[1:]``.
    """
    _, predicted, kept, _ = _columns(counts, 4).sum(1).tolist()
    return kept / predicted if predicted else math.nan


def agreement_counts(first: Tensor, second: Tensor, classes: int) -> Tensor:
    """Count the voxels of each class in two label maps, and in both. Tables of different cases add up.

    Args:
        first: predicted classes, such as a student's ``argmax``.
        second: those of the other network, such as its teacher's.
        classes: number C of classes, background included.

    Shape:
        - first, second: any, the same
        - counts: ``(C, 3)``, int64, on the CPU

    Raises:
        ValueError: when the shapes differ, or a value is no class.
    """
    if first.shape != second.shape:
        raise ValueError(f"two label maps must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}.")
    maps = [part.detach().as_subclass(Tensor).flatten().cpu().long() for part in (first, second)]
    for part in maps:
        if bool(((part < 0) | (part >= classes)).any()):
            raise ValueError(f"a label map must hold whole numbers from 0 to {classes - 1}, got {_extremes(part)}.")
    parts = (*maps, maps[0][maps[0] == maps[1]])
    return torch.stack([torch.bincount(part, minlength=classes) for part in parts], 1)


def foreground_agreement(counts: Tensor) -> float:
    r"""Dice of two networks' label maps, over all cases, mean over the foreground classes that one of them predicts.

    .. math:: \frac{1}{|K|} \sum_{k \in K} \frac{2 |A_k \cap B_k|}{|A_k| + |B_k|},
        \quad K = \{k \ge 1: |A_k| + |B_k| > 0\}

    Not the share of voxels with the same class: where 97 % are background that is near 1 whatever happens to the rest.

    Args:
        counts: of :func:`agreement_counts`.

    Returns:
        The agreement in [0, 1]; NaN where neither predicts any foreground.
    """
    first, second, both = _columns(counts, 3)[:, 1:]
    return float((2 * both / (first + second)).nanmean())


def _columns(counts: Tensor, number: int) -> Tensor:
    if counts.ndim != 2 or counts.shape[1] != number:
        raise ValueError(f"`counts` must be (C, {number}), got {tuple(counts.shape)}.")
    return counts.double().T


def _extremes(values: Tensor) -> str:
    return f"{int(values.min())} to {int(values.max())}"
