"""Scores of seeds by cases, checked, and what varies in them: seeds, cases and the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Array",
    "VarianceComponents",
    "checked_scores",
    "counts_in_words",
    "mean_products",
    "paired_scores",
    "variance_components",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class VarianceComponents:
    """Standard deviations of the crossed random effects; None where one seed or one case cannot tell.

    Attributes:
        seed_sd: between seeds, the same for every case.
        case_sd: between cases, the same for every seed.
        residual_sd: what is left, cases that one seed does better and another worse.
        seeds: number of seeds.
        cases: number of cases.
    """

    seed_sd: float | None
    case_sd: float | None
    residual_sd: float | None
    seeds: int
    cases: int

    def __str__(self) -> str:
        named = {"seeds": self.seed_sd, "cases": self.case_sd, "residual": self.residual_sd}
        known = ", ".join(f"{name} {'unknown' if sd is None else f'{sd:.4f}'}" for name, sd in named.items())
        return f"standard deviations: {known} ({counts_in_words(self.seeds, self.cases)})"


def checked_scores(scores: ArrayLike, *, name: str = "scores") -> Array:
    """The scores as a float64 array, refused where one is missing.

    A study with a failed run or an unscored case has to say so and drop the seed or the case from every method; a
    mean over what happens to be there would compare different cases.

    Args:
        scores: one score for every seed and case.
        name: the argument's name, for the message.

    Shape:
        - scores: ``(S, N)``, seeds by cases

    Raises:
        ValueError: when the array has another shape, is empty, or holds NaN or an infinite score.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"`{name}` must have shape (seeds, cases) with one of each at least, got {array.shape}.")
    missing = np.argwhere(~np.isfinite(array))
    if len(missing):
        seed, case = missing[0]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"`{name}` must hold a finite score for every seed and case, got {array[seed, case]} at index "
            f"[{seed}, {case}] (seed, case){more}. Drop that seed or that case from every method."
        )
    return array


def paired_scores(reference: ArrayLike, other: ArrayLike, *, names: tuple[str, str]) -> tuple[Array, Array]:
    """Both arrays, checked, the seeds of one being the seeds of the other.

    A single run, such as the ceiling, stands for every seed of the other array: it then counts as fixed, and how much
    another seed would have changed it is in no interval.

    Shape:
        - reference, other: ``(S, N)``, or one of them ``(1, N)``
        - Output: twice ``(S, N)``

    Raises:
        ValueError: as :func:`checked_scores`, and when seeds or cases do not pair.
    """
    first, second = (checked_scores(scores, name=name) for scores, name in zip((reference, other), names, strict=True))
    seeds = {len(first), len(second)} - {1}
    if first.shape[1] != second.shape[1] or len(seeds) > 1:
        raise ValueError(
            f"`{names[1]}` must have the seeds and cases of `{names[0]}`, or one seed, "
            f"got shape {second.shape} for {first.shape}."
        )
    shape = (max(len(first), len(second)), first.shape[1])
    return np.broadcast_to(first, shape), np.broadcast_to(second, shape)


def counts_in_words(seeds: int, cases: int) -> str:
    """Seeds and cases, such as ``"5 seeds, 40 cases"``, with what a single one of them leaves out."""
    of_seeds = "1 seed, so other seeds are left out" if seeds == 1 else f"{seeds} seeds"
    of_cases = "1 case, so other cases are left out" if cases == 1 else f"{cases} cases"
    return f"{of_seeds}, {of_cases}"


def mean_products(scores: Array) -> tuple[Array, Array, Array]:
    r"""Mean squares, and mean products of several variables, of the two-way layout without replication.

    .. math::
        M_S &= \frac{N}{S - 1} \sum_s (\bar y_{s\cdot} - \bar y)(\bar y_{s\cdot} - \bar y)^T, \quad
        E\, M_S = \Sigma_{res} + N \Sigma_{seed} \\
        M_C &= \frac{S}{N - 1} \sum_c (\bar y_{\cdot c} - \bar y)(\bar y_{\cdot c} - \bar y)^T, \quad
        E\, M_C = \Sigma_{res} + S \Sigma_{case} \\
        M_R &= \frac{1}{(S - 1)(N - 1)} \sum_{sc} r_{sc} r_{sc}^T, \quad E\, M_R = \Sigma_{res}

    with :math:`r_{sc} = y_{sc} - \bar y_{s\cdot} - \bar y_{\cdot c} + \bar y`. One seed or one case gives zeros where
    there is nothing to compare.

    Shape:
        - scores: ``(K, S, N)``, variables by seeds by cases
        - Output: three times ``(K, K)``: seeds, cases, residual

    Reference:
        H. Scheffé: The Analysis of Variance, Wiley 1959, chapter 7.
    """
    _, seeds, cases = scores.shape
    mean = scores.mean((1, 2), keepdims=True)
    by_seed = scores.mean(2, keepdims=True) - mean
    by_case = scores.mean(1, keepdims=True) - mean
    rest = scores - by_seed - by_case - mean

    def product(deviations: Array, times: int, degrees: int) -> Array:
        flat = deviations.reshape(len(deviations), -1)
        return times * (flat @ flat.T) / max(degrees, 1)

    return (
        product(by_seed, cases, seeds - 1),
        product(by_case, seeds, cases - 1),
        product(rest, 1, (seeds - 1) * (cases - 1)),
    )


def variance_components(scores: ArrayLike) -> VarianceComponents:
    r"""Estimate what varies by the method of moments (ANOVA), no component below zero.

    .. math:: y_{sc} = \mu + a_s + b_c + e_{sc}, \quad
        \hat\sigma^2_{seed} = \max\left(\frac{M_S - M_R}{N}, 0\right), \quad
        \hat\sigma^2_{case} = \max\left(\frac{M_C - M_R}{S}, 0\right), \quad \hat\sigma^2_{res} = M_R

    Args:
        scores: of one method, or the difference of two methods, at one budget.

    Shape:
        - scores: ``(S, N)``, seeds by cases

    Raises:
        ValueError: as :func:`checked_scores`.

    Reference:
        H. Scheffé: The Analysis of Variance, Wiley 1959, chapter 7.
    """
    array = checked_scores(scores)
    seeds, cases = array.shape
    seed, case, rest = (float(part[0, 0]) for part in mean_products(array[None]))
    if seeds == 1 or cases == 1:
        return VarianceComponents(
            math.sqrt(seed / cases) if seeds > 1 else None,
            math.sqrt(case / seeds) if cases > 1 else None,
            None,
            seeds,
            cases,
        )
    return VarianceComponents(
        math.sqrt(max(seed - rest, 0.0) / cases),
        math.sqrt(max(case - rest, 0.0) / seeds),
        math.sqrt(rest),
        seeds,
        cases,
    )
