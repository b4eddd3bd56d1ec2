from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ignite.engine import Events
from torch import Tensor, nn

from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers.guards import NonFiniteGuard
from monai_ssl.objectives.base import Batch, Objective
from monai_ssl.utils.errors import UserError
from tests import helpers


class Toy(Objective):
    """Two terms, and a record of what became of the teacher."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 1), {"second": 0.5})
        self.calls: list[Any] = []
        self.scale = 1.0

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.network(batch["labeled"]["image"])
        return {"first": self.scale * (logits**2).mean(), "second": logits.abs().mean()}

    def reset_teacher(self) -> None:
        self.calls.append("reset")

    def update_teacher(self, step: int) -> None:
        self.calls.append(step)


BATCH = {"labeled": {"image": torch.ones(2, 2), "case": ["a.nii", "b.nii"]}, "unlabeled": {"case": ["c.nii"]}}


def trainer(*handlers: Any, **arguments: Any) -> SSLTrainer:
    objective = Toy()
    settings: dict[str, Any] = {"max_epochs": 2, "epoch_length": 3} | arguments
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    return SSLTrainer(
        "cpu", data_loader=[BATCH] * 6, objective=objective, optimizer=optimizer, handlers=handlers, **settings
    )


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
