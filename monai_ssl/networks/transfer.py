"""Weights into networks, with a report of every key."""

from __future__ import annotations

import math
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.weight_files import read_plain

__all__ = [
    "KeyReport",
    "TransferReport",
    "compare_keys",
    "load_weights",
    "read_weights",
    "resize_positions",
    "spread_input_channels",
]

_GROUPS = ("matched", "adapted", "missing", "unexpected", "mismatched")
_DEPTH = 8  # of dictionaries around a state dict
_SEEN_IN_CHECKPOINTS = {"argparse", "collections", "datetime", "pathlib"}  # what frameworks store beside weights
_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


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


@dataclass(frozen=True)
class TransferReport:
    """What became of every key of a file of weights and of the network that they were loaded into.

    Attributes:
        file: that the weights came from.
        sha256: of that file.
        key_map: the form that the file's names have, see :data:`~monai_ssl.networks.key_maps.KEY_MAPS`.
        matched: names of the network whose values are the file's.
        adapted: names of the network whose values were made from the file's, and how.
        missing: names of the network that the file has not; they stay as they were.
        unexpected: keys of the file that the network has not.
        mismatched: names of the network for which the file has another shape, and both shapes; they stay as they were.
        encoder: the encoder's among ``loaded``; empty for a network whose encoder is not known.
        encoder_size: number of the encoder's entries altogether.
        warnings: what a user should know before trusting the result.
    """

    file: str
    sha256: str
    key_map: str
    matched: tuple[str, ...]
    adapted: Mapping[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: Mapping[str, str]
    encoder: tuple[str, ...]
    encoder_size: int
    warnings: tuple[str, ...] = ()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the network's parameters and buffers that are pretrained now."""
        return (*self.matched, *self.adapted)

    def __str__(self) -> str:
        """One line: the counts, the encoder's share, the form of the file."""
        counts = ", ".join(f"{len(getattr(self, group))} {group}" for group in _GROUPS if getattr(self, group))
        share = f"; {len(self.encoder)} of {self.encoder_size} of the encoder" if self.encoder_size else ""
        return f"pretrained weights of {self.file}: {counts}{share} (names: {self.key_map})"

    def table(self, rows: int = 24) -> str:
        """Counts by module, and every key that was adapted or refused.

        Args:
            rows: so many modules at most, if their outermost ones are no more; they are split as deep as that allows.
        """
        groups = {group: list(getattr(self, group)) for group in _GROUPS}
        names = [name for group in groups.values() for name in group]
        depth = next((depth for depth in range(1, 20) if len(_counts(names, depth + 1)) > rows), 20)
        counts = {group: _counts(group_names, depth) for group, group_names in groups.items()}
        modules = list(_counts(names, depth))
        width = max(map(len, ("module", *modules)))
        lines = ["  ".join([f"{'module':<{width}}", *(f"{group:>10}" for group in _GROUPS)])]
        for module in modules:
            lines.append(
                "  ".join([f"{module:<{width}}", *(f"{counts[group][module] or '-':>10}" for group in _GROUPS)])
            )
        lines += [f"adapted: {name}: {how}" for name, how in self.adapted.items()]
        lines += [f"mismatched: {name}: {shapes}" for name, shapes in self.mismatched.items()]
        return "\n".join(lines)


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


def read_weights(path: str | os.PathLike[str], wrappers: Sequence[str] = ("model",)) -> dict[str, Tensor]:
    """A state dict from a file, read without unpickling code, on the CPU.

    Args:
        path: of a state dict, or of a dictionary that holds one; or of safetensors.
        wrappers: entries under which the state dict may be; the first that is there is taken.

    Raises:
        UserError: when the file is missing, broken, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there are no weights here. Give --weights RUN/model.pt.")
    try:
        content = read_plain(path)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: cannot be read as weights ({type(error).__name__}){_remedy(error)}") from error
    content = _unwrapped(content, wrappers)
    if not (isinstance(content, dict) and content and all(map(_is_entry, content.items()))):
        raise UserError(f"{path}: is no plain state dict of a network. Give the model.pt of a run, not its resume.pt.")
    return content


def spread_input_channels(weight: Tensor, channels: int) -> Tensor:
    r"""A convolution's weights for another number of input channels, with the same answer to equal channels.

    Every new channel :math:`j` has the mean of the old ones, scaled so that a volume that is repeated in all of them is
    answered as before:

    .. math:: w'_{oj} = \frac{1}{C'} \sum_{i=1}^{C} w_{oi}

    Args:
        weight: of a convolution without groups.
        channels: the new number :math:`C'`.

    Shape:
        - Input: ``(O, C, ...)``
        - Output: ``(O, C', ...)``

    Raises:
        ValueError: when ``channels`` is below 1.
    """
    if channels < 1:
        raise ValueError(f"`channels` must be at least 1, got {channels}.")
    mean = weight.float().sum(dim=1, keepdim=True) / channels
    return mean.repeat_interleave(channels, dim=1).to(weight.dtype)


def resize_positions(positions: Tensor, grid: Sequence[int], new_grid: Sequence[int]) -> Tensor:
    """Positional embeddings of another grid of tokens, by linear interpolation between the centres of the tokens.

    Args:
        positions: of the tokens of the grid, the last axis fastest; those of class tokens, which come before them, are
            kept.
        grid: tokens along each axis, one to three axes.
        new_grid: the same, of the new grid.

    Shape:
        - Input: ``(1, E + prod(grid), F)`` with E class tokens
        - Output: ``(1, E + prod(new_grid), F)``

    Raises:
        ValueError: when the embeddings are fewer than the grid's tokens, or the grids have different numbers of axes.
    """
    extra = positions.shape[1] - math.prod(grid)
    if extra < 0:
        raise ValueError(f"`positions` must hold the {math.prod(grid)} tokens of `grid`, got {positions.shape[1]}.")
    if len(grid) != len(new_grid):
        raise ValueError(f"`new_grid` must have the {len(grid)} axes of `grid`, got {len(new_grid)}.")
    tokens = positions[:, extra:].float().transpose(1, 2).unflatten(2, tuple(grid))
    tokens = F.interpolate(tokens, size=tuple(new_grid), mode=_MODES[len(grid)], align_corners=False)
    return torch.cat([positions[:, :extra], tokens.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)


def _unwrapped(content: Any, wrappers: Sequence[str]) -> Any:
    for _ in range(_DEPTH):  # a dictionary of a file may hold itself
        inner = None
        if isinstance(content, dict):
            inner = next((content[name] for name in wrappers if isinstance(content.get(name), dict)), None)
        if inner is None:
            return content
        content = inner
    return None


def _is_entry(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _counts(names: Sequence[str], depth: int) -> Counter[str]:
    return Counter(".".join(name.split(".")[:-1][:depth]) or name for name in names)


def _remedy(error: Exception) -> str:
    refused = re.search(r"GLOBAL ([\w.]+) (was not an allowed global|whose module)", str(error))
    if refused is None:
        return ". Give a model.pt."
    name = refused[1][:80]
    root, dot, _ = name.partition(".")
    # torch names a builtin without its module
    if not dot or (root in sys.stdlib_module_names and root not in _SEEN_IN_CHECKPOINTS):
        return f": it asks for {name}, which no weights need and which may run code. Nothing was run. Do not use it."
    return (
        f": it holds {name} too, and only tensors and plain values are ever unpickled here. If you trust its "
        "origin, write its weights alone in a Python of yours: c = torch.load(FILE, weights_only=False); "
        "torch.save(c['network_weights'], 'weights.pt'), or whichever of its entries they are."
    )
