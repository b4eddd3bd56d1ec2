"""Two methods compared: the primary contrast, the named rest, and "not worse"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from monai_ssl.study.components import paired_scores
from monai_ssl.study.intervals import Interval, difference_interval, mean_interval

__all__ = ["Contrast", "HolmFamily", "NonInferiority", "holm", "non_inferiority", "paired_contrast"]


@dataclass(frozen=True)
class Contrast:
    """A difference of two methods: the effect with its interval first, the tests beneath it.

    Attributes:
        effect: ``method - reference`` with the interval over seeds and cases; the headline, and what decides.
        p_cases: paired t test over cases, scores averaged over seeds: for these seeds, and other cases.
        p_wilcoxon: signed-rank test over the same case means, a check that does not lean on the normal distribution.
    """

    effect: Interval
    p_cases: float
    p_wilcoxon: float

    @property
    def p_value(self) -> float:
        """For other seeds and other cases; agrees with the interval."""
        return self.effect.p_value

    @property
    def found(self) -> bool:
        """Whether the interval over seeds and cases excludes 0."""
        return self.effect.excludes_zero

    def __str__(self) -> str:
        return (
            f"{self.effect}; p {_p(self.p_value)} with other seeds and cases, {_p(self.p_cases)} with these seeds and "
            f"other cases (paired t test; Wilcoxon {_p(self.p_wilcoxon)})"
        )


def paired_contrast(reference: ArrayLike, method: ArrayLike, *, level: float = 0.95, unit: str = "Dice") -> Contrast:
    r"""Compare two methods on the same seeds and cases.

    With :math:`d_{sc}` the differences, the effect is :math:`\bar d` with the interval of
    :func:`~monai_ssl.study.intervals.mean_interval`. The usual test, the paired t test of :math:`\bar d_{\cdot c}` over
    cases, is given beside it. That test takes the seeds as fixed: it asks whether *these* trainings differ on other
    cases. Where methods differ from seed to seed by more than chance over cases explains, it finds differences that
    another set of seeds would not show (``benchmarks/study_coverage.py`` measures how often), so it does not decide.

    Args:
        reference: scores of the method that is compared with.
        method: scores of the method in question, the same seeds and cases.
        level: coverage of the interval, in (0, 1).
        unit: what is measured, for the words.

    Shape:
        - reference, method: ``(S, N)``, seeds by cases; one of them may be ``(1, N)``, a single run, taken as fixed

    Raises:
        ValueError: when there is one case alone, seeds or cases do not pair, or a score is missing.

    Reference:
        F. Wilcoxon: Individual Comparisons by Ranking Methods, Biometrics Bulletin 1(6), 1945,
        https://doi.org/10.2307/3001968.
    """
    first, second = paired_scores(reference, method, names=("reference", "method"))
    if first.shape[1] < 2:
        raise ValueError("`method` must hold two cases at least for a test over cases, got 1.")
    by_case = np.subtract(second, first).mean(0)
    p_wilcoxon = float(stats.wilcoxon(by_case).pvalue) if np.any(by_case) else 1.0
    effect = difference_interval(first, second, level=level, unit=unit)
    return Contrast(effect, mean_interval(by_case[None]).p_value, p_wilcoxon)


@dataclass(frozen=True)
class HolmFamily:
    """p values of a named family of contrasts, adjusted for their number.

    Attributes:
        adjusted: adjusted p value by name, in the order given.
        level: the chance of one false find or more that was accepted.
    """

    adjusted: Mapping[str, float]
    level: float

    @property
    def found(self) -> tuple[str, ...]:
        """Names of the contrasts that hold at the level."""
        return tuple(name for name, p in self.adjusted.items() if p <= self.level)

    def __str__(self) -> str:
        named = ", ".join(f"{name} p {_p(p)}" for name, p in self.adjusted.items())
        return f"family of {len(self.adjusted)} (Holm, {self.level * 100:g} % for all together): {named}"


def holm(p_values: Mapping[str, float], *, level: float = 0.05) -> HolmFamily:
    r"""Adjust p values so that the chance of any false find in the family stays below the level.

    .. math:: \tilde p_{(i)} = \min\left(1, \max_{j \le i} (m - j + 1)\, p_{(j)}\right)

    Args:
        p_values: by name; the whole family as it was named beforehand, without the primary contrast.
        level: accepted chance of one false find or more.

    Raises:
        ValueError: when the family is empty or a value is no probability.

    Reference:
        S. Holm: A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6(2),
        1979, https://www.jstor.org/stable/4615733.
    """
    if not p_values:
        raise ValueError("`p_values` must name one contrast at least, got none.")
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ValueError(f"`p_values` must be in [0, 1], got {p} for {name!r}.")
    worst, adjusted = 0.0, {}
    for rank, name in enumerate(sorted(p_values, key=lambda one: p_values[one])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * float(p_values[name])))
        adjusted[name] = worst
    return HolmFamily({name: adjusted[name] for name in p_values}, level)


@dataclass(frozen=True)
class NonInferiority:
    """Whether a method is not worse than a reference by a margin.

    Attributes:
        effect: ``method - reference`` with its interval.
        margin: the loss that would not matter.
    """

    effect: Interval
    margin: float

    @property
    def shown(self) -> bool:
        """Whether the whole interval lies above ``-margin``."""
        return self.effect.low > -self.margin

    def __str__(self) -> str:
        return f"not worse by {self.margin:g} {self.effect.unit}: {'' if self.shown else 'not '}shown, {self.effect}"


def non_inferiority(
    reference: ArrayLike, method: ArrayLike, *, margin: float = 0.005, level: float = 0.95, unit: str = "Dice"
) -> NonInferiority:
    """Whether ``method`` is not worse than ``reference``: the interval's lower end lies above ``-margin``.

    That an interval holds 0 shows nothing of the kind: with few seeds it also holds losses that matter.

    Args:
        reference: scores of the method that is compared with.
        method: scores of the method in question, the same seeds and cases.
        margin: largest loss that does not matter, in the scores' unit; named before the runs.
        level: of the two-sided interval; 0.95 makes a one-sided test at 2.5 %.
        unit: what is measured, for the words.

    Shape:
        - reference, method: ``(S, N)``, seeds by cases; one of them may be ``(1, N)``, a single run, taken as fixed

    Raises:
        ValueError: when ``margin`` is not above 0, and as
            :func:`~monai_ssl.study.intervals.difference_interval`.

    Reference:
        G. Piaggio et al.: Reporting of Noninferiority and Equivalence Randomized Trials, JAMA 308(24), 2012,
        https://doi.org/10.1001/jama.2012.87802.
    """
    if not margin > 0:
        raise ValueError(f"`margin` must be above 0, got {margin}.")
    return NonInferiority(difference_interval(reference, method, level=level, unit=unit), margin)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
