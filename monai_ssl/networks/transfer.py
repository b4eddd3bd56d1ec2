"""Weights into networks, with a report of every key."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_ssl.utils.errors import UserError

__all__ = ["KeyReport", "compare_keys", "load_weights", "read_weights"]


@dataclass(frozen=True)
class KeyReport:
    """How the entries of a state dict meet a network's.

    Attributes:
        matched: in both, with the same shape.
        missing: in the network alone.
        unexpected: in the state dict alone.
        mismatched: in both, with different shapes.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every entry matched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        """One line: the counts, and the first names of what did not match."""
        parts = [f"{len(self.matched)} matched"]
        for name in ("missing", "unexpected", "mismatched"):
            keys = getattr(self, name)
            if keys:
                parts.append(f"{len(keys)} {name} ({', '.join(keys[:3])}{', ..' if len(keys) > 3 else ''})")
        return ", ".join(parts)


def compare_keys(weights: dict[str, torch.Tensor], network: nn.Module) -> KeyReport:
    """Compare a state dict with a network, without changing either."""
    own = network.state_dict()
    shared = own.keys() & weights.keys()
    same = {name for name in shared if own[name].shape == weights[name].shape}
    return KeyReport(
        matched=tuple(name for name in own if name in same),
        missing=tuple(name for name in own if name not in weights),
        unexpected=tuple(name for name in weights if name not in own),
        mismatched=tuple(name for name in own if name in shared - same),
    )


def load_weights(network: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load a ``model.pt`` into the very network it was trained with; anything else is refused.

    Args:
        network: changed in place.
        path: a plain state dict, as training writes it.

    Returns:
        The network.

    Raises:
        UserError: when the file is missing or no state dict, or when any key is missing, unexpected or of another
            shape.
    """
    weights = read_weights(path)
    report = compare_keys(weights, network)
    if not report.complete:
        raise UserError(
            f"{path}: does not fit this network: {report}. Use the network_def that the weights were trained with "
            "(preprocessing.json beside them has it)."
        )
    network.load_state_dict(weights)
    return network


def read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """A state dict from a file, read without unpickling code, on the CPU.

    Raises:
        UserError: when the file is missing, broken, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there are no weights here. Give --weights RUN/model.pt.")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: cannot be read as weights ({type(error).__name__}). Give a model.pt.") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not (isinstance(content, dict) and content and all(isinstance(v, torch.Tensor) for v in content.values())):
        raise UserError(f"{path}: is no plain state dict of a network. Give the model.pt of a run, not its resume.pt.")
    return content
