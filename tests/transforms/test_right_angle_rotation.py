from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_ssl.transforms.right_angle_rotation import (
    Family,
    RandRightAngleRotation,
    RandRightAngleRotationd,
    RightAngleRotation,
    apply_rotation,
    right_angle_rotations,
    undo_rotation,
)
from tests.helpers import check_transform, seed

CUBE = (4, 4, 4)
ALL = right_angle_rotations(CUBE, "cube")
AXES: tuple[tuple[int, int], ...] = ((1, 2), (0, 2), (0, 1))


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = CUBE) -> Tensor:
    return torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def rotate(image: Tensor, rotation: RightAngleRotation) -> Tensor:
    return apply_rotation(image[None, None], [rotation])[0, 0]


def matrix(rotation: RightAngleRotation) -> np.ndarray:
    """Output coordinates from input coordinates."""
    out = np.eye(len(rotation.permutation), dtype=int)[list(rotation.permutation)]
    out[list(rotation.flips)] *= -1
    return out


def test_families_against_turns_of_numpy() -> None:
    array = np.random.RandomState(0).rand(*CUBE)
    image = torch.as_tensor(array)
    for axis, plane in enumerate(AXES):
        for turns, rotation in enumerate(right_angle_rotations(CUBE, "plane", axis)):
            assert np.array_equal(rotate(image, rotation).numpy(), np.rot90(array, turns, plane))
            assert torch.equal(rotate(image, rotation), image.rot90(turns, plane))
    expected = [array, *(np.rot90(array, turns, plane) for plane in AXES for turns in (1, 2, 3))]
    axes = right_angle_rotations(CUBE, "axes")
    assert len(axes) == len(expected) == 10
    for rotation, turned in zip(axes, expected, strict=True):
        assert np.array_equal(rotate(image, rotation).numpy(), turned)
    assert ALL[:10] == axes
    assert ALL[:4] == right_angle_rotations(CUBE, "plane")


def test_all_rotations_of_the_cube_are_those_that_quarter_turns_make() -> None:
    array = np.random.RandomState(0).rand(*CUBE)
    made = {
        np.rot90(np.rot90(np.rot90(array, a, AXES[0]), b, AXES[1]), c, AXES[2]).tobytes()
        for a, b, c in product(range(4), repeat=3)
    }
    got = {rotate(torch.as_tensor(array), rotation).numpy().tobytes() for rotation in ALL}
    assert len(ALL) == len(got) == 24
    assert got == made


def test_they_form_a_group_of_proper_rotations() -> None:
    matrices = {rotation: matrix(rotation) for rotation in ALL}
    known = {one.tobytes() for one in matrices.values()}
    assert len(known) == 24
    for rotation, one in matrices.items():
        assert np.linalg.det(one) == pytest.approx(1)
        assert np.array_equal(matrix(rotation.inverse()), one.T)
        for other in matrices.values():
            assert (one @ other).tobytes() in known


def test_matrices_say_where_voxels_go() -> None:
    image = torch.arange(64).view(CUBE)
    for rotation in ALL:
        turned = rotate(image, rotation)
        for voxel in product(range(4), repeat=3):
            to = matrix(rotation) @ (np.asarray(voxel) - 1.5) + 1.5
            assert turned[tuple(to.round().astype(int))] == image[voxel]


def test_turning_on_gives_the_identity() -> None:
    image = volumes(1, 1)[0, 0]
    for rotation in ALL:
        order, turned = 1, rotate(image, rotation)
        while not torch.equal(turned, image):
            order, turned = order + 1, rotate(turned, rotation)
        assert order in (1, 2, 3, 4)
        assert torch.equal(rotate(rotate(image, rotation), rotation.inverse()), image)
    for axis in range(3):
        quarter = right_angle_rotations(CUBE, "plane", axis)[1]
        turned = image
        for _ in range(4):
            turned = rotate(turned, quarter)
        assert torch.equal(turned, image)


