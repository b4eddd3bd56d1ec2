"""Which entries of a file of weights go where in a network, as they are or adapted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from monai_ssl.networks.encoder import encoder_keys, encoder_taps
from monai_ssl.networks.key_maps import KeyMap
from monai_ssl.networks.transfer import TransferReport, resize_positions, spread_input_channels
from monai_ssl.utils.errors import UserError

__all__ = ["Meeting", "Target", "meet"]

_POSITIONS = re.compile(r"(^|[._])pos(ition)?_embed(ding)?s?$")


@dataclass(frozen=True)
class Target:
    """The network's side: its entries, its encoder, the convolutions that see the image.

    Attributes:
        kind: name of its class.
        own: its state dict, with the parameters themselves.
        aliases: the names of each entry; DynUNet's have several.
        encoder: names of the encoder's entries; empty where the encoder is not known.
        image_convolutions: names of the weights that meet the image's channels, the encoder's first one first.
        token_size: voxels of a token along each axis, of a transformer.
        axes: spatial axes of its volumes.
    """

    kind: str
    own: dict[str, Tensor]
    aliases: list[list[str]]
    encoder: frozenset[str]
    image_convolutions: tuple[str, ...]
    token_size: Sequence[int] | None
    axes: int

    @classmethod
    def of(cls, network: nn.Module) -> Target:
        """The side of a network; convolutions without groups that have the first one's input channels see the image."""
        own = network.state_dict(keep_vars=True)
        names: dict[int, list[str]] = {}
        for name, value in own.items():
            names.setdefault(id(value), []).append(name)
        try:
            encoder, token_size = frozenset(encoder_keys(network)), encoder_taps(network).token_size
        except UserError:
            encoder, token_size = frozenset(), None
        convolutions = {
            f"{name}.weight": module
            for name, module in network.named_modules()
            if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd) and module.groups == 1
        }
        first = next((name for name in convolutions if name in encoder or not encoder), None)
        channels = convolutions[first].in_channels if first else None
        seeing = [name for name, module in convolutions.items() if module.in_channels == channels and name in own]
        axes = len(token_size) if token_size else own[first].ndim - 2 if first in own else 3
        seeing.sort(key=lambda name: name != first)
        return cls(type(network).__name__, own, list(names.values()), encoder, tuple(seeing), token_size, axes)


@dataclass
class Meeting:
    """A file's entries, under one form of names, against the network's.

    Attributes:
        form: of the file's names.
        values: by name of the network, what is to be loaded.
        adapted: by name of the network, how a value was made from the file's.
        mismatched: by name of the network, both shapes of what is left out.
        used: keys of the file that have a name in the network.
        score: numbers of the encoder's weights that are filled (of all, where the encoder is not known), of all weights
            that are filled, and of names in common; counters and indices, the same in any network, are no weights.
    """

    form: KeyMap
    values: dict[str, Tensor]
    adapted: dict[str, str]
    mismatched: dict[str, str]
    used: set[str]
    score: tuple[int, int, int]

    def report(
        self, target: Target, weights: Mapping[str, Tensor], *, file: str, sha256: str, warnings: Sequence[str] = ()
    ) -> TransferReport:
        """What became of every key.

        Args:
            target: the network that was met.
            weights: the file's.
            file: as the report names it.
            sha256: of the file.
            warnings: what a user should know.
        """
        seen = {_place(weights[key]) for key in self.used if weights[key].numel()}
        loaded = [name for name in target.own if name in self.values]
        return TransferReport(
            file=file,
            sha256=sha256,
            key_map=self.form.name,
            matched=tuple(name for name in loaded if name not in self.adapted),
            adapted={name: self.adapted[name] for name in loaded if name in self.adapted},
            missing=tuple(name for name in target.own if name not in self.values and name not in self.mismatched),
            # another name of an entry that was used is none that the network lacks
            unexpected=tuple(key for key in weights if key not in self.used and _place(weights[key]) not in seen),
            mismatched={name: self.mismatched[name] for name in target.own if name in self.mismatched},
            encoder=tuple(name for name in loaded if name in target.encoder),
            encoder_size=len(target.encoder),
            warnings=tuple(warnings),
        )


