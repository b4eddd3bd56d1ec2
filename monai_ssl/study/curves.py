"""Whole label-efficiency curves: read, drawn again, made monotone, and read backwards."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from monai_ssl.study.components import Array, checked_scores, mean_products

__all__ = ["Curve", "draw_means", "labels_for", "non_increasing", "seed_weights", "stacked_curve"]

Curve = Mapping[int, ArrayLike]
# what differs by less is equal: sums in another order must not move a crossing along a plateau
_EQUAL = 1e-12


def stacked_curve(curve: Curve, *, name: str) -> tuple[Array, list[Array]]:
    """Budgets in rising order and the checked scores at each.

    Args:
        curve: scores by number of labels.
        name: the argument's name, for the message.

    Shape:
        - curve: each ``(S, N)``, seeds by cases; a budget with a single run is ``(1, N)``
        - Output: ``(K,)`` and K arrays

    Raises:
        ValueError: when there is no budget, one is not above 0, or a score is missing.
    """
    if not curve or min(curve) <= 0:
        raise ValueError(f"`{name}` must have one budget at least, and labels above 0, got {sorted(curve)}.")
    budgets = sorted(curve)
    return np.array(budgets, dtype=np.float64), [
        checked_scores(curve[budget], name=f"{name}[{budget}]") for budget in budgets
    ]


def draw_means(scores: Array, *, draws: int, seed: int) -> Array:
    r"""Draw all means of a study again, jointly, as another set of seeds and cases might have given them.

    .. math::
        \bar y^* = \bar y + \frac{1}{\sqrt{S N}} \left( M_S^{1/2} z_1 \sqrt{f_S / \chi^2_{f_S}} +
            (M_C - M_R)_+^{1/2} z_2 \sqrt{f_C / \chi^2_{f_C}} \right)

    with the mean products of :func:`~monai_ssl.study.components.mean_products`, normal :math:`z`, and :math:`(\cdot)_+`
    without negative eigenvalues. Each draw moves whole curves along what the study's own seeds and cases did, so
    methods and budgets stay paired. Seeds drawn with replacement would vary too little, by a factor of
    :math:`(S - 1) / S`, and have no tails, which with 3 seeds is ruinous; the divisors bring Student's tails.
    With more seeds than cases the two change places. A single seed leaves the cases, a single case the seeds.

    Args:
        scores: variables (method and budget) by seeds by cases.
        draws: number of draws.
        seed: of the draws, so that a study gives the same table twice.

    Shape:
        - scores: ``(K, S, N)``
        - Output: ``(draws, K)``

    Raises:
        ValueError: when there is one seed and one case.

    Reference:
        K.-W. Tsui, S. Weerahandi: Generalized p-Values in Significance Testing of Hypotheses in the Presence of
        Nuisance Parameters, JASA 84(406), 1989, https://doi.org/10.1080/01621459.1989.10478810; here for whole curves
        in place of one mean, and with the residual's own uncertainty left out.
    """
    if scores.shape[1] > scores.shape[2]:
        scores = np.swapaxes(scores, 1, 2)
    variables, scarce, plenty = scores.shape
    if scarce * plenty == 1:
        raise ValueError("`scores` must hold two seeds or two cases at least, got one of each.")
    by_scarce, by_plenty, rest = mean_products(scores)
    generator = np.random.default_rng(seed)
    moved = np.zeros((draws, variables))
    for product, degrees in ((by_scarce, scarce - 1), (by_plenty - rest, plenty - 1)):
        normal = generator.standard_normal((draws, variables))
        if degrees:
            divisor = np.sqrt(generator.chisquare(degrees, (draws, 1)) / degrees)
            moved += normal @ _root(product) / divisor
    return scores.mean((1, 2)) + moved / math.sqrt(scarce * plenty)


def non_increasing(errors: Array, weights: Array) -> Array:
    r"""The closest curve that never rises, curve by curve: weighted least squares.

    .. math:: \hat e_k = \min_{i \le k} \max_{j \ge k} \frac{\sum_{l=i}^{j} w_l e_l}{\sum_{l=i}^{j} w_l}

    Args:
        errors: mean errors in the order of rising budgets.
        weights: one over the variance of each; see :func:`seed_weights`.

    Shape:
        - errors: ``(..., K)``
        - weights: ``(K,)``
        - Output: ``(..., K)``

    Reference:
        R. E. Barlow et al.: Statistical Inference under Order Restrictions, Wiley 1972, chapter 1 (min-max formula).
    """
    start, stop = np.arange(len(weights))[:, None], np.arange(len(weights))[None]
    inside = stop >= start
    totals = np.concatenate([[0.0], np.cumsum(weights)])
    sums = np.concatenate([np.zeros_like(errors[..., :1]), np.cumsum(errors * weights, axis=-1)], axis=-1)
    means = sums[..., None, 1:] - sums[..., :-1, None]
    means = np.where(inside, means / np.where(inside, totals[None, 1:] - totals[:-1, None], 1.0), -np.inf)
    highest = np.maximum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
    return np.where(inside, highest, np.inf).min(-2)


def seed_weights(scores: Array) -> Array:
    """One over the seeds' mean square of each budget, scaled to a mean of 1.

    With one or two labels seeds scatter several times as much as with sixteen: with equal weights their noise would
    pull the well-measured end of the curve. Cases do not count, because they move whole curves. A budget with a
    single run counts like the steadiest of the others; where no budget has two seeds, all count alike.

    Shape:
        - scores: ``(K, S, N)``
        - Output: ``(K,)``
    """
    squares = np.diag(mean_products(scores)[0])
    measured = squares > _EQUAL * squares.max()
    weights = 1 / np.where(measured, squares, squares[measured].min() if measured.any() else 1.0)
    return weights / weights.mean()


def labels_for(error: Array, errors: Array, budgets: Array, *, near: float) -> Array:
    """Labels at which a curve reaches an error: linear between budgets over the logarithm of labels, never beyond.

    Args:
        error: errors to reach.
        errors: curves that never rise.
        budgets: labels at which they were measured, rising.
        near: where the curve is flat at just this error, the number of labels closest to this one is taken.

    Shape:
        - error: ``(B,)``
        - errors: ``(B, K)``
        - budgets: ``(K,)``
        - Output: ``(B,)``; infinite where the curve does not get that low, 0 where it starts lower

    Raises:
        ValueError: when the budgets do not rise.
    """
    if np.any(np.diff(budgets) <= 0):
        raise ValueError(f"`budgets` must rise, got {budgets.tolist()}.")
    logs, rows, last = np.log(budgets), np.arange(len(error)), len(budgets) - 1
    first_below = (errors > error[:, None] + _EQUAL).sum(1)
    last_above = (errors >= error[:, None] - _EQUAL).sum(1) - 1

    def between(left: Array, right: Array) -> Array:
        left, right = np.clip(left, 0, last), np.clip(right, 0, last)
        fall = errors[rows, left] - errors[rows, right]
        share = np.clip((errors[rows, left] - error) / np.where(fall > 0, fall, 1.0), 0.0, 1.0)
        return logs[left] + share * (logs[right] - logs[left])

    reached = between(first_below - 1, first_below), between(last_above, last_above + 1)
    labels = np.exp(np.clip(math.log(near), *reached))
    return np.where(first_below > last, np.inf, np.where(last_above < 0, 0.0, labels))


def _root(product: Array) -> Array:
    # symmetric, so that the sign of an eigenvector, which libraries choose freely, does not matter
    values, vectors = np.linalg.eigh(product)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
