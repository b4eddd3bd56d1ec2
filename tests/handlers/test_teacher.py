from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from monai_ssl.handlers.teacher import TeacherUpdate
from tests.handlers.helpers import trainer


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