def meet(
    target: Target, weights: Mapping[str, Tensor], bare: Mapping[str, str], form: KeyMap, patch_sizes: tuple[Any, Any]
) -> Meeting:
    """Find a value for every entry of a network that a file of weights can fill; nothing is changed.

    An entry of the same shape is taken as it is. Adapted are the convolutions that see the image, all of them for one
    number of channels (:func:`~monai_ssl.networks.transfer.spread_input_channels`), and positional embeddings whose
    grids are known (:func:`~monai_ssl.networks.transfer.resize_positions`). What else has another shape is left out.

    Args:
        target: the network's side.
        weights: the file's, by its keys.
        bare: the file's keys by bare names, see :func:`~monai_ssl.networks.key_maps.bare_keys`.
        form: of the bare names.
        patch_sizes: voxels of the pretraining's patches and of the network's along each axis, None where not known; a
            grid of positional embeddings that is no cube is known from them alone.
    """
    sources = {name: bare[key] for name, key in form.sources(bare, target.own).items()}
    channels = _channels(target, sources, weights)
    meeting = Meeting(form, {}, {}, {}, set(sources.values()), (0, 0, 0))
    filled = of_encoder = 0
    for names in target.aliases:
        source = next((sources[name] for name in names if name in sources), None)
        if source is None:
            continue
        own, found = target.own[names[0]], weights[source]
        sees_image = not set(names).isdisjoint(target.image_convolutions)
        value, how = _fit(names[0], own, found, channels if sees_image else None, target, patch_sizes)
        if value is None:
            shapes = f"{_shape(found)} in the file, {_shape(own)} in the network"
            meeting.mismatched.update(dict.fromkeys(names, shapes))
            continue
        meeting.values.update(dict.fromkeys(names, value))
        if how:
            meeting.adapted.update(dict.fromkeys(names, how))
        if value.is_floating_point():
            filled += 1
            of_encoder += not target.encoder or not target.encoder.isdisjoint(names)
    meeting.score = (of_encoder, filled, len(sources))
    return meeting


def _channels(target: Target, sources: Mapping[str, str], weights: Mapping[str, Tensor]) -> int | None:
    # of the image that the pretraining saw; None where the first convolutions differ in more than that
    first = next(iter(target.image_convolutions), None)
    if first is None or first not in sources:
        return None
    own, found = target.own[first].shape, weights[sources[first]].shape
    return found[1] if len(found) == len(own) and (found[0], *found[2:]) == (own[0], *own[2:]) else None


def _fit(
    name: str, own: Tensor, found: Tensor, channels: int | None, target: Target, patch_sizes: tuple[Any, Any]
) -> tuple[Tensor | None, str]:
    if own.is_floating_point() != found.is_floating_point():
        return None, ""
    value, how = None, ""
    if _POSITIONS.search(name) and own.ndim == found.ndim == 3 and own.shape[2] == found.shape[2]:
        value, how = _fit_positions(own, found, target, patch_sizes)
    elif own.shape == found.shape:
        value = found
    elif channels is not None and found.shape == (own.shape[0], channels, *own.shape[2:]):
        value = spread_input_channels(found, own.shape[1])
        how = f"{channels} input channel(s) averaged over {own.shape[1]}, the answer to equal ones kept"
    return (None if value is None else value.to(own.dtype)), how


def _fit_positions(
    own: Tensor, found: Tensor, target: Target, patch_sizes: tuple[Any, Any]
) -> tuple[Tensor | None, str]:
    old, new = (
        _grid(positions.shape[1], patch_size, target)
        for positions, patch_size in zip((found, own), patch_sizes, strict=True)
    )
    if own.shape == found.shape and (old is None or new is None or old == new):
        return found, ""
    if old is None or new is None or found.shape[1] - math.prod(old) != own.shape[1] - math.prod(new):
        return None, ""
    tokens = [" x ".join(map(str, grid)) for grid in (old, new)]
    return resize_positions(found, old, new), f"tokens interpolated from {tokens[0]} to {tokens[1]}"


def _grid(count: int, patch_size: Any, target: Target) -> list[int] | None:
    # there may be one class token before those of the grid
    if isinstance(patch_size, (list, tuple)) and target.token_size and len(patch_size) == len(target.token_size):
        grid = [int(size) // token for size, token in zip(patch_size, target.token_size, strict=True)]
        if math.prod(grid) in (count, count - 1):
            return grid
    for tokens in (count, count - 1):
        side = round(tokens ** (1 / target.axes))
        if side > 0 and side**target.axes == tokens:
            return [side] * target.axes
    return None


def _place(value: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return value.data_ptr(), tuple(value.shape), value.stride()


def _shape(value: Tensor) -> str:
    return " x ".join(map(str, value.shape)) or "a number"