@pytest.mark.parametrize(
    ("shape", "spacing", "counts"),
    [
        ((8, 8, 8), None, (4, 4, 4, 10, 24)),
        ((8, 8, 8), [2.0, 2.0, 2.0], (4, 4, 4, 10, 24)),
        ((8, 8, 8), 0.7, (4, 4, 4, 10, 24)),
        ((8, 8, 8), [0.70001, 0.7, 0.69999], (4, 4, 4, 10, 24)),
        ((8, 8, 6), None, (2, 2, 4, 6, 8)),
        ((6, 8, 8), None, (4, 2, 2, 6, 8)),
        ((8, 8, 8), [1.0, 1.0, 3.0], (2, 2, 4, 6, 8)),
        ((8, 8, 6), [1.0, 1.0, 3.0], (2, 2, 4, 6, 8)),
        ((8, 6, 4), None, (2, 2, 2, 4, 4)),
        ((8, 8, 8), [1.0, 2.0, 3.0], (2, 2, 2, 4, 4)),
        ((8, 8, 6), [1.0, 2.0, 1.0], (2, 2, 2, 4, 4)),
        ((1, 8, 8), None, (4, 2, 2, 6, 8)),
        ((8, 8), None, (4, 4, 4, 4, 4)),
        ((8, 6), None, (2, 2, 2, 2, 2)),
        ((8, 8), [1.0, 2.0], (2, 2, 2, 2, 2)),
    ],
)
def test_legal_rotations_keep_shape_and_spacing(shape: tuple[int, ...], spacing: Any, counts: tuple[int, ...]) -> None:
    families: tuple[tuple[Family, int], ...] = (("plane", 0), ("plane", 1), ("plane", 2), ("axes", 0), ("cube", 0))
    steps = spacing if isinstance(spacing, list) else [1.0] * len(shape)
    image = torch.arange(math.prod(shape)).view(1, 1, *shape)
    for (family, axis), count in zip(families, counts, strict=True):
        transform = RandRightAngleRotation(family, axis, spacing)
        rotations = transform.rotations(shape)
        assert transform.classes(shape) == len(rotations) == count
        assert transform.chance_level(shape) == 1 / count
        assert rotations[0] == (tuple(range(len(shape))), ())
        every = right_angle_rotations((8,) * len(shape), family, axis)
        assert [rotation for rotation in every if rotation in rotations] == list(rotations)
        outs = set()
        for rotation in rotations:
            assert [shape[old] for old in rotation.permutation] == list(shape)
            assert np.allclose([steps[old] for old in rotation.permutation], steps, rtol=1e-3)
            outs.add(tuple(apply_rotation(image, [rotation]).flatten().tolist()))
        assert len(outs) == count


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 6, 4), (4, 5, 6), (5, 5), (4, 6)])
def test_undoing_is_the_inverse(shape: tuple[int, ...]) -> None:
    rotations = right_angle_rotations(shape, "cube")
    chosen = [rotations[k] for k in np.random.RandomState(0).randint(len(rotations), size=20)]
    images = volumes(20, shape=shape)
    assert torch.equal(undo_rotation(apply_rotation(images, chosen), chosen), images)
    assert torch.equal(apply_rotation(undo_rotation(images, chosen), chosen), images)


def test_a_batch_in_groups_is_its_cases_and_shares_no_memory() -> None:
    images = volumes(8)
    before = images.clone()
    for chosen in ([0] * 8, [3] * 8, [5, 0, 5, 7, 7, 0, 0, 5], list(range(8, 16))):
        rotations = [ALL[k] for k in chosen]
        out = apply_rotation(images, rotations)
        for image, rotation, turned in zip(images, rotations, out, strict=True):
            assert torch.equal(turned, apply_rotation(image[None], [rotation])[0])
        assert out.is_contiguous()
        out.zero_()
        assert torch.equal(images, before)


def test_gradients_pass_back() -> None:
    images = volumes(4).requires_grad_()
    weights = volumes(5)[1:]
    rotations = [ALL[k] for k in (11, 2, 11, 0)]
    (undo_rotation(images, rotations) * weights).sum().backward()
    assert torch.equal(images.grad, apply_rotation(weights, rotations))  # type: ignore[arg-type]


def test_the_output_shares_no_memory_and_a_batch_lies_in_its_own_order() -> None:
    images = volumes(24)
    for number, rotation in enumerate(ALL):
        out = apply_rotation(images[number : number + 1], [rotation])
        assert out.untyped_storage().data_ptr() != images.untyped_storage().data_ptr()
    assert apply_rotation(images, ALL).is_contiguous()


