"""The run's numbers, step by step, as a table in a file."""

from __future__ import annotations

import csv
import io
import os
import time
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_ssl.utils.files import atomic_write

__all__ = ["StepLog"]


class StepLog:
    """Appends a row to ``steps.csv`` after every step.

    Columns: ``step``, ``loss``, the unweighted terms, ``weight_<term>``, the objective's figures, ``lr``, ``seconds``
    (since the row before) and ``validation_<metric>`` (empty but at steps with a validation). Floats are written with
    all digits, so that two runs can be compared bit for bit. A resumed run first drops the rows after its checkpoint.

    Args:
        path: the file.
        validator: the evaluator whose figure belongs to the step at which it ran.
        metric: name of that figure in its ``state.metrics``.
    """

    def __init__(self, path: str | os.PathLike[str], validator: Engine | None = None, metric: str = "dice") -> None:
        self.path = Path(path)
        self.metric = metric
        self._started = False
        self._columns: list[str] = []
        self._validated: float | None = None
        self._last = 0.0
        if validator is not None:
            validator.add_event_handler(Events.COMPLETED, self._remember)

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)

    def _remember(self, validator: Any) -> None:
        self._validated = validator.state.metrics.get(self.metric)

    def _start(self, engine: Any) -> None:
        if self._started:
            return
        self._started, self._last = True, time.perf_counter()
        rows: list[dict[str, str]] = []
        if engine.state.iteration > 0 and self.path.is_file():
            with open(self.path, newline="", encoding="utf-8") as stream:
                rows = [row for row in csv.DictReader(stream) if _is_before(row, engine.state.iteration)]
        self._columns = list(rows[0]) if rows else []
        table = io.StringIO(newline="")
        if rows:
            csv.writer(table).writerows([self._columns, *(row.values() for row in rows)])
        # whole or not at all: a kill must not take the rows of the steps before
        atomic_write(self.path, lambda stream: stream.write(table.getvalue().encode()))

    def _write(self, engine: Any) -> None:
        now = time.perf_counter()
        output, weights = engine.state.output, engine.objective.weights
        row: dict[str, Any] = {"step": engine.state.iteration, "loss": output["loss"].item()}
        row |= {name: term.item() for name, term in output["terms"].items()}
        row |= {f"weight_{name}": weights.get(name, 1.0) for name in output["terms"]}
        row |= {name: figure.item() for name, figure in output.get("figures", {}).items()}
        row |= {"lr": engine.optimizer.param_groups[0]["lr"], "seconds": round(now - self._last, 6)}
        row[f"validation_{self.metric}"] = "" if self._validated is None else self._validated
        with open(self.path, "a", newline="", encoding="utf-8") as stream:
            if not self._columns:
                self._columns = list(row)
                csv.writer(stream).writerow(self._columns)
            csv.DictWriter(stream, self._columns, extrasaction="ignore").writerow(row)
        self._last, self._validated = now, None


def _is_before(row: dict[str, str], step: int) -> bool:
    # a row that a kill cut short lacks its last column
    return row["step"].isdigit() and int(row["step"]) <= step and None not in row.values()
