from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_ssl.transforms.patch_swap import RandPatchSwap, RandPatchSwapd, patch_swap
from tests.helpers import check_transform, seed


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (12, 14, 9)) -> Tensor:
    return torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def place(corner: Any, patch: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(int(c), int(c) + side) for c, side in zip(corner, patch, strict=True))


@pytest.mark.parametrize(("shape", "patch"), [((12, 14, 9), (3, 4, 2)), ((15, 21), (4, 5))])
def test_the_swap_pair_by_pair(shape: tuple[int, ...], patch: tuple[int, ...]) -> None:
    images = volumes(3, 2, shape)
    transform = seed(RandPatchSwap(4, patch))
    corners = np.stack([transform.draw((2, *shape))["corners"] for _ in range(3)])
    out, mask = patch_swap(images, torch.as_tensor(corners), patch)
    expected, moved = images.clone(), torch.zeros(3, 1, *shape, dtype=torch.bool)
    for case in range(3):
        for one, other in corners[case]:
            for channel in range(2):
                expected[case, channel][place(one, patch)] = images[case, channel][place(other, patch)]
                expected[case, channel][place(other, patch)] = images[case, channel][place(one, patch)]
            moved[case, 0][place(one, patch)] = moved[case, 0][place(other, patch)] = True
    assert torch.equal(out, expected)
    assert torch.equal(mask, moved)


def test_swapping_twice_is_the_identity() -> None:
    images, corners = volumes(1), torch.tensor([[[[0, 0, 0], [6, 5, 4]], [[3, 9, 1], [9, 1, 6]]]])
    out, _ = patch_swap(images, corners, (3, 4, 2))
    assert not torch.equal(out, images)
    assert torch.equal(patch_swap(out, corners, (3, 4, 2))[0], images)


@pytest.mark.parametrize(("shape", "patch", "swaps"), [((12, 14, 9), 3, 6), ((12, 14, 9), 4, 9), ((18, 13), 2, 20)])
def test_histogram_number_of_moved_voxels_and_the_rest_are_kept(shape: Any, patch: int, swaps: int) -> None:
    transform, image = seed(RandPatchSwap(swaps, patch)), volumes(1, 2, shape)[0]
    for _ in range(20):
        out = transform(image)
        mask = transform.extras["mask"]
        assert mask.shape == (1, *shape)
        assert int(mask.sum()) == 2 * swaps * patch ** len(shape)
        assert torch.equal(out != image, mask.expand_as(image))
        for before, after in zip(image, out, strict=True):
            assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)


def test_the_grid_is_anywhere_and_patches_are_apart() -> None:
    transform = seed(RandPatchSwap(5, (4, 3, 5)))
    offsets = []
    moved = torch.zeros(22, 20, 23)
    for _ in range(1000):
        corners = transform.draw((1, 22, 20, 23))["corners"]
        assert corners.shape == (5, 2, 3)
        seen = torch.zeros(22, 20, 23)
        for corner in corners.reshape(-1, 3):
            seen[place(corner, (4, 3, 5))] += 1
        assert seen.sum() == 10 * 4 * 3 * 5
        assert seen.max() == 1
        moved += seen
        offsets.append(corners[0, 0] % (4, 3, 5))
    for axis, side in enumerate((4, 3, 5)):
        counts = np.bincount(np.stack(offsets)[:, axis], minlength=side)
        assert (abs(counts - 1000 / side) < 5 * (1000 / side) ** 0.5).all()
    for axes in ((1, 2), (0, 2), (0, 1)):
        assert (moved.sum(axes) > 0).all()


def test_where_patches_are_scarce_the_grid_has_as_many_as_fit() -> None:
    transform, image = seed(RandPatchSwap(4, 4)), volumes(1, 1, (8, 8, 8))[0]
    for _ in range(10):
        transform(image)
        assert transform.extras["mask"].all()
    single = seed(RandPatchSwap(1, 4))
    corners = [single.draw((1, 9, 4))["corners"] for _ in range(50)]
    assert {int(one[0, 0, 0]) % 4 for one in corners} == {0, 1}


def test_every_cell_is_drawn_equally_often() -> None:
    transform = seed(RandPatchSwap(3, 4))
    counts = np.zeros((2, 2, 2))
    for _ in range(2000):
        for corner in transform.draw((1, 8, 8, 8))["corners"].reshape(-1, 3):
            counts[tuple(corner // 4)] += 1
    assert (abs(counts - 1500) < 5 * 375**0.5).all()


def test_a_batch_is_its_cases_one_by_one() -> None:
    images = volumes(5)
    before = images.clone()
    whole, single = seed(RandPatchSwap(3, 3, prob=0.7)), seed(RandPatchSwap(3, 3, prob=0.7))
    for _ in range(3):
        out, mask = whole.batch(images), whole.extras["mask"]
        for number, image in enumerate(images):
            assert torch.equal(out[number], single(image))
            assert torch.equal(mask[number], single.extras["mask"])
    assert torch.equal(images, before)


def test_channels_move_together_and_constants_stay() -> None:
    image = volumes(1, 1)[0]
    out = seed(RandPatchSwap(3, 3))(torch.cat([image, -image]))
    assert torch.equal(out[0], -out[1])
    constant = torch.full((1, 12, 12), 3.0)
    assert torch.equal(seed(RandPatchSwap(3, 3))(constant), constant)


@pytest.mark.parametrize("shape", [(12, 14, 9), (16, 18)])
def test_the_batteries_hold(shape: tuple[int, ...]) -> None:
    check_transform(
        lambda prob: RandPatchSwap(3, 3, prob),
        lambda keys, prob: RandPatchSwapd(keys, swaps=3, patch=3, prob=prob),
        volumes(1, 2, shape)[0],
    )


def test_the_dictionary_tells_the_mask_and_where_nothing_moves_an_empty_one() -> None:
    image = volumes(1)[0]
    out = seed(RandPatchSwapd(["image"], swaps=3, patch=3))({"image": image})
    assert torch.equal(out["image"] != image, out["mask"].expand_as(image))
    assert not RandPatchSwapd(["image"], prob=0.0, swaps=3, patch=3)({"image": image})["mask"].any()
    assert "mask" not in RandPatchSwapd(["image"], None, swaps=3, patch=3)({"image": image})


def test_the_default_moves_a_seventh_of_the_house_patch() -> None:
    transform = seed(RandPatchSwap())
    transform(torch.zeros(1, 48, 64, 48))
    assert float(transform.extras["mask"].float().mean()) == pytest.approx(40 * 8**3 / math.prod((48, 64, 48)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"swaps": 0}, "`swaps` must be 1 at least, got 0"),
        ({"patch": 0}, "`patch` must be whole voxels from 1, got 0"),
        ({"patch": [2, 2.5]}, "`patch` must be whole voxels"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandPatchSwap(**arguments)


def test_volumes_that_it_cannot_swap() -> None:
    with pytest.raises(
        ValueError, match=r"needs 40 patches of \(8, 8, 8\) voxels, and a volume of \(16, 16, 16\) holds 8"
    ):
        RandPatchSwap()(torch.zeros(1, 16, 16, 16))
    with pytest.raises(ValueError, match="holds 0: swap fewer or smaller ones"):
        RandPatchSwap(1, 8)(torch.zeros(1, 4, 16))
    with pytest.raises(ValueError, match="`patch` must be one number or one for each of 2 axes"):
        RandPatchSwap(1, [2, 2, 2])(torch.zeros(1, 8, 8))
