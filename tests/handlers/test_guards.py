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


def poison(parameter: torch.nn.Parameter, at: int, engine: Any, value: float = float("nan")) -> None:
    """Let one gradient be no number at a step, with a loss that is one."""
    parameter.register_hook(lambda grad: grad * value if engine.state.iteration == at else grad)


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change() -> None:
    engine = trainer(NonFiniteGuard())
    poison(engine.objective.network.weight, 3, engine, float("inf"))
    states = []
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: states.append(copy.deepcopy(e.objective.state_dict())))
    with pytest.raises(
        UserError, match=r"the gradient is not finite at step 3 \(first .*cases: a\.nii, b\.nii, c\.nii"
    ):
        engine.run()
    assert helpers.same(states[-1], engine.objective.state_dict())


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_a_skipped_step_leaves_no_trace(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """Steps 1, 2, 4, 5, 6 of six: five of a run without the third, whose batch also spoils a buffer."""
    engine, plain = trainer(NonFiniteGuard("skip")), trainer(max_epochs=5, epoch_length=1)
    engine.objective.register_buffer("statistics", torch.zeros(2))
    plain.objective.load_state_dict(engine.objective.state_dict(), strict=False)
    engine.optimizer = torch.optim.AdamW(engine.objective.parameters(), lr=0.1)
    plain.optimizer = torch.optim.AdamW(plain.objective.parameters(), lr=0.1)
    if fault == "gradient":
        poison(engine.objective.network.weight, 3, engine)

    @engine.on(Events.ITERATION_STARTED)
    def spoil(engine: Any) -> None:
        engine.objective.scale = float("nan") if fault == "loss" and engine.state.iteration == 3 else 1.0

    def mean(module: Any, arguments: Any, logits: Any) -> None:
        engine.objective.statistics += logits.detach().mean() * (float("nan") if engine.state.iteration == 3 else 1)

    engine.objective.network.register_forward_hook(mean)
    engine.run()
    plain.run()
    assert engine.state.iteration == 6
    assert engine.objective.statistics.isfinite().all()
    assert helpers.same(engine.objective.network.state_dict(), plain.objective.network.state_dict())
    assert f"step 3 is left out: the {fault} is not finite at step 3 (" in caplog.text
    assert "a.nii, b.nii, c.nii" in caplog.text


def test_skipping_has_an_end() -> None:
    engine = trainer(NonFiniteGuard("skip", most_skips=2))
    engine.objective.scale = float("nan")
    before = copy.deepcopy(engine.objective.state_dict())
    with pytest.raises(UserError, match=r"2 steps were left out, and again the loss is not finite at step 3.*intact"):
        engine.run()
    assert helpers.same(before, engine.objective.state_dict())


@pytest.mark.parametrize("action", ["stop", "skip"])
def test_gradients_that_overflow_are_the_scalers_to_skip(action: str) -> None:
    engine = trainer(NonFiniteGuard(action), max_epochs=50)
    engine.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    engine.optimizer = torch.optim.SGD(engine.objective.parameters(), lr=1e-6)
    engine.data_loader = [engine.data_loader[0]] * 150
    engine.objective.scale = 1e3
    engine.run()
    assert engine.state.iteration == 150
    assert 1 < engine.scaler.get_scale() < 2.0**127
    assert all(value.isfinite().all() for value in engine.objective.state_dict().values())


def test_gradients_that_overflow_for_ever_stop_the_run() -> None:
    engine = trainer(NonFiniteGuard(), max_epochs=50)
    engine.scaler = torch.amp.GradScaler("cpu")
    engine.objective.network.weight.register_hook(lambda grad: grad * float("inf"))
    engine.data_loader = [engine.data_loader[0]] * 150
    with pytest.raises(UserError, match=r"overflowed float16 in 100 steps in a row, until step 100\. Give --amp"):
        engine.run()


def test_an_action_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"`action` must be stop or skip, got 'go'\."):
        NonFiniteGuard("go")
