from __future__ import annotations

import copy
import csv
from pathlib import Path
from typing import Any

import pytest
from ignite.engine import Engine, Events

from monai_ssl.handlers.step_log import StepLog
from tests.handlers.helpers import trainer


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def going_on(path: Path, step: int) -> list[dict[str, str]]:
    engine = trainer(StepLog(path))
    engine.load_state_dict({"iteration": step, "max_epochs": 2, "epoch_length": 3})
    engine.run()
    return table(path)


def test_a_row_a_step_with_every_digit(tmp_path: Path) -> None:
    engine, seen = trainer(StepLog(tmp_path / "steps.csv")), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append(copy.deepcopy(e.state.output)))
    engine.run()
    rows = table(tmp_path / "steps.csv")
    columns = ["step", "loss", "first", "second", "weight_first", "weight_second", "lr", "seconds", "validation_dice"]
    assert list(rows[0]) == columns
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    for row, output in zip(rows, seen, strict=True):
        assert float(row["loss"]) == output["loss"].item()
        assert [float(row[name]) for name in ("first", "second")] == [term.item() for term in output["terms"].values()]
        assert (row["weight_first"], row["weight_second"], row["lr"], row["validation_dice"]) == (
            "1.0",
            "0.5",
            "0.1",
            "",
        )
        assert float(row["seconds"]) >= 0


def test_a_row_can_be_read_at_once_and_survives_an_error(tmp_path: Path) -> None:
    engine = trainer(StepLog(tmp_path / "steps.csv"))
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: counts.append(len(table(tmp_path / "steps.csv"))))
    counts: list[int] = []

    @engine.on(Events.ITERATION_STARTED)
    def fail(engine: Any) -> None:
        if engine.state.iteration == 4:
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        engine.run()
    assert counts == [1, 2, 3]


@pytest.mark.parametrize("metric", ["dice", "cpm"])
def test_a_validation_stands_at_its_step(metric: str, tmp_path: Path) -> None:
    class Validate:
        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=3), self.run)

        def run(self, engine: Engine) -> None:
            validator.run([0])

    validator = Engine(lambda engine, batch: None)

    @validator.on(Events.EPOCH_COMPLETED)
    def score(validator: Any) -> None:
        validator.state.metrics |= {metric: 0.25, "other": 0.75}

    log = StepLog(tmp_path / "steps.csv", validator, **({} if metric == "dice" else {"metric": metric}))
    trainer(Validate(), log).run()
    rows = table(tmp_path / "steps.csv")
    assert [name for name in rows[0] if name.startswith("validation")] == [f"validation_{metric}"]
    assert [row[f"validation_{metric}"] for row in rows] == ["", "", "0.25", "", "", "0.25"]


def test_a_resumed_run_drops_the_rows_after_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    trainer(StepLog(path)).run()
    before = table(path)
    rows = going_on(path, 4)
    assert [row["step"] for row in rows] == list("123456")
    assert rows[:4] == before[:4]
    assert rows[4:] != before[4:]


@pytest.mark.parametrize("columns", [1, 3, 8])
def test_a_row_that_a_kill_cut_short_is_dropped(columns: int, tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    trainer(StepLog(path)).run()
    lines = path.read_text().splitlines()
    torn = ",".join(lines[5].split(",")[:columns])
    path.write_text("\n".join([*lines[:5], torn]))
    rows = going_on(path, 5)
    assert [row["step"] for row in rows] == list("12346")
    assert all(None not in row.values() for row in rows)


def test_the_rows_kept_are_on_the_disk_before_the_next_step_ends(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    trainer(StepLog(path)).run()
    engine = trainer(StepLog(path))
    engine.load_state_dict({"iteration": 4, "max_epochs": 2, "epoch_length": 3})
    seen: list[int] = []
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: seen.append(len(table(path))))
    engine.run()
    assert seen == [4, 5]


def test_a_new_run_starts_a_new_table(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text("step,other\n1,2\n")
    trainer(StepLog(path)).run()
    assert len(table(path)) == 6
    assert "other" not in table(path)[0]


def test_a_resumed_run_without_a_table_starts_one(tmp_path: Path) -> None:
    assert [row["step"] for row in going_on(tmp_path / "steps.csv", 4)] == ["5", "6"]
