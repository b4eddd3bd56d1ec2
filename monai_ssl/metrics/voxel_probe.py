"""A linear probe of features of voxels: how well the classes of a mask can be read from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from monai_ssl.utils.errors import UserError

__all__ = ["VoxelProbe", "fit_voxel_probe"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
_OFFSETS = tuple(np.arange(-4.0, 6.5, 0.5))
_NEVER = -1e4  # logit of a class that no training voxel has


@dataclass(frozen=True)
class VoxelProbe:
    """Logits linear in the features as they are: the standardisation is part of the weights.

    Attributes:
        weight: ``(K, F)``.
        bias: ``(K,)``.
    """

    weight: Array
    bias: Array


def fit_voxel_probe(
    features: Array, labels: Labels, counts: Array, cases: Labels, classes: int, folds: int = 3
) -> VoxelProbe:
    r"""Fit a multinomial logistic regression to sampled voxels, and the threshold of its foreground.

    The sample holds about as many voxels of each class, while a scan is nearly all background. So the regularisation is
    chosen by log loss, and then an offset :math:`t` is added to the background's logit, the one with the best mean
    Dice over the foreground classes,

    .. math:: D_k(t) = \frac{2 \sum_i n_i [\hat y_i(t) = k][y_i = k]}{\sum_i n_i ([\hat y_i(t) = k] + [y_i = k])}

    where :math:`n_i` is the number of voxels that a sampled one stands for. Both choices are made on predictions for
    training cases that had no part in the fit; with a single case, on the fit itself.

    Args:
        features: of the sampled voxels.
        labels: their classes, 0 for background.
        counts: voxels that each stands for.
        cases: the case each is from.
        classes: number K of classes, background included; one that no voxel has is never predicted.
        folds: at most so many groups of cases.

    Shape:
        - features: ``(N, F)``
        - labels, counts, cases: ``(N,)``

    Raises:
        UserError: when the sampled voxels are of one class.
    """
    present = np.unique(labels)
    if len(present) < 2:
        raise UserError(f"the training masks hold the class {', '.join(map(str, present))} alone: nothing to probe.")
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    scaled = (features - mean) / deviation
    best = (np.inf, _STRENGTHS[0], np.zeros((len(labels), classes)))
    for strength in _STRENGTHS:
        logits = _logits_of_unseen(scaled, labels, cases, classes, strength, folds)
        best = min(best, (_log_loss(logits, labels), strength, logits), key=lambda entry: entry[0])
    _, strength, logits = best
    dice = [_weighted_dice(logits, offset, labels, counts) for offset in _OFFSETS]
    weight, bias = _fit(scaled, labels, classes, strength)
    bias[0] += _OFFSETS[int(np.argmax(dice))]
    return VoxelProbe(weight / deviation, bias - (weight / deviation) @ mean)


def _logits_of_unseen(scaled: Array, labels: Labels, cases: Labels, classes: int, strength: float, folds: int) -> Array:
    count = min(folds, len(np.unique(cases)))
    parts = list(GroupKFold(count).split(scaled, labels, cases)) if count > 1 else [(slice(None), slice(None))]
    logits = np.zeros((len(labels), classes))
    for train, test in parts:
        weight, bias = _fit(scaled[train], labels[train], classes, strength)
        logits[test] = scaled[test] @ weight.T + bias
    return logits


def _fit(scaled: Array, labels: Labels, classes: int, strength: float) -> tuple[Array, Array]:
    weight, bias = np.zeros((classes, scaled.shape[1])), np.full(classes, _NEVER)
    if len(np.unique(labels)) == 1:
        bias[labels[0]] = 0.0
        return weight, bias
    model = LogisticRegression(C=strength, max_iter=1000, tol=1e-3).fit(scaled, labels)
    if len(model.classes_) == 2:  # scikit-learn keeps the second class's logit alone
        weight[model.classes_[1]] = model.coef_[0]
        bias[model.classes_] = [0.0, model.intercept_[0]]
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias


def _log_loss(logits: Array, labels: Labels) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels] - np.log(np.exp(shifted).sum(axis=1))
    return -float(own.mean())


def _weighted_dice(logits: Array, offset: float, labels: Labels, counts: Array) -> float:
    shifted = logits.copy()
    shifted[:, 0] += offset
    predicted = shifted.argmax(axis=1)
    scores = []
    for label in np.unique(labels[labels > 0]):
        hit, found, there = (predicted == label) & (labels == label), predicted == label, labels == label
        scores.append(2 * counts[hit].sum() / (counts[found].sum() + counts[there].sum()))
    return float(np.mean(scores))
