from __future__ import annotations

import io
from typing import Any

import pytest
from ignite.engine import Events
from rich.console import Console

from monai_ssl.engines.trainer import SSLTrainer
from monai_ssl.handlers.progress_bar import StepProgressBar
from monai_ssl.utils.errors import UserError
from tests.handlers.helpers import BATCH, trainer


def shown(terminal: bool, interval: int = 1, steps: int = 0, **arguments: Any) -> tuple[SSLTrainer, io.StringIO]:
    bar, text = StepProgressBar(interval), io.StringIO()
    bar.console = Console(file=text, force_terminal=terminal, width=150, color_system=None)
    return trainer(bar, **arguments), text


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    engine, text = shown(False, interval=2, epoch_length=25)
    engine.data_loader = [BATCH] * 50
    engine.run()
    lines = text.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["20/50", "40/50", "50/50"]
    assert all("first " in line and "second " in line for line in lines)
    assert "\x1b" not in text.getvalue()


def test_on_a_terminal_there_is_a_bar_that_ends_full() -> None:
    engine, text = shown(True)
    engine.run()
    assert "6/6" in text.getvalue()
    assert text.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_an_error_gives_the_terminal_back_and_goes_on() -> None:
    engine, text = shown(True)

    @engine.on(Events.ITERATION_COMPLETED)
    def fail(engine: Any) -> None:
        raise UserError("a mistake")

    with pytest.raises(UserError, match="a mistake"):
        engine.run()
    assert text.getvalue().count("\x1b[?25h") == text.getvalue().count("\x1b[?25l") == 1


def test_control_c_gives_the_terminal_back() -> None:
    engine, text = shown(True)

    @engine.on(Events.ITERATION_COMPLETED)
    def interrupt(engine: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert text.getvalue().count("\x1b[?25h") == 1


def test_a_resumed_run_starts_where_it_is() -> None:
    engine, text = shown(True)
    engine.load_state_dict({"iteration": 5, "max_epochs": 2, "epoch_length": 3})
    engine.run()
    assert "5/6" in text.getvalue()
    assert "1/6" not in text.getvalue()


def test_an_interval_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`interval` must be at least 1 step, got 0\."):
        StepProgressBar(0)
