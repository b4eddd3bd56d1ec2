from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_ssl.utils.tiles import cut_tiles, normalize_tiles, tile_ranges, tile_sides


def volumes(*shape: int) -> Tensor:
    return 2 + 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("shape", "sides"), [((9, 12, 7), (2, 3, 2)), ((10, 11), (3, 2))])
def test_tiles_are_slices_voxel_by_voxel(shape: tuple[int, ...], sides: tuple[int, ...]) -> None:
    images = volumes(3, 2, *shape)
    before = images.clone()
    room = torch.tensor(shape) - torch.tensor(sides) + 1
    starts = (torch.rand(3, 5, len(shape), generator=torch.Generator().manual_seed(1)) * room).long()
    tiles = cut_tiles(images, starts, sides)
    assert tiles.shape == (3, 5, 2, *sides)
    assert torch.equal(images, before)
    for case, tile, channel in product(range(3), range(5), range(2)):
        for voxel in product(*map(range, sides)):
            at = tuple(int(start) + step for start, step in zip(starts[case, tile], voxel, strict=True))
            assert tiles[(case, tile, channel, *voxel)] == images[(case, channel, *at)]


def test_tiles_that_reach_out_of_the_volume_are_refused() -> None:
    for start in (-1, 7):
        with pytest.raises(ValueError, match=r"`starts` must leave tiles of \(3, 3\) inside the volume of \(9, 9\)"):
            cut_tiles(torch.zeros(1, 1, 9, 9), torch.tensor([[[0, start]]]), (3, 3))


@pytest.mark.parametrize("shape", [(9, 11, 13), (32, 48, 31), (20, 9)])
def test_tiles_lie_inside_their_cells_and_the_cells_fill_the_volume(shape: tuple[int, ...]) -> None:
    sides = (3,) * len(shape)
    first, last = tile_ranges(shape, sides)
    assert first.shape == last.shape == (3 ** len(shape), len(shape))
    assert (first <= last).all()
    for number, place in enumerate(product(range(3), repeat=len(shape))):
        for axis, (cell, length) in enumerate(zip(place, shape, strict=True)):
            # the voxels whose far edge lies in this third of the axis
            inside = [v for v in range(length) if cell * length < 3 * (v + 1) <= (cell + 1) * length]
            assert first[number, axis] == inside[0]
            assert last[number, axis] + 2 == inside[-1]
    covered = np.zeros(shape, dtype=int)
    for begin, end in zip(first, last + 3, strict=True):
        covered[tuple(slice(a, b) for a, b in zip(begin, end, strict=True))] += 1
    assert (covered == 1).all()


def test_each_tile_and_channel_is_normalized_by_itself() -> None:
    tiles = volumes(2, 4, 3, 5, 6, 4)
    tiles[0, 1] *= 1000
    out = normalize_tiles(tiles)
    for case, tile, channel in product(range(2), range(4), range(3)):
        values = tiles[case, tile, channel].double().numpy()
        expected = (values - values.mean()) / values.std()
        assert np.allclose(out[case, tile, channel].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -1000.0, 1e-20, 3e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_constant_tiles_become_zero(value: float, dtype: torch.dtype) -> None:
    tiles = torch.full((1, 3, 2, 7, 7, 7), value, dtype=dtype)
    tiles[0, 2, 1, 0] += 7
    out = normalize_tiles(tiles)
    assert out.dtype == dtype
    assert not out[0, :2].any()
    assert not out[0, 2, 0].any()
    if abs(value) < 1e4:
        assert out[0, 2, 1].std(correction=0) == pytest.approx(1, abs=1e-2)
    assert torch.isfinite(out).all()


def test_integers_are_normalized_as_float32() -> None:
    tiles = torch.arange(64).view(1, 1, 1, 8, 8).short()
    out = normalize_tiles(tiles)
    assert out.dtype == torch.float32
    assert torch.allclose(out, normalize_tiles(tiles.float()))


def test_sides_are_one_number_or_one_an_axis() -> None:
    assert tile_sides(4, 3) == (4, 4, 4)
    assert tile_sides([4, 5], 2) == (4, 5)


@pytest.mark.parametrize(
    ("tile", "spatial_dims", "message"),
    [
        (4, 4, "`spatial_dims` must be 2 or 3, got 4"),
        (1, 3, "`tile` must be whole voxels from 2, one number or one for each axis, got 1"),
        (2.5, 3, "`tile` must be whole voxels"),
        ([4, 4], 3, r"`tile` must be whole .* got \[4, 4\]"),
    ],
)
def test_arguments_out_of_range(tile: Any, spatial_dims: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tile_sides(tile, spatial_dims)


def test_volumes_that_are_too_small_are_named() -> None:
    message = (
        r"`tile` \(4, 4, 4\) does not fit into the cells \(4, 3, 5\) of a volume of \(12, 11, 15\), 3 along an axis: "
        r"use a smaller `tile`, or a volume of \(12, 12, 12\) or more"
    )
    with pytest.raises(ValueError, match=message):
        tile_ranges((12, 11, 15), (4, 4, 4))
    with pytest.raises(ValueError, match=r"`spatial_dims` is 2, got an image with spatial axes \(12, 12, 12\)"):
        tile_ranges((12, 12, 12), (4, 4))
