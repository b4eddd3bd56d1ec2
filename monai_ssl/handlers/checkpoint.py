"""Checkpoints: written whole or not at all, and going on exactly where one was written."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import save_torch
from monai_ssl.utils.replaced_run import drop_replaced
from monai_ssl.utils.weight_files import SAFETENSORS, read_best, read_plain, save_safetensors

__all__ = ["CheckpointWriter", "ModelWriter", "Resume", "fingerprint_difference", "read_checkpoint"]

logger = logging.getLogger(__name__)

_FORMAT = 1
_ENTRIES: dict[str, type] = {
    **dict.fromkeys(("fingerprint", "objective", "weights", "optimizer", "scaler"), dict),
    **dict.fromkeys(("iteration", "max_epochs", "epoch_length"), int),
}


class Resume:
    """Loads ``resume.pt`` when the run starts. Place it before every other handler of ours.

    Args:
        path: the checkpoint.
        fingerprint: settings of this run by name; it must equal the checkpoint's.
        enabled: ``False`` does nothing, so that a config can carry the handler always.

    Raises:
        UserError: at the start, when the file is missing or broken, or belongs to other settings.
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: Mapping[str, Any], enabled: bool = True) -> None:
        self.path = Path(path)
        self.fingerprint = dict(fingerprint)
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if self.enabled:
            engine.add_event_handler(Events.STARTED, self._load)

    def _load(self, engine: Any) -> None:
        state = read_checkpoint(self.path, map_location=engine.state.device)
        difference = fingerprint_difference(state["fingerprint"], self.fingerprint)
        if difference:
            raise UserError(
                f"{self.path}: belongs to other settings: {difference}. Give the old values, or another output_dir."
            )
        try:
            engine.objective.load_state_dict(state["objective"])
            engine.objective.weights.update({name: float(weight) for name, weight in state["weights"].items()})
            engine.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"]:  # empty where nothing was scaled, as on a CPU
                engine.scaler.load_state_dict(state["scaler"])
            engine.load_state_dict({name: state[name] for name in ("iteration", "max_epochs", "epoch_length")})
        except Exception as error:
            raise UserError(
                f"{self.path}: does not fit this run, though its settings are the same ({type(error).__name__}). "
                "Restore it, or start anew with --overwrite true."
            ) from error
        engine.state.saved = engine.state.iteration
        engine.data_loader.start_at(engine.state.iteration)
        logger.info(f"resumed {self.path} after step {engine.state.iteration} of {engine.total_steps}")


class CheckpointWriter:
    """Writes ``resume.pt`` every ``interval`` steps, at the end, and where a stop is asked for.

    Place it last among the handlers, but for :class:`~monai_ssl.handlers.StopOnSignal`. ``engine.state.saved`` is the
    step that was written last.

    Args:
        path: the checkpoint.
        fingerprint: settings of this run by name, plain values.
        interval: steps between writes.

    Raises:
        ValueError: when ``interval`` is below 1.
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: Mapping[str, Any], interval: int = 100) -> None:
        if interval < 1:
            raise ValueError(f"`interval` must be at least 1 step, got {interval}.")
        self.path = Path(path)
        self.fingerprint = dict(fingerprint)
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save_if_due)
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _save_if_due(self, engine: Any) -> None:
        # the last step is written on COMPLETED, after model.pt: a checkpoint of a finished run has its model
        due = engine.state.iteration % self.interval == 0 or getattr(engine.state, "stopping", False)
        if due and engine.state.iteration < engine.total_steps:
            self._save(engine)

    def _save(self, engine: Any) -> None:
        save_torch(
            {
                "format": _FORMAT,
                "fingerprint": self.fingerprint,
                "iteration": int(engine.state.iteration),
                "max_epochs": int(engine.state.max_epochs),
                "epoch_length": int(engine.state.epoch_length),
                "objective": engine.objective.state_dict(),
                "weights": {name: float(weight) for name, weight in engine.objective.weights.items()},
                "optimizer": engine.optimizer.state_dict(),
                "scaler": engine.scaler.state_dict(),
            },
            self.path,
        )
        drop_replaced(self.path.parent)
        engine.state.saved = int(engine.state.iteration)


class ModelWriter:
    """Writes the objective's deployed network as a plain state dict when the run ends. Place it before the checkpoint.

    Beside each file it writes the same weights as safetensors, under the same name but for its ending.

    Args:
        paths: the files; MONAI Label reads one in the bundle, the run's folder has the other.
        best: what :class:`~monai_ssl.handlers.ModelSelection` keeps; its weights are written in place of the last.
        heads: a further file, for the whole network that was pretrained, with its heads.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        best: str | os.PathLike[str] | None = None,
        heads: str | os.PathLike[str] | None = None,
    ) -> None:
        self.paths = [Path(path) for path in paths]
        self.best = best
        self.heads = heads

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _save(self, engine: Any) -> None:
        weights, step = engine.objective.deployed_state(), engine.state.iteration
        if self.best is not None:
            chosen = read_best(self.best)
            weights, step = chosen["network"], chosen["step"]
        if self.heads is not None:
            save_torch(engine.objective.network.state_dict(), self.heads)
        for path in self.paths:
            save_safetensors(weights, path.with_suffix(SAFETENSORS))  # first: where there is model.pt, both are whole
            save_torch(weights, path)
            logger.info(f"wrote {path}: the network of step {step}")


def read_checkpoint(path: str | os.PathLike[str], map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a ``resume.pt``, read without unpickling code.

    Raises:
        UserError: when the file is missing, broken, or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no checkpoint to resume. Leave out --resume true to start a run.")
    try:
        state = read_plain(path, map_location)
        if state["format"] == _FORMAT:
            wrong = next((name for name, kind in _ENTRIES.items() if not isinstance(state.get(name), kind)), None)
            if wrong is None:
                return state
            reason = f"{wrong} is missing or broken"
        else:
            reason = f"format {str(state['format'])[:20]}, this version reads {_FORMAT}"
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}"
    raise UserError(f"{path}: is no checkpoint that this version can resume ({reason}). Start with --overwrite true.")


def fingerprint_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between two fingerprints, in words; empty when nothing does."""
    missing = "(none)"
    changes = [
        f"{name} was {old.get(name, missing)}, is now {new.get(name, missing)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, missing) != new.get(name, missing)
    ]
    return "; ".join(changes)
