"""What each case contributes to CPM, which is a figure of all cases together: jackknife influence values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_ssl.metrics.free_response import FALSE_POSITIVE_RATES, sensitivities_of

__all__ = ["cpm_influences"]

Array = NDArray[np.float64]
Record = Mapping[str, Any]


def cpm_influences(
    cases: Sequence[Record], *, rates: Sequence[float] = FALSE_POSITIVE_RATES, class_name: str | None = None
) -> Array:
    r"""Split CPM, or another mean sensitivity, into one value a case whose mean is exactly that figure.

    With :math:`\theta` the figure of all N cases and :math:`\theta_{(-i)}` that without case i,

    .. math:: \theta_i = \theta + (N - 1) \left(\bar\theta_{(-\cdot)} - \theta_{(-i)}\right), \qquad
              \frac{1}{N} \sum_i \theta_i = \theta, \qquad
              \widehat{\mathrm{Var}}\, \theta = \frac{1}{N (N - 1)} \sum_i (\theta_i - \theta)^2

    The last is the jackknife's variance, so statistics that are made for scores of cases, such as an analysis of
    variance of seeds and cases, hold for these values as they do for Dice. A single value is no score: it may lie
    below 0 or above 1, and healthy cases have one, too.

    The jackknife is proven for smooth figures, and CPM is none: it moves in steps, as scores change places. So
    intervals that rest on it are approximate. Simulated (``benchmarks/cpm_coverage.py``: two methods of 5 seeds, 20 or
    40 scans, three in four with one box, 500 studies a setting), crossed 95 % intervals of a difference of CPM
    (``study/intervals.py``) held the truth in 94.4 to 97.6 % of studies for CPM from 0.4 to 0.9. Near 1 they are too
    narrow: 90.6 % where 20 scans compare 0.93 with 0.98. Those of a single CPM held it in 91.0 to 96.8 %, at 0.93 in
    87.2 to 94.2 %, since a test in which hardly a box is missed knows little of the boxes that are.

    Args:
        cases: see :func:`~monai_ssl.metrics.free_response.sensitivities_of`.
        rates: false positives a scan, whose sensitivities are averaged; by default CPM's, ``(1.0,)`` for a single one.
        class_name: a class; by default all are pooled.

    Shape:
        - Output: ``(N,)``. Where a single case has all boxes, nothing is left without it and all values are NaN, for
          how CPM varies between cases cannot be told; so are they where no case has a box. A case that is alone
          has the figure itself.

    Raises:
        ValueError: when there is no case, or an argument is out of range.

    Reference:
        J. W. Tukey: Bias and Confidence in Not-quite Large Samples, Annals of Mathematical Statistics 29, 1958, 614;
        B. Efron: The Jackknife, the Bootstrap and Other Resampling Plans, SIAM 1982, chapters 3 and 6,
        https://doi.org/10.1137/1.9781611970319. Tukey's pseudo-values, :math:`N \theta - (N - 1) \theta_{(-i)}`, have
        the bias-corrected figure as their mean; these are moved to the figure that the run reports.
    """
    figure = sensitivities_of(cases, rates=rates, class_name=class_name).mean()
    number = len(cases)
    if number == 1:
        return np.array([figure])
    places = np.arange(number)
    others = (places[:, None] + places[1:]) % number  # row i has all but i
    without = sensitivities_of(cases, others, rates=rates, class_name=class_name).mean(axis=1)
    influences: Array = figure + (number - 1) * (without.mean() - without)
    return influences
