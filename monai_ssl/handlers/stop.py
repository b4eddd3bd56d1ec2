"""Stopping on request: a checkpoint, and the line that goes on."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
from types import FrameType
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from monai_ssl.utils.bundle import inside_monai_label

__all__ = ["StopOnSignal", "resuming_command"]

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopOnSignal:
    """Ends the process after the step at which SIGTERM, SIGUSR1 or SIGINT (Ctrl-C) came, with a checkpoint of it.

    The status is 128 and the signal's number, as of a process that it has killed; the log says how to go on. With
    several processes all end after the same step. A validation that is due is finished first; where that, or a step,
    takes longer than ``grace``, or the signal comes a second time, the process ends at once and the checkpoint before
    counts.

    Place it in every process, last among the handlers, after :class:`~monai_ssl.handlers.CheckpointWriter`, which it
    tells to write by ``engine.state.stopping``. A training outside the main thread, which can have no signals, runs as
    if it were not there.

    Args:
        grace: seconds; schedulers often kill 30 seconds after the signal.

    Raises:
        SystemExit: in the trainer's run.
    """

    def __init__(self, grace: float = 20.0) -> None:
        self.grace = grace
        self._received = 0
        self._engine: Any = None
        self._before: dict[int, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._listen)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._agree)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_if_asked)
        engine.add_event_handler(Events.COMPLETED, self._restore)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._pass_on)

    def _listen(self, engine: Any) -> None:
        self._received, self._engine = 0, engine
        engine.state.stopping = False
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}

    def _restore(self, engine: Any) -> None:
        if self._received:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _pass_on(self, engine: Any, error: BaseException) -> None:
        self._restore(engine)
        raise error

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received:
            self._end_now(number, frame)
        self._received = number
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._end_now)
        signal.setitimer(signal.ITIMER_REAL, self.grace)

    def _agree(self, engine: Any) -> None:
        received = self._received
        if idist.get_world_size() > 1:
            highest = torch.tensor(received, device=engine.state.device)
            torch.distributed.all_reduce(highest, op=torch.distributed.ReduceOp.MAX)
            received = self._received = int(highest)
        # a run that is at its end writes its model, which a resumed one would do alike
        engine.state.stopping = bool(received) and engine.state.iteration < engine.total_steps

    def _end_if_asked(self, engine: Any) -> None:
        if engine.state.stopping:
            self._end()

    def _end_now(self, number: int, frame: FrameType | None) -> None:
        self._end()

    def _end(self) -> None:
        state = self._engine.state
        self._restore(self._engine)
        if idist.get_rank() == 0:
            saved = getattr(state, "saved", 0)
            then = f"go on with: {resuming_command()}" if saved else "there is no checkpoint yet: start again."
            if inside_monai_label():
                then = "train again, and it starts from the last model."
            logger.warning(
                f"stopped by {signal.Signals(self._received).name} at step {state.iteration}"
                f"{f' with a checkpoint of step {saved}' if saved else ''}; {then}"
            )
        raise SystemExit(128 + self._received)


def resuming_command() -> str:
    """The command line of this process with ``--resume true``, and without ``--overwrite``."""
    first, *words = sys.argv
    kept: list[str] = []
    for word in words:
        if kept and kept[-1] in ("--resume", "--overwrite") and not word.startswith("--"):
            kept.pop()  # with its value
        elif not word.startswith(("--resume=", "--overwrite=")):
            kept.append(word)
    kept = [word for word in kept if word not in ("--resume", "--overwrite")]
    program = ["python", "-m", "monai.bundle"] if first.endswith("__main__.py") else ["python", first]
    if count := int(os.environ.get("LOCAL_WORLD_SIZE", 0)):
        program = ["torchrun", "--standalone", f"--nproc_per_node={count}", *program[1:]]
    return shlex.join([*program, *kept, "--resume", "true"])
