"""Intervals of a mean score and of the difference of two methods, seeds and cases both being drawn at random."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from monai_ssl.study.components import checked_scores, counts_in_words, mean_products, paired_scores

__all__ = ["Interval", "difference_interval", "mean_interval"]

# Chosen by simulation; 2 still covers below 94 % in some settings. benchmarks/study_coverage.py shows what 3 does.
_SCARCE_WEIGHT = 3.0
# mean squares that differ by this factor come from means that agree but for rounding
_TIED = 1e-9


@dataclass(frozen=True)
class Interval:
    """A mean with its interval.

    Attributes:
        mean: the estimate.
        low: lower end; equals ``mean`` only where nothing varies.
        high: upper end.
        level: nominal coverage.
        standard_error: of the mean.
        degrees: degrees of freedom of the t quantile.
        seeds: number of seeds; with 1 the interval says nothing about other seeds.
        cases: number of cases; with 1 the interval says nothing about other cases.
        unit: what is measured, such as ``"Dice"``.
        difference: whether it is the difference of two methods, shown with its sign.
    """

    mean: float
    low: float
    high: float
    level: float
    standard_error: float
    degrees: float
    seeds: int
    cases: int
    unit: str = "Dice"
    difference: bool = False

    @property
    def p_value(self) -> float:
        """Two-sided p value of a mean of 0, by the same t statistic, so that it agrees with the interval."""
        if self.standard_error == 0:
            return 0.0 if self.mean else 1.0
        return float(2 * stats.t.sf(abs(self.mean) / self.standard_error, self.degrees))

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside."""
        return self.low > 0 or self.high < 0

    @property
    def counts(self) -> str:
        """Seeds and cases in words, with what a single one of them leaves out."""
        return counts_in_words(self.seeds, self.cases)

    def __str__(self) -> str:
        mean = f"{self.mean:+.3f}" if self.difference else f"{self.mean:.3f}"
        ends = f"{self.level * 100:g} % interval {self.low:.3f} to {self.high:.3f}"
        return f"{mean} {self.unit} ({ends}; {self.counts})"


def mean_interval(scores: ArrayLike, *, level: float = 0.95, unit: str = "Dice", difference: bool = False) -> Interval:
    r"""Mean over seeds and cases, with an interval that holds for new seeds and new cases.

    Seeds and cases are crossed random effects, :math:`y_{sc} = \mu + a_s + b_c + e_{sc}`, so that with the mean
    squares of :func:`~monai_ssl.study.components.mean_products`

    .. math::
        \mathrm{Var}\,\bar y &= \frac{\sigma^2_{seed}}{S} + \frac{\sigma^2_{case}}{N} + \frac{\sigma^2_{res}}{S N}, \\
        v &= \frac{M_S + \max(M_C - M_R, 0)}{S N}, \qquad \bar y \pm t_{f} \sqrt{v}, \\
        f &= \frac{(w M_S + \max(M_C - M_R, 0))^2}{(w M_S)^2 / f_S + M_C^2 / f_C + M_R^2 / f_R}
            \text{ if } M_C > M_R, \text{ else } f_S, \qquad f \ge \min(f_S, f_C)

    with :math:`f_S = S - 1`, :math:`f_C = N - 1`, :math:`f_R = f_S f_C`. For :math:`w = 1` this is Satterthwaite's
    approximation. With 3 seeds that covers too little (down to 91 % for a nominal 95 %): where the seeds happen to
    agree, the variance comes out too small and the degrees of freedom too large, both at once. With :math:`w = 3` the
    degrees of freedom lean on the few seeds. With 3, 5 and 10 seeds, 40 cases, and seeds, cases or the rest dominating
    in turn, it covers 93.9 to 97.0 % (``benchmarks/study_coverage.py``, 2000 studies a setting, so give or take 0.5 %).
    That also has what was not chosen, such as :math:`f = S - 1`, which covers up to 100 % with intervals up to twice
    as wide as needed. Written for :math:`S \le N`; with more seeds than cases the two change places.

    Limits: where cases do not vary it is the t interval over seeds, where seeds do not vary the t interval over cases.
    Figures that move in steps, such as CPM, can agree exactly between all seeds where single cases do not: then
    :math:`M_S` is 0 by a tie, and :math:`M_R`, its expectation where seeds do not vary, takes its place.
    A single seed leaves the t interval over cases, which says nothing about another seed; a single case leaves that
    over seeds.

    Args:
        scores: of one method at one budget, a seed being a labelled subset and an initialisation.
        level: coverage, in (0, 1).
        unit: what is measured, for the words.
        difference: whether the scores are differences, for the words.

    Shape:
        - scores: ``(S, N)``, seeds by cases

    Raises:
        ValueError: when a score is missing, there is one score alone, or ``level`` is no probability.

    Reference:
        F. E. Satterthwaite: An Approximate Distribution of Estimates of Variance Components, Biometrics Bulletin 2(6),
        1946, https://doi.org/10.2307/3002019; the weight :math:`w` is ours.
    """
    array = checked_scores(scores)
    if array.size == 1:
        raise ValueError("`scores` must hold two seeds or two cases at least, got one score alone.")
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1), got {level}.")
    seeds, cases = array.shape
    seed, case, rest = (float(part[0, 0]) for part in mean_products(array[None]))
    variance, degrees = _variance_and_degrees(seed, case, rest, seeds - 1, cases - 1)
    mean, error = float(array.mean()), math.sqrt(variance / array.size)
    half = float(stats.t.ppf((1 + level) / 2, degrees)) * error
    return Interval(mean, mean - half, mean + half, level, error, degrees, seeds, cases, unit, difference)


def difference_interval(
    reference: ArrayLike, method: ArrayLike, *, level: float = 0.95, unit: str = "Dice"
) -> Interval:
    """Mean of ``method - reference``, paired by seed and case, with the interval of :func:`mean_interval`.

    Args:
        reference: scores of the method that is compared with, such as the supervised baseline.
        method: scores of the method in question; seed ``s`` had the same labelled cases in both.
        level: coverage, in (0, 1).
        unit: what is measured, for the words.

    Shape:
        - reference, method: ``(S, N)``, seeds by cases; one of them may be ``(1, N)``, a single run, taken as fixed

    Raises:
        ValueError: when seeds or cases do not pair, and as :func:`mean_interval`.
    """
    first, second = paired_scores(reference, method, names=("reference", "method"))
    return mean_interval(np.subtract(second, first), level=level, unit=unit, difference=True)


def _variance_and_degrees(
    seed: float, case: float, rest: float, seed_degrees: int, case_degrees: int
) -> tuple[float, float]:
    # S N times the variance of the mean, and the degrees of freedom of its estimate
    if seed_degrees == 0 or case_degrees == 0:
        return seed + case, float(seed_degrees + case_degrees)
    scarce, plenty = (seed, seed_degrees), (case, case_degrees)
    if seed_degrees > case_degrees:
        scarce, plenty = plenty, scarce
    if scarce[0] < _TIED * rest:
        scarce = rest, scarce[1]
    excess = max(plenty[0] - rest, 0.0)
    variance, leaning = scarce[0] + excess, _SCARCE_WEIGHT * scarce[0] + excess
    if excess == 0:
        return variance, float(scarce[1])
    spread = (_SCARCE_WEIGHT * scarce[0]) ** 2 / scarce[1] + plenty[0] ** 2 / plenty[1]
    spread += rest**2 / (seed_degrees * case_degrees)
    return variance, max(leaning**2 / spread, float(scarce[1]))
