"""When the teachers follow their students."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

__all__ = ["TeacherUpdate"]


class TeacherUpdate:
    """Calls the objective's teacher update after every optimiser step.

    When a run starts (not when it resumes) the teachers are first set to their students: weights may have been loaded
    into a student after its teacher was made.
    """

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._update)

    def _start(self, engine: Engine) -> None:
        if engine.state.iteration == 0:
            engine.objective.reset_teacher()  # type: ignore[attr-defined]

    def _update(self, engine: Engine) -> None:
        engine.objective.update_teacher(engine.state.iteration - 1)  # type: ignore[attr-defined]
