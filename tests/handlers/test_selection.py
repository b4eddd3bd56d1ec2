from __future__ import annotations

import json
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from monai_ssl.handlers.checkpoint import ModelWriter
from monai_ssl.handlers.selection import ModelSelection
from monai_ssl.handlers.validation import StepValidation
from monai_ssl.utils.errors import UserError
from tests.handlers.helpers import trainer
from tests.helpers import same

NAN = float("nan")


def validator(figures: dict[int, float], metric: str = "dice") -> Engine:
    """An evaluator that finds these figures, by its number of runs."""
    engine = Engine(lambda _engine, _batch: None)
    engine.runs = 0  # type: ignore[attr-defined]

    def score(engine: Any) -> None:
        engine.runs += 1
        engine.state.metrics[metric] = figures[engine.runs]
        figure = None if math.isnan(figures[engine.runs]) else figures[engine.runs]
        engine.state.summary = {"part": "validation", "mean": {metric: figure}}

    engine.add_event_handler(Events.COMPLETED, score)
    return engine


class Validator:
    """MONAI's evaluators are run with an epoch."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def run(self, epoch: int) -> None:
        self.engine.run([0])


def choose(folder: Path, figures: list[float], metric: str = "dice") -> tuple[Any, dict[int, dict[str, Any]]]:
    """Train six steps with a validation each; the weights after each step come back."""
    engine = validator({i + 1: figure for i, figure in enumerate(figures)}, metric)
    best = folder / "best.pt"
    run = trainer(
        StepValidation(Validator(engine), 1),
        ModelSelection(best, engine, cases=2, interval=1, report=folder / "validation_metrics.json", metric=metric),
        ModelWriter([folder / "model.pt"], best),
    )
    seen: dict[int, dict[str, Any]] = {}

    def remember(one: Any) -> None:
        seen[one.state.iteration] = {k: v.clone() for k, v in one.objective.deployed.state_dict().items()}

    run.add_event_handler(Events.ITERATION_COMPLETED, remember)
    run.run()
    return run, seen


@pytest.mark.parametrize(
    ("figures", "step"),
    [
        ([0.1, 0.5, 0.3, 0.5, 0.2, 0.4], 2),  # the first of equals
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 6),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1),
        ([NAN, NAN, 0.0, NAN, NAN, NAN], 3),
        ([NAN] * 6, 6),
    ],
)
def test_the_best_step_becomes_the_model(figures: list[float], step: int, tmp_path: Path) -> None:
    _, seen = choose(tmp_path, figures)
    assert same(torch.load(tmp_path / "model.pt", weights_only=True), OrderedDict(seen[step]))
    assert torch.load(tmp_path / "best.pt", weights_only=True)["step"] == step
    summary = json.loads((tmp_path / "validation_metrics.json").read_text())
    assert summary["mean"]["dice"] == (None if math.isnan(figures[step - 1]) else figures[step - 1])


def test_where_nothing_can_be_found_the_last_step_stands_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choose(tmp_path, [NAN] * 6, "cpm")
    assert "nothing to find, so that no step could be chosen: the last validated one, 6, stands" in caplog.text


def test_another_figure_may_decide_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _, seen = choose(tmp_path, [0.1, 0.5, 0.3, 0.5, 0.2, 0.4], "cpm")
    assert same(torch.load(tmp_path / "model.pt", weights_only=True), OrderedDict(seen[2]))
    assert json.loads((tmp_path / "validation_metrics.json").read_text())["mean"] == {"cpm": 0.5}
    assert "chosen on the validation cases: step 2, mean cpm 0.5000" in caplog.text
    run = trainer(selection := ModelSelection(tmp_path / "other.pt", validator({1: 0.5}), 1, 1, metric="cpm"))
    with pytest.raises(KeyError, match="cpm"):  # a figure that is not there is no 0
        selection._keep_if_better(validator({}), run)


def test_what_a_killed_run_left_before_its_first_checkpoint_does_not_count(tmp_path: Path) -> None:
    torch.save({"step": 1, "score": 0.99, "summary": {}, "network": {}}, tmp_path / "best.pt")
    _, seen = choose(tmp_path, [0.1, 0.2, 0.3, 0.1, 0.1, 0.1])
    assert same(torch.load(tmp_path / "model.pt", weights_only=True), OrderedDict(seen[3]))


def resumed(folder: Path, iteration: int) -> None:
    engine = validator({1: 0.2})
    selection = ModelSelection(folder / "best.pt", engine, cases=1, interval=2)
    run = trainer(selection)
    run.state.iteration = iteration
    selection._start(run)


def test_a_resumed_run_whose_choice_is_gone_says_so(tmp_path: Path) -> None:
    resumed(tmp_path, 1)  # no validation yet
    with pytest.raises(UserError, match=r"best\.pt: the best checkpoint of the run so far is gone.*--overwrite true"):
        resumed(tmp_path, 2)


def test_without_validation_cases_there_is_no_choice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs labelled validation cases.*--validation N"):
        ModelSelection(tmp_path / "best.pt", validator({}), cases=0, interval=1)
