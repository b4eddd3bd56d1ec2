"""How far a study is, on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from monai_ssl.utils.keys import RunFiles

__all__ = ["StudyProgress", "count_steps", "steps_in"]


class StudyProgress:
    """A bar over the optimiser steps of all runs and their pretrainings, shown where there is a terminal.

    Args:
        runs: number of runs, those finished before included.
        steps: optimiser steps of a run.
        finished: number of runs finished before.
        pretraining: optimiser steps of all pretrainings.
    """

    def __init__(self, runs: int, steps: int, finished: int, pretraining: int = 0) -> None:
        self.runs = runs
        self.steps = steps
        self.finished = finished
        self.pretraining = pretraining
        self.console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        # lines that are written meanwhile go above the bar
        self._progress = Progress(
            *columns,
            TextColumn("{task.fields[now]}"),
            console=self.console,
            redirect_stdout=sys.stdout.isatty(),
            refresh_per_second=1,  # the cores are for the runs
        )
        self._task = self._progress.add_task(
            self._words(), total=runs * steps + pretraining, completed=finished * steps, now=""
        )

    def __enter__(self) -> StudyProgress:
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._progress.stop()

    def update(self, names: Collection[str], steps: int, pretrained: int = 0) -> None:
        """Show what runs now.

        Args:
            names: the runs that are going on.
            steps: optimiser steps that they have done together.
            pretrained: those of all pretrainings so far.
        """
        done = min(self.finished * self.steps + steps, self.runs * self.steps) + min(pretrained, self.pretraining)
        self._progress.update(self._task, description=self._words(), completed=done, now="; ".join(names))

    def end_run(self) -> None:
        """Count a run that has ended, well or not."""
        self.finished += 1

    def _words(self) -> str:
        return f"{self.finished}/{self.runs} runs"


def count_steps(table: bytes) -> int:
    """Number of steps in the content of a ``steps.csv``: whole lines without the header."""
    return max(0, table.count(b"\n") - 1)


def steps_in(folders: Iterable[Path]) -> int:
    """Optimiser steps that the trainings in these folders have done together, by the tables that they write."""
    tables = [folder / RunFiles.STEPS for folder in folders]
    return sum(count_steps(table.read_bytes()) for table in tables if table.exists())