@pytest.mark.parametrize("prob", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 6, 4), (4, 4)])
def test_a_batch_is_its_cases_one_by_one(prob: float, shape: tuple[int, ...]) -> None:
    images = volumes(12, shape=shape)
    before = images.clone()
    whole, single = (seed(RandRightAngleRotation("cube", prob=prob)) for _ in range(2))
    out, labels = whole.batch(images), whole.extras["rotation"]
    assert (labels.shape, labels.dtype) == ((12,), torch.int64)
    for number, image in enumerate(images):
        assert torch.equal(out[number], single(image))
        assert torch.equal(labels[number], single.extras["rotation"])
        assert single.extras["rotation"].shape == ()
    rotations = whole.rotations(shape)
    assert torch.equal(undo_rotation(out, [rotations[k] for k in labels.tolist()]), images)
    assert torch.equal(images, before)
    assert labels.any() == (prob > 0)


@pytest.mark.parametrize(("family", "shape"), [("plane", CUBE), ("axes", CUBE), ("cube", CUBE), ("cube", (4, 4, 6))])
def test_every_class_is_drawn_equally_often(family: Family, shape: tuple[int, ...]) -> None:
    transform = seed(RandRightAngleRotation(family))
    classes = transform.classes(shape)
    labels = [transform.draw((1, *shape))["label"] for _ in range(100 * classes)]
    counts = np.bincount(labels, minlength=classes)
    assert len(counts) == classes
    assert ((counts - 100) ** 2 / 100).sum() < classes + 6 * (2 * classes) ** 0.5  # six deviations of chi-square


@pytest.mark.parametrize("family", ["plane", "axes", "cube"])
def test_the_batteries_hold(family: Any) -> None:
    check_transform(
        lambda prob: RandRightAngleRotation(family, prob=prob),
        lambda keys, prob: RandRightAngleRotationd(keys, family=family, prob=prob),
        volumes(1)[0],
    )


def test_the_dictionary_tells_the_class_and_of_a_skipped_case_the_first() -> None:
    image = volumes(1)[0]
    transform = seed(RandRightAngleRotationd(["image"], family="cube"))
    for _ in range(10):
        out = transform({"image": image})
        assert torch.equal(out["image"], apply_rotation(image[None], [ALL[out["rotation"]]])[0])
    assert RandRightAngleRotationd(["image"], prob=0.0)({"image": image})["rotation"] == 0
    assert "rotation" not in RandRightAngleRotationd(["image"], None)({"image": image})
    out = transform.batch({"image": volumes(5)})
    assert torch.equal(undo_rotation(out["image"], [ALL[k] for k in out["rotation"]]), volumes(5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "sphere"}, "`family` must be plane, axes or cube, got 'sphere'"),
        ({"axis": 3}, "`axis` must be 0, 1 or 2, got 3"),
        ({"spacing": 0.0}, "`spacing` must be above 0 mm, got 0.0"),
        ({"spacing": [1.0, -1.0, 1.0]}, "`spacing` must be above 0 mm"),
        ({"prob": 2.0}, "`prob` must be in"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandRightAngleRotation(**arguments)


def test_what_it_cannot_rotate() -> None:
    with pytest.raises(ValueError, match=r"`shape` must have two voxels or more along two axes, got \(1, 1, 8\)"):
        RandRightAngleRotation()(torch.zeros(1, 1, 1, 8))
    with pytest.raises(ValueError, match=r"`shape` must have 2 or 3 spatial axes, got \(8,\)"):
        RandRightAngleRotation()(torch.zeros(1, 8))
    with pytest.raises(ValueError, match="`spacing` must be one number or one for each of 3 axes"):
        RandRightAngleRotation(spacing=[1.0, 2.0])(torch.zeros(1, 8, 8, 8))
    with pytest.raises(ValueError, match="`rotations` must be one for each of 2 cases, got 1"):
        apply_rotation(volumes(2), [ALL[0]])
    with pytest.raises(ValueError, match=r"`rotations` must keep the shape \(4, 4, 6\), got RightAngleRotation"):
        apply_rotation(volumes(2, shape=(4, 4, 6)), [ALL[0], ALL[1]])
