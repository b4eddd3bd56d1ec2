"""Feature maps of a network that stays as it is, and of no network at all, for probes of what they hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal

import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from monai.data.utils import dense_patch_slices
from torch import Tensor, nn

from monai_ssl.networks.encoder import encode, encoder_keys
from monai_ssl.networks.transfer import compare_keys, read_weights
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.seeding import seed_torch

__all__ = ["FrozenEncoder", "Neighbourhood", "TiledVector", "load_encoder", "random_network", "tiles_of"]

Levels = Literal["deepest", "all"]
Pooling = Literal["mean", "mean_max"]


def load_encoder(network: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load the ``model.pt`` of a pretraining, which holds the encoder's entries or all, into the bare network.

    Args:
        network: changed in place; what the file does not hold, at most a decoder, stays as it is.
        path: a plain state dict with the bare network's names.

    Returns:
        The network.

    Raises:
        UserError: when the file is missing or no state dict, an entry of the encoder is missing or of another shape, or
            the file holds an entry that the network has not.
    """
    weights = read_weights(path)
    report = compare_keys(weights, network)
    absent = [name for name in encoder_keys(network) if name in report.missing]
    if absent or report.unexpected or report.mismatched:
        shown = f"; of the encoder's entries {len(absent)} are missing ({absent[0]}, ..)" if absent else ""
        raise UserError(
            f"{path}: does not fit this network: {report}{shown}. Use the network_def of the pretraining "
            "(preprocessing.json beside the weights has it)."
        )
    network.load_state_dict(weights, strict=False)  # what is missing was checked to be none of the encoder's
    return network


def random_network(definition: Mapping[str, Any], seed: int) -> nn.Module:
    """A network of a definition with random weights, a function of the seed; the random state is left as it is.

    Args:
        definition: plain values with ``_target_``, as in ``preprocessing.json``.
        seed: of the weights.
    """
    with torch.random.fork_rng():
        seed_torch(seed, "random encoder")
        network: nn.Module = ConfigParser({"network": dict(definition)}).get_parsed_content("network")
    return network


class FrozenEncoder(nn.Module):
    """The encoder's feature maps, in evaluation mode and without gradient.

    Args:
        network: see :func:`~monai_ssl.networks.encoder_taps`; put into evaluation mode.
        levels: the ``"deepest"`` map alone, or ``"all"``.

    Shape:
        - Input: ``(B, C, H, W[, D])``
        - Output: a list of ``(B, F, h, w[, d])``, shallow to deep

    Raises:
        UserError: when ``levels`` is unknown.
    """

    def __init__(self, network: nn.Module, levels: Levels = "deepest") -> None:
        super().__init__()
        if levels not in ("deepest", "all"):
            raise UserError(f"levels must be deepest or all, got {levels!r}.")
        self.network = network.eval()
        self.levels = levels

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps."""
        maps = encode(self.network, images)
        return maps if self.levels == "all" else maps[-1:]


class Neighbourhood(nn.Module):
    """The intensities of the voxels around each voxel, as one feature map; what a probe can do without any encoder.

    Args:
        radius: in voxels; 1 gives ``3 ** axes`` features a channel.

    Shape:
        - Input: ``(B, C, H, W[, D])``
        - Output: a list of one ``(B, C * (2 * radius + 1) ** axes, H, W[, D])``; the border is repeated outwards
    """

    def __init__(self, radius: int = 1) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, images: Tensor) -> list[Tensor]:
        """The map."""
        axes = images.ndim - 2
        padded = F.pad(images, [self.radius] * 2 * axes, mode="replicate")
        sides = images.shape[2:]
        shifts = product(range(2 * self.radius + 1), repeat=axes)
        places = ([slice(s, s + side) for s, side in zip(shift, sides, strict=True)] for shift in shifts)
        shifted = [_part(padded, place) for place in places]
        return [torch.cat(shifted, dim=1)]


class TiledVector(nn.Module):
    """One vector a scan: the maps of its tiles, averaged over space and over tiles.

    Tiles of the size that the encoder was trained with cover the scan; the last of an axis is moved inwards, so that
    it overlaps the one before. A scan smaller than a tile is padded with zeros at its end.

    Args:
        maps: images to a list of maps, such as :class:`FrozenEncoder`.
        patch_size: voxels of a tile along each axis.
        pooling: ``"mean"``, or ``"mean_max"`` with the largest value over space and tiles behind it.
        tiles_at_once: tiles that go through the encoder together.

    Shape:
        - Input: ``(1, C, H, W[, D])``
        - Output: ``(1, F)``, F the channels of all maps, twice with ``mean_max``

    Raises:
        UserError: when ``pooling`` is unknown.
    """

    def __init__(
        self, maps: nn.Module, patch_size: Sequence[int], pooling: Pooling = "mean", tiles_at_once: int = 4
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "mean_max"):
            raise UserError(f"pooling must be mean or mean_max, got {pooling!r}.")
        self.maps = maps
        self.patch_size = tuple(patch_size)
        self.pooling = pooling
        self.tiles_at_once = tiles_at_once

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """The vector."""
        tiles = torch.cat([tile for _, tile in tiles_of(images, self.patch_size)])
        means, maxima = [], []
        for batch in tiles.split(self.tiles_at_once):
            flat = [values.float().flatten(2) for values in self.maps(batch)]
            means.append(torch.cat([values.mean(dim=2) for values in flat], dim=1))
            maxima.append(torch.cat([values.amax(dim=2) for values in flat], dim=1))
        mean = torch.cat(means).mean(dim=0, keepdim=True)
        if self.pooling == "mean":
            return mean
        return torch.cat([mean, torch.cat(maxima).amax(dim=0, keepdim=True)], dim=1)


def tiles_of(images: Tensor, patch_size: Sequence[int]) -> list[tuple[tuple[slice, ...], Tensor]]:
    """The tiles that cover a scan, each with where it lies; zeros are added at the end where the scan is smaller.

    Shape:
        - images: ``(1, C, H, W[, D])``
        - a tile: ``(1, C, *patch_size)``
    """
    short = [max(0, side - length) for side, length in zip(patch_size, images.shape[2:], strict=True)]
    padded = F.pad(images, [pad for amount in reversed(short) for pad in (0, amount)])
    places = dense_patch_slices(padded.shape[2:], patch_size, patch_size)
    return [(place, _part(padded, place)) for place in places]


def _part(images: Tensor, place: Sequence[slice]) -> Tensor:
    index: Any = (..., *place)
    part: Tensor = images[index]
    return part
