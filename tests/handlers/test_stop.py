from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events

from monai_ssl.handlers.checkpoint import CheckpointWriter, Resume
from monai_ssl.handlers.stop import StopOnSignal, resuming_command
from tests import helpers
from tests.handlers.helpers import BATCH, trainer

SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]


@pytest.fixture(autouse=True)
def _handlers_come_back() -> Any:
    before = [signal.getsignal(number) for number in [*SIGNALS, signal.SIGALRM]]
    yield
    assert [signal.getsignal(number) for number in [*SIGNALS, signal.SIGALRM]] == before


class Startable(list[Any]):
    def __init__(self) -> None:
        super().__init__([BATCH] * 6)

    def start_at(self, step: int) -> None:
        self.first = step


def send(engine: Any, number: int, step: int, event: Any = Events.ITERATION_STARTED) -> None:
    engine.add_event_handler(event(once=step), lambda: os.kill(os.getpid(), number))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_step_writes_and_says_how_to_go_on(
    number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/lib/monai/bundle/__main__.py", "run", "--output_dir", "a b"])
    path = tmp_path / "resume.pt"
    whole = trainer()
    start = {name: value.clone() for name, value in whole.objective.state_dict().items()}
    whole.run()
    engine = trainer(CheckpointWriter(path, {}), StopOnSignal())
    engine.objective.load_state_dict(start)
    send(engine, number, 4)
    with pytest.raises(SystemExit) as ended:
        engine.run()
    assert ended.value.code == 128 + number
    assert torch.load(path, weights_only=True)["iteration"] == 4
    line = f"stopped by {signal.Signals(number).name} at step 4 with a checkpoint of step 4; go on with: "
    assert line + "python -m monai.bundle run --output_dir 'a b' --resume true" in caplog.text

    resumed = trainer(Resume(path, {}), CheckpointWriter(path, {}), StopOnSignal(), data_loader=Startable())
    resumed.run()
    assert helpers.same(resumed.objective.state_dict(), whole.objective.state_dict())


def test_a_run_at_its_last_step_ends_as_it_would(tmp_path: Path) -> None:
    engine = trainer(CheckpointWriter(tmp_path / "resume.pt", {}), StopOnSignal())
    send(engine, signal.SIGTERM, 6)
    engine.run()
    assert torch.load(tmp_path / "resume.pt", weights_only=True)["iteration"] == 6


@pytest.mark.parametrize("saved", [True, False])
def test_what_takes_too_long_is_not_waited_for(saved: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A validation, say: the checkpoint before counts."""
    engine = trainer(
        CheckpointWriter(tmp_path / "resume.pt", {}, interval=2 if saved else 100), StopOnSignal(grace=0.2)
    )

    @engine.on(Events.ITERATION_STARTED(once=4))
    def wait() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    start = time.monotonic()
    with pytest.raises(SystemExit, match="143"):
        engine.run()
    assert time.monotonic() - start < 30
    assert "stopped by SIGTERM at step 4" in caplog.text
    assert (" with a checkpoint of step 2; go on with: " in caplog.text) == saved
    assert ("there is no checkpoint yet: start again." in caplog.text) != saved


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    engine = trainer(CheckpointWriter(tmp_path / "resume.pt", {}), StopOnSignal())

    @engine.on(Events.ITERATION_STARTED(once=4))
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("still here")

    with pytest.raises(SystemExit, match="143"):
        engine.run()


def test_after_an_error_the_signals_are_as_before() -> None:
    engine = trainer(StopOnSignal())
    engine.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.run()


def test_a_training_in_a_thread_runs_without_signals() -> None:
    engine = trainer(StopOnSignal())
    thread = threading.Thread(target=engine.run)
    thread.start()
    thread.join()
    assert engine.state.iteration == 6


@pytest.mark.parametrize(
    ("words", "environment", "command"),
    [
        (["/x/monai/bundle/__main__.py", "run", "--a", "1"], {}, "python -m monai.bundle run --a 1 --resume true"),
        (["tool.py", "--resume", "true", "--a", "1"], {}, "python tool.py --a 1 --resume true"),
        (["tool.py", "--overwrite=true", "--resume", "--a"], {}, "python tool.py --a --resume true"),
        (["tool.py", "--overwrite", "true", "-x", "$1"], {}, "python tool.py -x '$1' --resume true"),
        (
            ["/x/monai/bundle/__main__.py", "run"],
            {"LOCAL_WORLD_SIZE": "2"},
            "torchrun --standalone --nproc_per_node=2 -m monai.bundle run --resume true",
        ),
    ],
)
def test_the_command_that_resumes(
    words: list[str], environment: dict[str, str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resuming_command() == command
