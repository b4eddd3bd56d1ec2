from __future__ import annotations

import pytest
import torch
from monai.engines.utils import IterationEvents
from torch import nn

from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers.schedules import ScheduledLearningRate, ScheduledWeights
from monai_ssl.utils.schedules import polynomial_decay, ramp_up
from tests.handlers.helpers import trainer


def test_weights_are_set_before_every_step_and_others_stay() -> None:
    handler = ScheduledWeights({"first": lambda step: ramp_up(step, length=4, maximum=2.0)})
    engine, seen = trainer(handler), []
    engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, lambda e: seen.append(dict(e.objective.weights)))
    engine.run()
    assert seen == [{"first": ramp_up(step, length=4, maximum=2.0), "second": 0.5} for step in range(6)]
    output = engine.state.output
    by_hand = 2 * output["terms"]["first"] + 0.5 * output["terms"]["second"]
    assert output["loss"].item() == pytest.approx(by_hand.item())


def test_without_schedules_nothing_happens() -> None:
    for handler in (ScheduledWeights(), ScheduledWeights({})):
        engine = trainer(handler)
        engine.run()
        assert engine.objective.weights == {"second": 0.5}


def rates(engine: SSLTrainer) -> list[list[float]]:
    seen: list[list[float]] = []
    engine.add_event_handler(
        IterationEvents.FORWARD_COMPLETED, lambda e: seen.append([group["lr"] for group in e.optimizer.param_groups])
    )
    engine.run()
    return seen


def test_every_groups_own_rate_is_multiplied() -> None:
    schedule = lambda step: polynomial_decay(step, total=6, warmup=2)  # noqa: E731
    engine = trainer(ScheduledLearningRate(schedule))
    engine.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.01})
    assert rates(engine) == [[0.1 * schedule(step), 0.01 * schedule(step)] for step in range(6)]


def test_the_rate_goes_on_from_a_loaded_optimiser() -> None:
    schedule = lambda step: 1 / (step + 1)  # noqa: E731
    first = trainer(ScheduledLearningRate(schedule), max_epochs=1, total_steps=6)
    whole = rates(trainer(ScheduledLearningRate(schedule)))
    rates(first)
    second = trainer(ScheduledLearningRate(schedule))
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict({"iteration": 3, "max_epochs": 2, "epoch_length": 3})
    assert rates(second) == whole[3:]


def test_a_schedule_that_cannot_be_computed_is_told_when_it_is_made() -> None:
    with pytest.raises(ValueError, match=r"the schedule of 'unlabeled' cannot be computed: '<' not supported"):
        ScheduledWeights({"unlabeled": lambda step: ramp_up(step, length="abc")})
    with pytest.raises(ValueError, match=r"the schedule of the learning rate cannot be computed: `total` must be at"):
        ScheduledLearningRate(lambda step: polynomial_decay(step, total=0))
