from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ignite.engine import Events

from monai_ssl.handlers.guards import NonFiniteGuard
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.handlers.helpers import trainer


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(value: float) -> None:
    engine = trainer(NonFiniteGuard())
    states = []

    @engine.on(Events.ITERATION_STARTED)
    def poison(engine: Any) -> None:
        states.append(copy.deepcopy(engine.objective.state_dict()))
        engine.objective.scale = value if engine.state.iteration == 3 else 1.0

    message = rf"the loss is not finite at step 3 \(first {value:g}, second .*cases: a\.nii, b\.nii, c\.nii\. Check"
    with pytest.raises(UserError, match=message):
        engine.run()
    assert len(states) == 3
    assert helpers.same(states[-1], engine.objective.state_dict())


def test_a_sound_run_is_left_alone() -> None:
    guarded, plain = trainer(NonFiniteGuard()), trainer()
    plain.objective.load_state_dict(guarded.objective.state_dict())
    guarded.run()
    plain.run()
    assert helpers.same(guarded.objective.state_dict(), plain.objective.state_dict())


def test_a_batch_without_names_is_told_too() -> None:
    engine = trainer(NonFiniteGuard())
    engine.objective.scale = float("nan")
    engine.data_loader = [{"labeled": {"image": torch.ones(2, 2)}}]
    with pytest.raises(UserError, match="not finite at step 1"):
        engine.run()
