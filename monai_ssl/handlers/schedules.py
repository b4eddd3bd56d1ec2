"""Values that follow a schedule over the optimiser steps."""

from __future__ import annotations

from collections.abc import Mapping

from ignite.engine import Engine, Events

from monai_ssl.utils.schedules import Schedule

__all__ = ["ScheduledLearningRate", "ScheduledWeights"]


class ScheduledWeights:
    """Sets ``objective.weights[name]`` before every step.

    Args:
        schedules: by term, a function of the number of steps done so far.

    Raises:
        ValueError: when a schedule has no value for the first step.
    """

    def __init__(self, schedules: Mapping[str, Schedule] | None = None) -> None:
        self.schedules = dict(schedules or {})
        for name, schedule in self.schedules.items():
            _try(schedule, f"the schedule of {name!r}")

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def _set(self, engine: Engine) -> None:
        step = engine.state.iteration - 1
        for name, schedule in self.schedules.items():
            engine.objective.weights[name] = schedule(step)  # type: ignore[attr-defined]


class ScheduledLearningRate:
    """Multiplies every parameter group's own learning rate by a factor that follows a schedule.

    Args:
        schedule: factor as a function of the number of steps done so far.

    Raises:
        ValueError: when the schedule has no value for the first step.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        _try(schedule, "the schedule of the learning rate")

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._set)

    def _set(self, engine: Engine) -> None:
        factor = self.schedule(engine.state.iteration - 1)
        for group in engine.optimizer.param_groups:  # type: ignore[attr-defined]
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor


def _try(schedule: Schedule, name: str) -> None:
    # a value of the wrong kind is told while the component is made, where its settings can be named
    try:
        schedule(0)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be computed: {error}") from error
