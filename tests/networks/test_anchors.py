from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_ssl.networks.anchors import CenteredAnchorGenerator, flatten_maps

SHAPES = ((4, 4, 4), (6, 5, 7))


def test_half_voxels_and_odd_strides_are_not_rounded() -> None:
    generator = CenteredAnchorGenerator((1, 1.5), ((3, 5, 4.5),))
    (fine, coarse) = generator.grid_anchors([(1, 1, 1), (2, 1, 1)], [(3, 3, 3), (5, 3, 1)])
    assert fine.tolist() == [[0.0, -1.0, -0.75, 3.0, 4.0, 3.75]]
    assert coarse.tolist() == [[0.25, -2.25, -2.875, 4.75, 5.25, 3.875], [5.25, -2.25, -2.875, 9.75, 5.25, 3.875]]


def test_anchors_are_ordered_as_maps_are_flattened() -> None:
    generator = CenteredAnchorGenerator((1, 2), SHAPES)
    grids, strides = [(2, 3, 4), (1, 2, 2)], [(3, 2, 1), (6, 3, 2)]
    levels = generator.grid_anchors(grids, strides)
    maps = [torch.zeros(1, 2 * 6, *grid) for grid in grids]
    for scale, grid, steps, each in zip((1, 2), grids, strides, maps, strict=True):
        for axis in range(3):
            centers = (torch.arange(grid[axis]) + 0.5) * steps[axis]
            places = centers.view([-1 if other == axis else 1 for other in range(3)])
            for anchor, shape in enumerate(SHAPES):
                each[0, 6 * anchor + axis] = places - scale * shape[axis] / 2
                each[0, 6 * anchor + 3 + axis] = places + scale * shape[axis] / 2
    assert torch.equal(flatten_maps(maps, 2)[0], torch.cat(levels))


def test_scales_and_a_batch_are_monai_s() -> None:
    generator = CenteredAnchorGenerator((1, 2), ((4, 6),))
    images, maps = torch.zeros(3, 1, 8, 4), [torch.zeros(3, 1, 4, 2), torch.zeros(3, 1, 2, 1)]
    anchors = generator(images, maps)
    assert len(anchors) == 3
    assert anchors[2][[0, -1]].tolist() == [[-1.0, -2.0, 3.0, 4.0], [2.0, -4.0, 10.0, 8.0]]
    assert generator.num_anchors_per_location() == [1, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CenteredAnchorGenerator((1, 0), SHAPES), r"`feature_map_scales`.*got \[1, 0\]"),
        (
            lambda: CenteredAnchorGenerator((1, 2), SHAPES).grid_anchors([(2, 2, 2)], [(2, 2, 2)]),
            "one for each of 2 levels of anchors, got 1 and 1",
        ),
        (lambda: CenteredAnchorGenerator((1,), ()), r"`base_anchor_shapes` must be shapes .* got \[\]"),
        (lambda: CenteredAnchorGenerator((1,), ((4, 0),)), r"got \[\(4, 0\)\]"),
    ],
)
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
