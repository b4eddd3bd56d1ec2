"""A power law through a label-efficiency curve: a check of the interpolation, never the result."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from monai_ssl.study.curves import Curve, stacked_curve

__all__ = ["PowerLaw", "fit_power_law"]


@dataclass(frozen=True)
class PowerLaw:
    """Error as a power of the number of labels.

    Attributes:
        scale: error at one label.
        exponent: fall of the error; 0.5 halves it with four times the labels.
        worst_factor: largest factor by which a measured error misses the law; 1 is a perfect fit.
        measured: smallest and largest budget.
    """

    scale: float
    exponent: float
    worst_factor: float
    measured: tuple[float, float]

    def error(self, labels: float) -> float:
        """Error that the law gives for a number of labels."""
        return self.scale * labels**-self.exponent

    def labels(self, error: float) -> float | None:
        """Labels that the law wants for an error, or None outside the measured budgets."""
        if self.exponent == 0 or error <= 0:
            return None
        log_labels = math.log(self.scale / error) / self.exponent
        low, high = (math.log(end) for end in self.measured)
        return math.exp(log_labels) if low <= log_labels <= high else None

    def __str__(self) -> str:
        return (
            f"error about {self.scale:.3f} x labels^-{self.exponent:.2f} from {self.measured[0]:g} to "
            f"{self.measured[1]:g} labels, off by a factor of {self.worst_factor:.2f} at most"
        )


def fit_power_law(curve: Curve) -> PowerLaw:
    r"""Fit mean errors by least squares in logarithms.

    .. math:: \log(1 - \bar y_L) \approx \log a - b \log L

    It has no floor, so it bends away from curves that level off near the ceiling; ``worst_factor`` shows it. Where it
    and the interpolation of :func:`~monai_ssl.study.labels_saved.labels_saved` disagree, believe the interpolation.

    Args:
        curve: scores by number of labels.

    Shape:
        - curve: each ``(S, N)``, seeds by cases

    Raises:
        ValueError: when there are fewer than three budgets, a mean score is not below 1, or a score is missing.

    Reference:
        J. Hestness et al.: Deep Learning Scaling is Predictable, Empirically, 2017, https://arxiv.org/abs/1712.00409.
    """
    budgets, scores = stacked_curve(curve, name="curve")
    errors = np.array([1 - one.mean() for one in scores])
    if len(budgets) < 3:
        raise ValueError(f"`curve` must have three budgets at least for a power law, got {budgets.tolist()}.")
    if errors.min() <= 0:
        raise ValueError(f"`curve` must have mean scores below 1, got {1 - errors.min():g}.")
    slope, start = np.polyfit(np.log(budgets), np.log(errors), 1)
    misses = np.log(errors) - (start + slope * np.log(budgets))
    measured = float(budgets[0]), float(budgets[-1])
    return PowerLaw(float(np.exp(start)), float(-slope), float(np.exp(np.abs(misses).max())), measured)
