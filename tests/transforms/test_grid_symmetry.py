from __future__ import annotations

import math
from collections import Counter
from itertools import permutations, product
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from torch import Tensor

from monai_ssl.networks.anchors import CenteredAnchorGenerator
from monai_ssl.transforms.grid_symmetry import (
    GridSymmetry,
    anchor_order,
    draw_symmetries,
    grid_symmetries,
    undo_scores,
)

Shapes = tuple[tuple[float, ...], ...]
CUBE = grid_symmetries((4, 4, 4))
LUNA: Shapes = ((6, 8, 4), (8, 6, 5), (10, 10, 6))


class Setting(NamedTuple):
    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    shapes: Shapes
    number: int

    @property
    def legal(self) -> tuple[GridSymmetry, ...]:
        return grid_symmetries(self.patch, anchor_shapes=self.shapes, strides=self.strides)

    @property
    def grids(self) -> list[tuple[int, ...]]:
        return [tuple(side // step for side, step in zip(self.patch, steps, strict=True)) for steps in self.strides]

    def anchor_maps(self, generator: Any = None) -> list[Tensor]:
        """The anchors as a head would answer them: their coordinates are the classes."""
        scales = [2.0**level for level in range(len(self.strides))]
        generator = generator or CenteredAnchorGenerator(scales, self.shapes)
        levels = generator.grid_anchors(self.grids, self.strides)
        return [anchors.view(*grid, -1).movedim(-1, 0)[None] for anchors, grid in zip(levels, self.grids, strict=True)]


SETTINGS = {
    "cubes": Setting((16, 16, 16), ((2, 2, 2), (4, 4, 4)), ((5, 5, 5), (7.5, 7.5, 7.5)), 48),
    "odd strides": Setting((18, 18, 18), ((3, 3, 3), (9, 9, 9)), ((5, 5, 5),), 48),
    "all orders of a shape": Setting((12, 12, 12), ((3, 3, 3), (6, 6, 6)), tuple(permutations((4, 6, 9))), 48),
    "LUNA16's shapes": Setting((12, 12, 12), ((2, 2, 2), (4, 4, 4)), LUNA, 8),
    "thick slices": Setting((12, 12, 8), ((2, 2, 1), (4, 4, 2)), ((6, 8, 4), (8, 6, 4), (7, 7, 3)), 16),
    "strides alone": Setting((12, 12, 12), ((2, 2, 1),), ((5, 5, 5),), 16),
    "an image": Setting((12, 12), ((3, 3), (6, 6)), ((4, 6), (6, 4), (5, 5)), 8),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)


def matrix(symmetry: GridSymmetry) -> np.ndarray:
    """Output coordinates, from the centre, from input coordinates."""
    out = np.eye(len(symmetry.permutation), dtype=int)[list(symmetry.permutation)]
    out[list(symmetry.flips)] *= -1
    return out


def mean_in_anchors(image: Tensor, setting: Setting) -> list[Tensor]:
    """Scores of a detector that knows nothing but the image inside each anchor: its mean, and that of its square."""
    maps = []
    for level, (grid, steps) in enumerate(zip(setting.grids, setting.strides, strict=True)):
        scores = []
        for shape in setting.shapes:
            means = torch.stack([image[:, 0], image[:, 0] ** 2], dim=1)
            for axis, (cells, step) in enumerate(zip(grid, steps, strict=True)):
                centers = (torch.arange(cells) + 0.5) * step
                half = shape[axis] * 2**level / 2
                voxels = torch.arange(setting.patch[axis])
                upper = torch.minimum(centers[:, None] + half, voxels + 1.0)
                covered = (upper - torch.maximum(centers[:, None] - half, voxels)).clamp_min(0).double()
                # the axis in front is summed over and its cells come last, so that all axes are in order in the end
                means = torch.tensordot(means, covered / covered.sum(1, keepdim=True), dims=([2], [1]))
            scores.append(means)
        maps.append(torch.stack(scores, dim=1).flatten(1, 2))
    return maps


def test_they_are_all_symmetries_of_the_cube_and_move_voxels_as_matrices_say() -> None:
    image = torch.arange(27).view(1, 1, 3, 3, 3)
    outs = set()
    for symmetry in CUBE:
        turned = symmetry.turn_images(image)
        for voxel in product(range(3), repeat=3):
            to = matrix(symmetry) @ (np.asarray(voxel) - 1) + 1
            assert turned[0, 0][tuple(to)] == image[0, 0][voxel]
        outs.add(tuple(turned.flatten().tolist()))
    assert len(CUBE) == len(outs) == 48
    assert CUBE[0] == GridSymmetry((0, 1, 2), ())
    signed = {(matrix(symmetry).tobytes()) for symmetry in CUBE}
    swaps = [np.eye(3, dtype=int)[list(order)] for order in permutations(range(3))]
    assert signed == {(np.diag(signs) @ swap).tobytes() for signs in product((1, -1), repeat=3) for swap in swaps}


def test_following_and_inverting_are_those_of_the_matrices() -> None:
    for one in CUBE:
        assert np.array_equal(matrix(one.inverse()), matrix(one).T)
        for other in CUBE:
            assert np.array_equal(matrix(one.then(other)), matrix(other) @ matrix(one))
            assert one.then(other) in CUBE
    image = torch.randn(2, 1, 3, 4, 5)
    for one, other in zip(CUBE, CUBE[::-1], strict=True):
        assert torch.equal(one.then(other).turn_images(image), other.turn_images(one.turn_images(image)))


@pytest.mark.parametrize("shape", [(4, 4, 4), (2, 3, 4), (3, 4)])
def test_undoing_is_the_identity_and_changes_nothing(shape: tuple[int, ...]) -> None:
    images = torch.randn(2, 3, *shape)
    before = images.clone()
    for symmetry in grid_symmetries((4,) * len(shape)):  # exchanged axes may be of any length here
        turned = symmetry.turn_images(images)
        assert list(turned.shape[2:]) == [shape[axis] for axis in symmetry.permutation]
        assert torch.equal(symmetry.undo_images(turned), images)
    assert torch.equal(images, before)


def test_boxes_go_where_their_voxels_go() -> None:
    patch = (5, 6, 7)
    boxes = torch.tensor([[1, 2, 0, 3, 6, 4], [0, 0, 5, 1, 4, 7]]).float()
    for symmetry in CUBE:
        turned = symmetry.turn_boxes(boxes, patch)
        for box, got in zip(boxes.int().tolist(), turned, strict=True):
            mask = torch.zeros(1, 1, *patch)
            mask[0, 0, box[0] : box[3], box[1] : box[4], box[2] : box[5]] = 1
            inside = symmetry.turn_images(mask)[0, 0].nonzero()
            assert torch.equal(got, torch.cat([inside.min(0).values, inside.max(0).values + 1]).float())


@pytest.mark.parametrize("patch", [(8, 8, 8), (5, 6, 7), (8, 8), (5, 6)])
def test_undone_boxes_are_the_boxes_and_rows_of_nan_stay(patch: tuple[int, ...]) -> None:
    lower = torch.rand(2, 3, len(patch)) * 4
    boxes = torch.cat([lower, lower + 1 + torch.rand_like(lower)], dim=-1)
    boxes[1, 1:] = math.nan
    for symmetry in grid_symmetries((8,) * len(patch)):
        turned = symmetry.turn_boxes(boxes, patch)
        there = turned[~turned.isnan().any(-1)]
        assert turned.isnan().equal(boxes.isnan())
        assert (there[:, : len(patch)] < there[:, len(patch) :]).all()
        assert torch.allclose(symmetry.undo_boxes(turned, patch), boxes, rtol=0, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    ("patch", "spacing", "shapes", "strides", "count"),
    [
        ((8, 8, 8), None, None, None, 48),
        ((8, 8, 8), 0.7, [(5, 5, 5)], [(2, 2, 2)], 48),
        ((8, 8, 8), [0.70001, 0.7, 0.69999], None, None, 48),
        ((8, 8, 8), [0.7, 0.7, 1.25], None, None, 16),
        ((8, 8, 8), [0.7, 0.8, 1.25], None, None, 8),
        ((8, 8, 6), None, None, None, 16),
        ((8, 7, 6), None, None, None, 8),
        ((8, 8, 8), None, None, [(2, 2, 2), (4, 2, 4)], 16),
        ((8, 8, 8), None, [(4, 6, 4)], None, 16),
        ((8, 8, 8), None, [(4, 6, 4), (6, 4, 4)], None, 16),
        ((8, 8, 8), None, [(4, 6, 4), (6, 4, 4), (4, 4, 6)], None, 48),
        ((8, 8, 8), None, [(4, 5, 6), (5, 6, 4), (6, 4, 5)], None, 24),  # even exchanges alone
        ((8, 8, 8), None, LUNA, None, 8),
        ((8, 8, 6), None, [(4, 6, 4), (4, 4, 6)], None, 8),
        ((8, 8), None, None, None, 8),
        ((8, 8), None, [(4, 6)], None, 4),
        ((8, 6), None, None, None, 4),
    ],
)
def test_legal_symmetries(patch: Any, spacing: Any, shapes: Any, strides: Any, count: int) -> None:
    legal = grid_symmetries(patch, spacing, shapes, strides)
    assert len(set(legal)) == len(legal) == count
    assert legal[0] == GridSymmetry(tuple(range(len(patch))), ())
    assert all(one.then(other) in legal for one in legal for other in legal[:6])


@every_setting
def test_coordinates_of_anchors_agree(setting: Setting) -> None:
    maps = setting.anchor_maps()
    assert len(setting.legal) == setting.number
    for symmetry in setting.legal:
        for level, undone in enumerate(undo_scores(symmetry, maps, setting.shapes)):
            # anchors have the same places in every patch: these are those of the turned one
            found = undone[0].unflatten(0, (len(setting.shapes), -1)).movedim(1, -1)
            expected = maps[level][0].unflatten(0, (len(setting.shapes), -1)).movedim(1, -1)
            assert torch.allclose(symmetry.undo_boxes(found, setting.patch), expected, rtol=0, atol=1e-5)


def test_anchors_of_monai_would_not_agree_at_odd_strides() -> None:
    setting = SETTINGS["odd strides"]
    centers = AnchorGeneratorWithAnchorShape((1.0, 2.0), setting.shapes)
    strides = [[torch.tensor(step) for step in steps] for steps in setting.strides]
    fine = centers.grid_anchors([list(grid) for grid in setting.grids], strides)[0].view(6, 6, 6, 6)
    mirrored = GridSymmetry((0, 1, 2), (0,)).undo_boxes(fine.flip(0), setting.patch)
    assert not torch.allclose(mirrored, fine, rtol=0, atol=0.5)


@every_setting
def test_equivariant_detector_gives_the_same_targets_from_every_view(setting: Setting) -> None:
    image = torch.rand(2, 1, *setting.patch, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = mean_in_anchors(image, setting)
    assert [scores.shape[1] for scores in expected] == [2 * len(setting.shapes)] * len(setting.strides)
    for symmetry in setting.legal:
        maps = mean_in_anchors(symmetry.turn_images(image), setting)
        for scores, target in zip(undo_scores(symmetry, maps, setting.shapes), expected, strict=True):
            assert torch.allclose(scores, target, rtol=0, atol=1e-9)
    assert not torch.allclose(mean_in_anchors(image.flip(2), setting)[0], expected[0])  # it is the undoing that does it


@every_setting
def test_undone_scores_undo_the_channels_too(setting: Setting) -> None:
    for symmetry in setting.legal:
        order = anchor_order(symmetry, setting.shapes)
        assert sorted(order) == list(range(len(setting.shapes)))
        for shape, found in zip(setting.shapes, order, strict=True):
            assert setting.shapes[found] == tuple(shape[axis] for axis in symmetry.permutation)
        maps = [torch.randn(2, 2 * len(order), *grid) for grid in setting.grids]
        back = undo_scores(symmetry.inverse(), undo_scores(symmetry, maps, setting.shapes), setting.shapes)
        assert all(torch.equal(one, other) for one, other in zip(back, maps, strict=True))


def test_quarter_turn_of_an_image_by_hand() -> None:
    shapes = [(2, 4), (4, 2), (3, 3)]
    turn = GridSymmetry((1, 0), (0,))  # torch.rot90 of one turn
    assert torch.equal(
        turn.turn_images(torch.arange(6).view(1, 1, 2, 3)), torch.arange(6).view(2, 3).rot90()[None, None]
    )
    assert anchor_order(turn, shapes) == (1, 0, 2)
    scores = torch.arange(24.0).view(1, 6, 2, 2)  # three anchors of two classes
    (undone,) = undo_scores(turn, [scores], shapes)
    assert torch.equal(undone, scores[:, [2, 3, 0, 1, 4, 5]].rot90(-1, (2, 3)))
    # the top left voxel of the turned image is the top right one of the image
    assert turn.turn_boxes(torch.tensor([0.0, 2.0, 1.0, 3.0]), (2, 3)).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_the_same_shape_twice_is_two_anchors() -> None:
    assert anchor_order(GridSymmetry((1, 0)), [(3, 3), (2, 4), (3, 3), (4, 2)]) == (0, 3, 2, 1)


def test_drawn_symmetries_are_different_and_equally_likely() -> None:
    legal = grid_symmetries((8, 8))
    torch.manual_seed(0)
    draws = [draw_symmetries(legal, 3) for _ in range(1600)]
    torch.manual_seed(0)
    assert [draw_symmetries(legal, 3) for _ in range(5)] == draws[:5]
    assert all(len(set(chosen)) == 3 for chosen in draws)
    for place in range(3):
        counts = Counter(chosen[place] for chosen in draws)
        assert all(abs(counts[symmetry] - 200) < 5 * math.sqrt(200) for symmetry in legal)
    assert set(draw_symmetries(legal, 8)) == set(legal)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid_symmetries((8,)), r"`patch_size` must have 2 or 3 axes, got \(8,\)"),
        (lambda: grid_symmetries((8, 8), spacing=0.0), r"`spacing` must be 2 numbers above 0.*got \(0.0, 0.0\)"),
        (lambda: grid_symmetries((8, 8), spacing=[1, 1, 1]), r"`spacing` must be 2 numbers"),
        (lambda: grid_symmetries((8, 8), anchor_shapes=[(2, 2), (2, -1)]), r"`anchor_shapes` must be 2 .*\(2, -1\)"),
        (lambda: grid_symmetries((8, 8), strides=[(2,)]), r"`strides` must be 2 numbers above 0"),
        (lambda: anchor_order(GridSymmetry((1, 0)), [(2, 4)]), r"exchanged by \(1, 0\), too, got \[\[2, 4\]\]"),
        (lambda: anchor_order(GridSymmetry((1, 0)), [(2, 4, 6)]), r"`shapes` must be 2 numbers"),
        (
            lambda: undo_scores(GridSymmetry((1, 0)), [torch.zeros(1, 3, 2, 2)], [(2, 2), (3, 3)]),
            "a multiple of 2 channels, one anchor each, got 3",
        ),
        (lambda: draw_symmetries(grid_symmetries((8, 6)), 5), "from 1 to the 4 symmetries that there are, got 5"),
        (lambda: draw_symmetries(grid_symmetries((8, 6)), 0), "got 0"),
    ],
)
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
