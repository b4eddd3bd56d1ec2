"""How far the features of an encoder spread, and whether they tell cases apart: figures of a table of embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["effective_rank", "feature_spread", "majority_share", "nearest_neighbour_accuracy"]


def feature_spread(embeddings: Tensor) -> float:
    r"""How far the directions of the embeddings spread: 0 when all are the same, 1 when they cancel each other.

    .. math:: s = \sqrt{\frac{1}{N} \sum_i \|u_i - \bar u\|^2} = \sqrt{1 - \|\bar u\|^2}, \quad u_i = z_i / \|z_i\|

    Independent Gaussian features come to :math:`\sqrt{1 - 1/N}`. The length of an embedding does not matter. Features
    that share a mean, as those behind a ReLU do, are well below 1 from the start (an untrained U-Net: about 0.05), so
    that a run is compared with its own untrained network.

    Args:
        embeddings: one row a case; a row of zeros has no direction and stays 0.

    Shape:
        - embeddings: ``(N, F)``, with N from 2

    Raises:
        ValueError: when it is no such table, or holds NaN or infinity.

    Reference:
        X. Chen, K. He: Exploring Simple Siamese Representation Learning, CVPR 2021,
        https://arxiv.org/abs/2011.10566, section 4.1: the deviation of the normalised output, which collapse brings to
        0 and which is :math:`1/\sqrt F` for a Gaussian. Here the variances are summed over the features, so that
        the figure does not depend on their number.
    """
    unit = F.normalize(_checked(embeddings), dim=1)
    return float((unit - unit.mean(0)).square().sum(1).mean().sqrt())


def effective_rank(embeddings: Tensor) -> float:
    r"""Number of directions in which the embeddings differ, counted by their share.

    .. math:: \exp\Bigl(-\sum_k p_k \ln p_k\Bigr), \quad p_k = \sigma_k / \sum_j \sigma_j

    with the singular values :math:`\sigma` of the centred table. At most :math:`\min(N - 1, F)`; 1 when all
    embeddings lie on a line, 0 when they are equal up to the rounding of their type.

    Args:
        embeddings: one row a case.

    Shape:
        - embeddings: ``(N, F)``, with N from 2

    Raises:
        ValueError: when it is no such table, or holds NaN or infinity.

    Reference:
        O. Roy, M. Vetterli: The effective rank: a measure of effective dimensionality, EUSIPCO 2007,
        https://www.eurasip.org/Proceedings/Eusipco/Eusipco2007/Papers/a5p-h05.pdf, definition 1. Centred here: else
        what all cases have in common counts as a direction, and outweighs the others.
    """
    table = _checked(embeddings)
    values = torch.linalg.svdvals(table - table.mean(0))
    # without a floor equal embeddings would have the full rank of their rounding errors
    rounding = torch.finfo(embeddings.dtype).eps * max(table.shape) if embeddings.is_floating_point() else 0.0
    values = values[values > rounding * torch.linalg.matrix_norm(table, 2)]
    if not len(values):
        return 0.0
    return float(torch.special.entr(values / values.sum()).sum().exp())


def nearest_neighbour_accuracy(
    embeddings: Tensor,
    labels: Tensor | Sequence[int],
    k: int = 5,
    groups: Tensor | Sequence[int] | None = None,
) -> float:
    r"""Share of cases whose class is that of most of their nearest neighbours, each case left out in turn.

    Near is what has a large cosine. Of classes with equally many neighbours the one with the larger sum of cosines
    wins, then the smaller number. To be read against :func:`majority_share`, which knows nothing.

    Args:
        embeddings: one row a case.
        labels: class of each case, a whole number.
        k: number of neighbours, from 1; all others where there are fewer.
        groups: number of the patient, where cases may share one: cases of one's own group are no neighbours.

    Shape:
        - embeddings: ``(N, F)``, with N from 2
        - labels, groups: ``(N,)``

    Raises:
        ValueError: when the shapes do not agree, a label is no whole number, ``k`` is below 1, the table holds NaN or
            infinity, or a case has no neighbour outside its group.

    Reference:
        Z. Wu et al.: Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018,
        https://arxiv.org/abs/1805.01978, section 3.4, with plain votes.
    """
    unit = F.normalize(_checked(embeddings), dim=1)
    classes = _numbers("labels", labels, unit).unique(return_inverse=True)[1]
    group = torch.arange(len(unit), device=unit.device) if groups is None else _numbers("groups", groups, unit)
    if k < 1:
        raise ValueError(f"`k` must be at least 1 neighbour, got {k}.")
    own = group[:, None] == group
    if bool(own.all(1).any()):
        raise ValueError("`groups` must leave each case a neighbour: one group holds all cases.")
    similarity = (unit @ unit.T).masked_fill(own, -torch.inf)
    near, index = similarity.sort(dim=1, descending=True, stable=True)
    near, index = near[:, :k], index[:, :k]
    votes = torch.zeros(len(unit), int(classes.max()) + 1, dtype=unit.dtype, device=unit.device)
    # a neighbour's vote and, for ties, its cosine: brought to 0..1 and divided so that k of them stay below one vote
    vote = torch.where(near.isinf(), 0.0, 1.0 + (1.0 + near).clamp(0, 2) / (2 * k + 1))
    votes.scatter_add_(1, classes[index], vote)
    return float((votes.argmax(1) == classes).double().mean())


def majority_share(labels: Tensor | Sequence[int]) -> float:
    """Share of the commonest class: the accuracy of always answering it.

    Args:
        labels: class of each case, ``(N,)``.

    Raises:
        ValueError: when there is none.
    """
    classes = torch.as_tensor(labels).flatten()
    if not len(classes):
        raise ValueError("`labels` must hold one class at least, got none.")
    return float(classes.unique(return_counts=True)[1].max()) / len(classes)


def _checked(embeddings: Tensor) -> Tensor:
    if embeddings.ndim != 2 or len(embeddings) < 2 or embeddings.shape[1] < 1:
        raise ValueError(f"`embeddings` must be (N, F) with two cases at least, got {tuple(embeddings.shape)}.")
    if not bool(torch.isfinite(embeddings).all()):
        raise ValueError("`embeddings` must be finite, got NaN or infinity.")
    return embeddings.detach().to(torch.float64)


def _numbers(name: str, values: Tensor | Sequence[int], table: Tensor) -> Tensor:
    given = torch.as_tensor(values, device=table.device)
    if given.shape != table.shape[:1] or not bool((given == given.long()).all()):
        raise ValueError(f"`{name}` must be one whole number for each of {len(table)} cases, got {values}.")
    return given.long()
