"""What of a pretrained network is frozen, and at which learning rate the rest trains, as pure functions of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.schedules import Schedule, polynomial_decay

__all__ = ["TRANSFER_MODES", "TransferStage", "stage_at", "transfer_rate", "transfer_stages"]

TRANSFER_MODES = ("fine_tune", "feature_extraction", "two_stage", "sawtooth")


@dataclass(frozen=True)
class TransferStage:
    """A part of a run in which the same layers are frozen.

    Attributes:
        name: for people.
        start: its first step, counted from 0.
        end: the step after its last.
        frozen: nothing, the encoder's pretrained layers, or all pretrained layers.
        rate: learning-rate factor as a function of the number of steps that the run has done; continuous inside the
            stage, not where another begins.
    """

    name: str
    start: int
    end: int
    frozen: Literal["none", "encoder", "loaded"]
    rate: Schedule


def transfer_stages(
    mode: str,
    *,
    total: int,
    warmup: int = 0,
    frozen_steps: int | None = None,
    rising_steps: int | None = None,
    rate: float = 0.1,
) -> tuple[TransferStage, ...]:
    r"""The stages of a run that starts from pretrained weights.

    With the run's length :math:`T`, :math:`F` = ``frozen_steps``, :math:`R` = ``rising_steps``,
    :math:`h = \lfloor F / 2 \rfloor`, the decay :math:`q(t, T) = (1 - t / T)^{0.9}` and the plain schedule
    :math:`p(t, T) = \min(1, (t + 1) / warmup) q(t, T)`:

    .. code-block:: text

        mode                stage                  steps       frozen   learning-rate factor
        fine_tune           fine-tuning            0 .. T      none     p(t, T)
        feature_extraction  feature extraction     0 .. T      encoder  p(t, T)
        two_stage           new layers             0 .. F      loaded   p(t, T)
                            all layers             F .. T      none     rate * p(t - F, T - F)
        sawtooth            decoder warm-up        0 .. F      encoder  (t + 1) / h, from h on q(t - h, F - h)
                            warm-up of all layers  F .. F + R  none     (t - F + 1) / R
                            decay                  F + R .. T  none     q(t - F - R, T - F - R)

    ``fine_tune`` is the schedule of a run without transfer. What a mode does not use is not looked at, so that a config
    can give every value always.

    Args:
        mode: one of :data:`TRANSFER_MODES`.
        total: optimiser steps of the run.
        warmup: steps of linear warm-up; in ``two_stage`` of both stages, since the optimiser has no averages yet of
            the layers that join. ``sawtooth`` has its own.
        frozen_steps: steps of the first stage of ``two_stage`` (default a fifth of the run) and ``sawtooth`` (default
            a tenth).
        rising_steps: steps in which ``sawtooth`` warms everything up; by default as many as ``frozen_steps``.
        rate: of the second stage of ``two_stage``, relative to the first, in (0, 1].

    Raises:
        UserError: for another mode, or a length or rate that does not fit, with what does.

    Reference:
        T. Wald et al.: An OpenMind for 3D medical vision self-supervised learning, ICCV 2025,
        https://arxiv.org/abs/2412.17041, for ``sawtooth``, in the form of the authors' published code, where each
        warm-up is 50 of 1000 epochs, or 15 of 150. There the warm-up of all layers ends at half the learning rate,
        here at the whole; there every warm-up has a new optimiser, here one keeps the decoder's averages.
    """
    if mode not in TRANSFER_MODES:
        raise UserError(f"`mode` of a transfer must be one of {', '.join(TRANSFER_MODES)}, got {mode!r}.")
    least = {"two_stage": 2, "sawtooth": 3}.get(mode, 1)
    if total < least:
        raise UserError(f"`total` must be at least {least} for transfer {mode}, got {total}.")
    if warmup < 0:
        raise UserError(f"`warmup` must be 0 or more steps, got {warmup}.")
    plain = partial(polynomial_decay, total=total, warmup=warmup)
    if mode == "fine_tune":
        return (TransferStage("fine-tuning", 0, total, "none", plain),)
    if mode == "feature_extraction":
        return (TransferStage("feature extraction", 0, total, "encoder", plain),)
    if mode == "two_stage":
        first = _length("frozen_steps", frozen_steps, default=total // 5, most=total - 1)
        if not 0 < rate <= 1:
            raise UserError(f"`rate` of the second stage must be in (0, 1], got {rate}.")
        second = partial(_restarted, start=first, total=total, warmup=warmup, initial=rate)
        return (
            TransferStage("new layers", 0, first, "loaded", plain),
            TransferStage("all layers", first, total, "none", second),
        )
    first = _length("frozen_steps", frozen_steps, default=total // 10, most=total - 2)
    rising = _length("rising_steps", rising_steps, default=min(first, total - first - 1), most=total - first - 1)
    last = first + rising
    return (
        TransferStage("decoder warm-up", 0, first, "encoder", partial(_tooth, length=first)),
        TransferStage("warm-up of all layers", first, last, "none", partial(_rise, start=first, length=rising)),
        TransferStage("decay", last, total, "none", partial(_restarted, start=last, total=total)),
    )


def stage_at(stages: Sequence[TransferStage], step: int) -> TransferStage:
    """The stage that a step (counted from 0) belongs to; the last one beyond the end."""
    return next((stage for stage in stages if step < stage.end), stages[-1])


def transfer_rate(step: int, *, stages: Sequence[TransferStage]) -> float:
    """Learning-rate factor after ``step`` optimiser steps: a schedule, once the stages are given.

    Args:
        step: optimiser steps done so far.
        stages: from :func:`transfer_stages`.
    """
    return stage_at(stages, step).rate(step)


def _restarted(step: int, *, start: int, total: int, warmup: int = 0, initial: float = 1.0) -> float:
    return polynomial_decay(step - start, total=total - start, warmup=warmup, initial=initial)


def _rise(step: int, *, start: int, length: int) -> float:
    return (step - start + 1) / length


def _tooth(step: int, *, length: int) -> float:
    half = length // 2
    return (step + 1) / half if step < half else polynomial_decay(step - half, total=length - half)


def _length(name: str, value: int | None, *, default: int, most: int) -> int:
    length = max(1, default) if value is None else value
    if not isinstance(length, int) or not 1 <= length <= most:
        raise UserError(
            f"`{name}` must be a whole number of steps in 1..{most} to leave some for the rest, got {value}."
        )
    return length
