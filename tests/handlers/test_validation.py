from __future__ import annotations

from typing import Any

import pytest
from ignite.engine import Engine, Events

from monai_ssl.handlers.validation import StepValidation


class Recorder:
    def __init__(self) -> None:
        self.calls: list[int] = []

    def run(self, epoch: int) -> None:
        self.calls.append(epoch)


def run(interval: int, steps: int) -> list[int]:
    engine, validator, seen = Engine(lambda _engine, _batch: None), Recorder(), []
    engine.total_steps = steps  # type: ignore[attr-defined]
    StepValidation(validator, interval).attach(engine)

    def remember(engine: Any) -> None:
        if len(validator.calls) > len(seen):
            seen.append(engine.state.iteration)

    engine.add_event_handler(Events.ITERATION_COMPLETED, remember)
    engine.run(range(steps), max_epochs=1)
    return seen


@pytest.mark.parametrize(
    ("interval", "steps", "expected"),
    [(2, 6, [2, 4, 6]), (4, 6, [4, 6]), (10, 6, [6]), (1, 3, [1, 2, 3])],
)
def test_every_interval_and_at_the_end_but_never_twice(interval: int, steps: int, expected: list[int]) -> None:
    assert run(interval, steps) == expected


def test_the_interval_is_a_number_of_steps() -> None:
    with pytest.raises(ValueError, match="`interval` must be at least 1 step, got 0"):
        StepValidation(Recorder(), 0)
