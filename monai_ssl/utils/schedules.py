"""Schedules: pure functions from the number of completed optimiser steps to a value.

Because a schedule holds no state, a resumed run needs nothing but its step number to continue it exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["Schedule", "constant", "ema_decay", "polynomial_decay", "ramp_up", "switch_on"]

Schedule = Callable[[int], float]


def constant(step: int, *, value: float) -> float:
    """The same value at every step."""
    return value


def ramp_up(step: float, *, length: float, maximum: float = 1.0, start: float = 0.0) -> float:
    r"""Gaussian ramp-up of a term's weight.

    .. math:: w(t) = w_{max} \exp(-5 (1 - \min((t - t_0) / T, 1))^2) \text{ from } t_0 \text{ on, before } 0

    Args:
        step: optimiser steps done so far, :math:`t`.
        length: steps from the start until the maximum is reached, :math:`T`; 0 gives the maximum at once. The
            literature often counts epochs or blocks of 150 steps: here it is steps, or all are shares of the run.
        maximum: final value :math:`w_{max}`.
        start: steps before the ramp begins, :math:`t_0`.

    Raises:
        ValueError: when ``length`` or ``start`` is negative.

    Reference:
        S. Laine, T. Aila: Temporal Ensembling for Semi-Supervised Learning, ICLR 2017,
        https://arxiv.org/abs/1610.02242, section 2.
    """
    if length < 0:
        raise ValueError(f"`length` must be 0 or more steps, got {length}.")
    if start < 0:
        raise ValueError(f"`start` must be 0 or more steps, got {start}.")
    if step < start:
        return 0.0
    done = 1.0 if length == 0 else min((step - start) / length, 1.0)
    return maximum * math.exp(-5.0 * (1.0 - done) ** 2)


def switch_on(step: int, *, length: int, maximum: float = 1.0) -> float:
    """Zero for the first steps, then the whole weight at once: for a term that only a later phase of a method has.

    Args:
        step: optimiser steps done so far.
        length: steps at zero; 0 gives the maximum at once.
        maximum: value from then on.

    Raises:
        ValueError: when ``length`` is negative.
    """
    if length < 0:
        raise ValueError(f"`length` must be 0 or more steps, got {length}.")
    return maximum if step >= length else 0.0


def polynomial_decay(step: int, *, total: int, warmup: int = 0, power: float = 0.9, initial: float = 1.0) -> float:
    r"""Linear warm-up, then polynomial decay to zero, as in nnU-Net.

    .. math:: \eta(t) = \eta_0 (1 - t / T)^{p}

    Args:
        step: optimiser steps done so far.
        total: steps at which the value reaches zero, :math:`T`.
        warmup: steps of linear warm-up, multiplied onto the decay; 0 for none.
        power: exponent :math:`p`; 0.9 is the field's habit.
        initial: value without warm-up at step 0, :math:`\eta_0`.

    Raises:
        ValueError: when ``total`` is below 1.
    """
    if total < 1:
        raise ValueError(f"`total` must be at least 1 step, got {total}.")
    rise = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
    return float(initial * rise * (1.0 - min(step / total, 1.0)) ** power)


def ema_decay(step: int, *, maximum: float = 0.99) -> float:
    r"""Decay of a teacher's moving average, which starts as a plain mean.

    .. math:: \alpha(t) = \min(1 - 1 / (t + 1), \alpha)

    Args:
        step: updates done so far, :math:`t`; at 0 the teacher becomes a copy of the student.
        maximum: :math:`\alpha`, in [0, 1).

    Raises:
        ValueError: when ``maximum`` is outside [0, 1).

    Reference:
        A. Tarvainen, H. Valpola: Mean teachers are better role models, NeurIPS 2017,
        https://arxiv.org/abs/1703.01780; the warm-up is the authors' published code's.
    """
    if not 0.0 <= maximum < 1.0:
        raise ValueError(f"`maximum` must be in [0, 1), got {maximum}.")
    return min(1.0 - 1.0 / (step + 1), maximum)
