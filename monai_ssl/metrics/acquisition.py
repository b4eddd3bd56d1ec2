"""Which unlabelled scans to label next: those that a network is unsure of, those unlike all with labels, or both."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from monai_ssl.losses.entropy import predictive_entropy
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.seeding import derive_seed

__all__ = ["STRATEGIES", "box_uncertainty", "choose_scans", "farthest_first", "scan_uncertainty"]

STRATEGIES = ("random", "first", "uncertainty", "coverage", "uncertainty_coverage")
"""Rules of :func:`choose_scans`."""


def scan_uncertainty(probabilities: Tensor, share: float = 0.05) -> float:
    r"""How unsure a network is of a scan: its entropy over the voxels where that is largest.

    .. math:: u = \frac{1}{|V| \ln C} \sum_{v \in V} H(p(v))

    for the share :math:`V` of voxels with the largest entropy: over all voxels the background, of which every network
    is sure, would drown the rest. Of a mean of several networks, such as student and teacher, or of several views, this
    is their own mean entropy and, added to it, their disagreement (the Jensen-Shannon divergence).

    Args:
        probabilities: class probabilities.
        share: of the voxels, in (0, 1].

    Shape:
        - probabilities: ``(C, H, W[, D])``, C of 2 or more
        - output: between 0 and 1

    Raises:
        ValueError: when there are no two classes, or ``share`` is out of range.

    Reference:
        Y. Gal, R. Islam, Z. Ghahramani: Deep Bayesian Active Learning with Image Data, ICML 2017,
        https://arxiv.org/abs/1703.02910, section 4, for the parts of the entropy; the share of voxels is ours.
    """
    if probabilities.dim() < 2 or len(probabilities) < 2:
        raise ValueError(f"`probabilities` must be (C, H, W[, D]) with two classes, got {tuple(probabilities.shape)}.")
    if not 0.0 < share <= 1.0:
        raise ValueError(f"`share` must be in (0, 1], got {share}.")
    entropy = predictive_entropy(probabilities.detach()[None]).flatten()
    most = entropy.topk(max(1, round(share * len(entropy)))).values
    return float(most.mean()) / math.log(len(probabilities))


def box_uncertainty(scores: Tensor, count: int = 5) -> float:
    r"""How unsure a detector is of a scan: the mean entropy of the boxes that it is least sure of.

    .. math:: u = \frac{1}{n} \sum_{i \in \text{the } n \text{ largest}} H(s_i), \quad
              H(s) = -s \log_2 s - (1 - s) \log_2 (1 - s)

    A scan with fewer than n boxes counts the missing ones as 0, so one without any is one that it is sure of.

    Args:
        scores: of the boxes, in [0, 1].
        count: number n, 1 or more.

    Shape:
        - scores: ``(N,)``
        - output: between 0 and 1

    Raises:
        ValueError: when a score is out of range, or ``count``.

    Reference:
        C.-A. Brust, C. Käding, J. Denzler: Active Learning for Deep Object Detection, VISAPP 2019,
        https://arxiv.org/abs/1809.09875, for adding up over boxes; the entropy and the number of boxes are ours.
    """
    if scores.dim() != 1 or not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ValueError(f"`scores` must be (N,) in [0, 1], got {tuple(scores.shape)}.")
    if count < 1:
        raise ValueError(f"`count` must be 1 or more, got {count}.")
    values = scores.detach().double()
    entropy = -(torch.xlogy(values, values) + torch.xlogy(1 - values, 1 - values)) / math.log(2)
    return float(entropy.sort(descending=True).values[:count].sum()) / count


def farthest_first(features: ArrayLike, labeled: ArrayLike, count: int) -> NDArray[np.int64]:
    r"""Choose scans one after the other, each the farthest from all that are labelled or chosen.

    .. math:: i = \arg\max_{j} \min_{k \in \text{labelled} \cup \text{chosen}} \lVert z_j - z_k \rVert

    Where nothing is labelled yet, the first is the scan nearest to the mean of all.

    Args:
        features: of the scans to choose from, a row each.
        labeled: of the labelled scans; may have no row.
        count: number of scans; fewer are chosen where there are fewer.

    Shape:
        - features: ``(N, F)``
        - labeled: ``(M, F)``
        - output: ``(min(count, N),)``, rows in the order of choice

    Raises:
        ValueError: when the shapes do not agree or a value is not finite.

    Reference:
        O. Sener, S. Savarese: Active Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR 2018,
        https://arxiv.org/abs/1708.00489, algorithm 1 (k-center greedy).
    """
    pool = np.asarray(features, dtype=np.float64)
    known = np.asarray(labeled, dtype=np.float64).reshape(-1, pool.shape[-1] if pool.ndim == 2 else 0)
    if pool.ndim != 2 or not (np.isfinite(pool).all() and np.isfinite(known).all()):
        raise ValueError(f"`features` must be finite, (N, F), got {pool.shape}.")
    if len(known):
        gaps = cdist(pool, known).min(axis=1)
    else:
        gaps = -np.linalg.norm(pool - pool.mean(axis=0), axis=1)
    chosen: list[int] = []
    for _ in range(min(count, len(pool))):
        best = int(gaps.argmax())
        to_best = cdist(pool, pool[best, None])[:, 0]
        gaps = np.minimum(gaps, to_best) if chosen or len(known) else to_best
        chosen.append(best)
        gaps[chosen] = -np.inf
    return np.array(chosen, dtype=np.int64)


def choose_scans(
    strategy: str,
    count: int,
    pool: int,
    *,
    uncertainty: ArrayLike | None = None,
    features: ArrayLike | None = None,
    labeled: ArrayLike | None = None,
    seed: int = 0,
    candidates: float = 0.25,
) -> list[int]:
    """Choose unlabelled scans to label next.

    ========================  =========================================================================================
    ``random``                any, a function of the seed
    ``first``                 in the order that they have
    ``uncertainty``           those of largest uncertainty
    ``coverage``              :func:`farthest_first`
    ``uncertainty_coverage``  :func:`farthest_first` among those of largest uncertainty, a share ``candidates`` of all
    ========================  =========================================================================================

    Args:
        strategy: one of :data:`STRATEGIES`.
        count: number of scans, 1 or more.
        pool: number N of scans to choose from.
        uncertainty: ``(N,)``, for the strategies that are named after it.
        features: ``(N, F)``, for those with coverage; each counts alike, as it is divided by its deviation.
        labeled: ``(M, F)``, of the labelled scans; default none.
        seed: of ``random``.
        candidates: share of the scans, in (0, 1]; twice ``count`` at least.

    Returns:
        At most ``count`` numbers of scans, the first to be labelled first.

    Raises:
        UserError: when the strategy is unknown or what it needs is missing.
        ValueError: when a number is out of range.

    Reference:
        L. Yang et al.: Suggestive Annotation, MICCAI 2017, https://arxiv.org/abs/1706.04737, for coverage among the
        uncertain.
    """
    if strategy not in STRATEGIES:
        raise UserError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}.")
    if count < 1 or not 0.0 < candidates <= 1.0:
        raise ValueError(f"`count` must be 1 or more and `candidates` in (0, 1], got {count} and {candidates}.")
    if strategy == "first":
        return list(range(min(count, pool)))
    if strategy == "random":
        order = np.random.default_rng(derive_seed(seed, "acquisition")).permutation(pool)
        return [int(number) for number in order[:count]]
    unsure = _column(uncertainty, pool, "uncertainty") if strategy != "coverage" else np.zeros(pool)
    order = np.argsort(-unsure, kind="stable")
    if strategy == "uncertainty":
        return [int(number) for number in order[:count]]
    if strategy == "uncertainty_coverage":
        order = order[: max(2 * count, math.ceil(candidates * pool))]
    rows, known = _standardised(np.asarray(_given(features, "features"), dtype=np.float64), labeled)
    return [int(order[number]) for number in farthest_first(rows[order], known, count)]


def _standardised(features: NDArray[np.float64], labeled: ArrayLike | None) -> tuple[NDArray[np.float64], ...]:
    """Features that count alike: of mean 0 and deviation 1 over all scans."""
    known = features[:0] if labeled is None else np.asarray(labeled, dtype=np.float64).reshape(-1, features.shape[-1])
    both = np.concatenate([features, known])
    deviation = both.std(axis=0)
    both = (both - both.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return both[: len(features)], both[len(features) :]


def _given(values: ArrayLike | None, name: str) -> ArrayLike:
    if values is None:
        raise UserError(f"this strategy needs {name} of every scan: train a model first, or choose random.")
    return values


def _column(values: ArrayLike | None, pool: int, name: str) -> NDArray[np.float64]:
    column = np.asarray(_given(values, name), dtype=np.float64)
    if column.shape != (pool,) or not np.isfinite(column).all():
        raise ValueError(f"`{name}` must be {pool} finite numbers, got {column.shape}.")
    return column
