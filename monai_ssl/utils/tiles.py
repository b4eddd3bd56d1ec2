"""Tiles cut out of the cells of a regular grid, for pretext tasks about how they lie to each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["GRID", "cut_tiles", "normalize_tiles", "tile_ranges", "tile_sides"]

GRID = 3
"""Cells along an axis."""


def tile_sides(tile: int | Sequence[int], spatial_dims: int) -> tuple[int, ...]:
    """Sides of a tile in voxels, one an axis.

    Args:
        tile: one number, or one an axis.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: when an argument is out of range.
    """
    if spatial_dims not in (2, 3):
        raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}.")
    given: Any = tile if isinstance(tile, Sequence) else [tile] * spatial_dims
    if len(given) != spatial_dims or any(side != int(side) or side < 2 for side in given):
        raise ValueError(f"`tile` must be whole voxels from 2, one number or one for each axis, got {tile}.")
    return tuple(int(side) for side in given)


def tile_ranges(shape: Sequence[int], sides: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    r"""First and last voxel at which a tile can start, so that it lies inside its cell.

    Along an axis of :math:`L` voxels cell :math:`g` goes from :math:`\lfloor gL/3 \rfloor` to
    :math:`\lfloor (g+1)L/3 \rfloor`. A tile that starts anywhere in its range leaves a random gap to its neighbours.

    Args:
        shape: of the volume, ``(H, W[, D])``.
        sides: of a tile.

    Returns:
        Both for all cells in row-major order, each ``(3 ** axes, axes)``; the last voxel is included.

    Raises:
        ValueError: when a cell is smaller than a tile, or there is another number of axes.
    """
    if len(shape) != len(sides):
        raise ValueError(f"`spatial_dims` is {len(sides)}, got an image with spatial axes {tuple(shape)}.")
    cells = tuple(length // GRID for length in shape)
    if any(side > cell for side, cell in zip(sides, cells, strict=True)):
        raise ValueError(
            f"`tile` {tuple(sides)} does not fit into the cells {cells} of a volume of {tuple(shape)}, {GRID} along an "
            f"axis: use a smaller `tile`, or a volume of {tuple(GRID * side for side in sides)} or more."
        )
    places = np.indices((GRID,) * len(sides), dtype=np.int64).reshape(len(sides), -1).T
    lengths = np.asarray(shape, dtype=np.int64)
    return places * lengths // GRID, (places + 1) * lengths // GRID - np.asarray(sides, dtype=np.int64)


def cut_tiles(images: Tensor, starts: Tensor, sides: Sequence[int]) -> Tensor:
    """Cut tiles out of a batch, each case's at places of its own.

    Args:
        images: the batch; not changed.
        starts: first voxel of each tile; on the CPU, a GPU need not be waited for.
        sides: of a tile.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - starts: ``(B, K, axes)``, int64
        - Output: ``(B, K, C, *sides)``

    Raises:
        ValueError: when a tile reaches out of the volume.
    """
    room = torch.tensor(images.shape[2:], device=starts.device) - torch.tensor(sides, device=starts.device)
    if bool(((starts < 0) | (starts > room)).any()):
        raise ValueError(
            f"`starts` must leave tiles of {tuple(sides)} inside the volume of {tuple(images.shape[2:])}; images that "
            "share a draw must have one shape."
        )
    # where a tile's voxels lie in the flattened volume, relative to its first one
    strides = [math.prod(images.shape[axis + 3 :]) for axis in range(len(sides))]
    steps = [torch.arange(side) * stride for side, stride in zip(sides, strides, strict=True)]
    within = torch.cartesian_prod(*steps).sum(-1).to(images.device)
    index = (starts * torch.tensor(strides, device=starts.device)).sum(-1).to(images.device)[..., None] + within
    tiles = images.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, images.shape[1], -1))
    return tiles.unflatten(2, (starts.shape[1], *sides)).transpose(1, 2).contiguous()


def normalize_tiles(tiles: Tensor) -> Tensor:
    """Bring each tile and channel to mean 0 and standard deviation 1 by itself.

    So no tile tells by its brightness where it comes from. A tile that is constant, up to a hundred-thousandth of its
    largest value, becomes 0.

    Args:
        tiles: of any type; half precision is computed in float32, and integers come out as float32.

    Shape:
        - tiles: ``(B, K, C, H, W[, D])``
        - Output: the same
    """
    axes = tuple(range(3, tiles.ndim))
    values = tiles.to(torch.promote_types(tiles.dtype, torch.float32))
    centered = values - values.mean(axes, keepdim=True)
    deviation = centered.square().mean(axes, keepdim=True).sqrt()
    constant = deviation <= 1e-5 * values.abs().amax(axes, keepdim=True)
    out = (centered / deviation.masked_fill(constant, 1.0)).masked_fill(constant, 0.0)
    return out.to(tiles.dtype) if tiles.is_floating_point() else out
