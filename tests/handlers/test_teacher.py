from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers.teacher import TeacherUpdate
from monai_ssl.objectives.base import Batch, Objective


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


def test_the_teacher_is_reset_once_and_follows_every_step() -> None:
    engine = trainer(TeacherUpdate())
    engine.run()
    assert engine.objective.calls == ["reset", 0, 1, 2, 3, 4, 5]


def test_a_resumed_run_keeps_its_teacher() -> None:
    class Resumed:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.STARTED, self.load)

        def load(self, engine: Engine) -> None:
            engine.load_state_dict({"iteration": 4, "max_epochs": 2, "epoch_length": 3})

    engine = trainer(Resumed(), TeacherUpdate())
    engine.run()
    assert engine.objective.calls == [4, 5]


def test_the_update_follows_the_optimiser_step_and_precedes_what_reads_the_teacher() -> None:
    engine, moment = trainer(TeacherUpdate(), max_epochs=1, epoch_length=1), []
    weight = engine.objective.network.weight
    before = weight.detach().clone()
    engine.objective.update_teacher = lambda step: moment.append(torch.equal(weight, before))
    engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, lambda e: moment.append("backward"))
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: moment.append("completed"))
    engine.run()
    assert moment == ["backward", False, "completed"]
