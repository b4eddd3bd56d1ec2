"""How much of the way from the baseline to the ceiling a method goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from monai_ssl.study.components import paired_scores
from monai_ssl.study.intervals import Interval, difference_interval, mean_interval

__all__ = ["GapFraction", "NoGapError", "gap_fraction"]


class NoGapError(ValueError):
    """The gap between baseline and ceiling is not told from none, so a fraction of it means nothing."""


@dataclass(frozen=True)
class GapFraction:
    """Fraction of the ceiling's gap that a method closes.

    Attributes:
        fraction: 0 for the baseline, 1 for the ceiling; may lie outside.
        low: lower end of its interval.
        high: upper end.
        gap: ``ceiling - baseline`` with its interval.
        ceiling_fixed: whether the ceiling is a single run, whose luck is in no interval.
    """

    fraction: float
    low: float
    high: float
    gap: Interval
    ceiling_fixed: bool

    def __str__(self) -> str:
        ends = f"{self.gap.level * 100:g} % interval {self.low * 100:.0f} to {self.high * 100:.0f} %"
        fixed = ", the ceiling being one run taken as fixed" if self.ceiling_fixed else ""
        return (
            f"{self.fraction * 100:.0f} % of the gap of {self.gap.mean:.3f} {self.gap.unit} "
            f"({ends}; {self.gap.counts}{fixed})"
        )


def gap_fraction(
    baseline: ArrayLike, method: ArrayLike, ceiling: ArrayLike, *, level: float = 0.95, unit: str = "Dice"
) -> GapFraction:
    r"""Fraction of the gap between baseline and ceiling that a method closes, with Fieller's interval.

    .. math:: \hat f = \frac{\bar y_{method} - \bar y_{baseline}}{\bar y_{ceiling} - \bar y_{baseline}}

    The interval holds every :math:`f` for which the mean of
    :math:`(y_{method} - y_{baseline}) - f (y_{ceiling} - y_{baseline})` over seeds and cases is not told from 0, by the
    interval of :func:`~monai_ssl.study.intervals.mean_interval`. It therefore covers as that one does with 3 seeds,
    where percentiles of resampled seeds would not. It is bounded because a gap that may be 0 is refused.

    Args:
        baseline: scores of the baseline at the budget in question.
        method: scores of the method at that budget.
        ceiling: scores of the baseline with all labels.
        level: coverage, in (0, 1).
        unit: what is measured, for the words.

    Shape:
        - baseline, method, ceiling: ``(S, N)``, seeds by cases; each may be ``(1, N)``, a single run, taken as fixed

    Raises:
        NoGapError: when the gap's own interval holds 0, or the ceiling is below the baseline.
        ValueError: when seeds or cases do not pair, or a score is missing.

    Reference:
        E. C. Fieller: Some Problems in Interval Estimation, Journal of the Royal Statistical Society B 16(2), 1954,
        https://doi.org/10.1111/j.2517-6161.1954.tb00159.x.
    """
    base, top = paired_scores(baseline, ceiling, names=("baseline", "ceiling"))
    base, middle = paired_scores(base, method, names=("baseline", "method"))
    base, top = paired_scores(base, top, names=("baseline", "ceiling"))
    gap = difference_interval(base, top, level=level, unit=unit)
    if gap.low <= 0:
        raise NoGapError(f"the fraction of the gap is refused: ceiling less baseline is {gap}, not told from none.")
    gain, way = np.subtract(middle, base), np.subtract(top, base)
    fraction = float(gain.mean() / way.mean())

    def outside(value: float) -> float:
        rest = mean_interval(gain - value * way, level=level)
        return abs(rest.mean) - (rest.high - rest.low) / 2

    def end(direction: float) -> float:
        if outside(fraction) >= 0:  # nothing varies but by rounding
            return fraction
        step = 1.0
        while outside(fraction + direction * step) < 0:
            step *= 2
        return float(brentq(outside, fraction, fraction + direction * step))

    return GapFraction(fraction, end(-1.0), end(1.0), gap, len(np.atleast_2d(ceiling)) < len(base))
