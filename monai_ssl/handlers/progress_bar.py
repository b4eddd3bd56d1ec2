"""A progress bar on the terminal."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["StepProgressBar"]


class StepProgressBar:
    """Shows steps done, seconds a step, the terms and the time left; a plain line now and then without a terminal.

    Args:
        interval: steps between updates of the numbers, and between lines where there is no terminal it is ten times
            that.

    Raises:
        ValueError: when ``interval`` is below 1.
    """

    def __init__(self, interval: int = 10) -> None:
        if interval < 1:
            raise ValueError(f"`interval` must be at least 1 step, got {interval}.")
        self.interval = interval
        self.console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task: Any = None

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._stop)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Any) -> None:
        if self._progress is not None:
            return
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._progress.add_task("", total=engine.total_steps, completed=engine.state.iteration, numbers="")
        if self.console.is_terminal:
            self._progress.start()

    def _advance(self, engine: Any) -> None:
        step = engine.state.iteration
        if self._progress is None or (step % self.interval and step != engine.total_steps):
            return
        output = engine.state.output
        speed = self._progress.tasks[0].finished_speed or self._progress.tasks[0].speed
        numbers = f"{1 / speed:.2f} s/step " if speed else ""
        numbers += " ".join(f"{name} {term.item():.4f}" for name, term in output["terms"].items())
        self._progress.update(self._task, completed=step, numbers=numbers)
        if not self.console.is_terminal and (step % (10 * self.interval) == 0 or step == engine.total_steps):
            left = self._progress.tasks[0].time_remaining
            self.console.print(
                f"step {step}/{engine.total_steps} {numbers}" + (f" {left:.0f} s left" if left else ""),
                soft_wrap=True,
                highlight=False,
            )

    def _stop(self, engine: Any) -> None:
        if self._progress is not None and self.console.is_terminal:
            self._progress.stop()

    def _fail(self, engine: Any, error: BaseException) -> None:
        self._stop(engine)
        raise error
