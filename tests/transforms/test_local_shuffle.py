from __future__ import annotations

import math
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_ssl.transforms.local_shuffle import (
    RandLocalShuffle,
    RandLocalShuffled,
    _shuffled_by_size,
    _shuffled_by_sorting,
    local_shuffle,
    shuffled_runs,
)
from tests.helpers import check_transform, seed


def numbered(count: int, shape: tuple[int, ...], channels: int = 2) -> Tensor:
    """Volumes whose voxels hold their own number, the second channel its negative."""
    voxels = torch.arange(math.prod(shape), dtype=torch.float32).view(shape)
    return torch.stack([voxels, -voxels][:channels]).repeat(count, 1, *[1] * len(shape))


def drawn(transform: RandLocalShuffle, shape: tuple[int, ...], count: int) -> tuple[Tensor, Tensor, Tensor]:
    params = [transform.draw((1, *shape)) for _ in range(count)]
    corners, sides, seeds = (np.stack([one[name] for one in params]) for name in ("corners", "sides", "seed"))
    return torch.as_tensor(corners), torch.as_tensor(sides), torch.as_tensor(seeds)


def window(corner: Tensor, side: Tensor) -> tuple[slice, ...]:
    return tuple(slice(int(c), int(c + s)) for c, s in zip(corner, side, strict=True))


@pytest.mark.parametrize("shape", [(8, 12, 6), (16, 24)])
def test_it_is_the_loop_over_windows(shape: tuple[int, ...]) -> None:
    images = numbered(3, shape)
    images[1] += 7
    corners, sides, seeds = drawn(seed(RandLocalShuffle(60, fraction=0.5)), shape, 3)
    expected = images.clone()
    for case in range(3):
        runs, start = shuffled_runs(sides[case].prod(-1), int(seeds[case])).tolist(), 0
        for corner, side in zip(corners[case], sides[case], strict=True):
            size = int(side.prod())
            order = [place - start for place in runs[start : start + size]]
            for channel in range(2):
                values = images[case, channel][window(corner, side)]
                expected[case, channel][window(corner, side)] = values.flatten()[order].view(values.shape)
            start += size
        assert start == len(runs)
    assert torch.equal(local_shuffle(images, corners, sides, seeds), expected)


def test_a_value_comes_from_the_last_window_over_its_voxel() -> None:
    shape = (12, 10, 8)
    corners, sides, seeds = drawn(seed(RandLocalShuffle(40, fraction=0.4)), shape, 1)
    out = local_shuffle(numbered(1, shape, 1), corners, sides, seeds)[0, 0].long()
    last = torch.full(shape, -1)
    for number, (corner, side) in enumerate(zip(corners[0], sides[0], strict=True)):
        last[window(corner, side)] = number
    assert (last == -1).any()
    assert (last >= 0).any()
    taken: dict[int, list[int]] = {}
    for voxel in product(*map(range, shape)):
        source = np.unravel_index(int(out[voxel]), shape)
        number = int(last[voxel])
        if number < 0:
            assert source == voxel
            continue
        for axis, (start, side) in enumerate(zip(corners[0, number], sides[0, number], strict=True)):
            assert start <= source[axis] < start + side
            assert abs(int(source[axis]) - voxel[axis]) < side
        taken.setdefault(number, []).append(int(out[voxel]))
    assert all(len(set(values)) == len(values) for values in taken.values())


def test_windows_apart_keep_their_histograms_and_the_rest_stays() -> None:
    shape = (12, 12, 12)
    corners = torch.tensor([[[0, 0, 0], [4, 4, 4], [9, 2, 1]]])
    sides = torch.tensor([[[4, 3, 4], [5, 8, 6], [3, 2, 3]]])
    image = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0))
    out = local_shuffle(image, corners, sides, torch.tensor([3]))
    outside = torch.ones(shape, dtype=torch.bool)
    for corner, side in zip(corners[0], sides[0], strict=True):
        box = window(corner, side)
        for channel in range(2):
            before, after = image[0, channel][box].flatten(), out[0, channel][box].flatten()
            assert not torch.equal(before, after)
            assert torch.equal(before.sort().values, after.sort().values)
        outside[box] = False
    assert torch.equal(out[..., outside], image[..., outside])


def test_a_window_reads_the_image_as_it_came() -> None:
    image = numbered(1, (6, 6), 1)
    corners, sides = torch.tensor([[[0, 0], [0, 3]]]), torch.tensor([[[6, 4], [6, 3]]])
    out = local_shuffle(image, corners, sides, torch.tensor([0]))
    assert set(out[0, 0, :, 3:].flatten().tolist()) == set(image[0, 0, :, 3:].flatten().tolist())


RUNS = [_shuffled_by_size, _shuffled_by_sorting]  # on a CPU, on a GPU


@pytest.mark.parametrize("shuffled", RUNS)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_all_orders_of_a_window_are_equally_likely(shuffled: Any, size: int) -> None:
    count = 12_000
    runs = shuffled(torch.full((count,), size), 1).view(count, size) - size * torch.arange(count)[:, None]
    orders = [tuple(run) for run in runs.tolist()]
    expected = count / math.factorial(size)
    for order in permutations(range(size)):
        assert abs(orders.count(order) - expected) < 5 * expected**0.5


@pytest.mark.parametrize("shuffled", RUNS)
def test_runs_of_any_size_stay_apart_and_follow_from_their_seed(shuffled: Any) -> None:
    sizes = torch.tensor([5, 1, 9, 5, 30, 1, 9])
    runs = shuffled(sizes, 1)
    assert (runs.shape, runs.dtype) == ((60,), torch.int64)
    start = 0
    for run in runs.split(sizes.tolist()):
        assert run.sort().values.tolist() == list(range(start, start + len(run)))
        start += len(run)
    assert torch.equal(runs, shuffled(sizes, 1))
    assert not torch.equal(runs, shuffled(sizes, 2))


def test_sides_are_uniform_up_to_a_tenth_and_stay_so() -> None:
    transform = seed(RandLocalShuffle())
    image = numbered(1, (45, 20, 61), 1)[0]
    for _ in range(5):
        transform(image)
        params = transform._params[0]
        assert params["sides"].shape == params["corners"].shape == (10_000, 3)
        for axis, largest in enumerate((4, 2, 6)):
            sides = params["sides"][:, axis]
            counts = np.bincount(sides, minlength=largest + 1)
            assert len(counts) == largest + 1
            assert counts[0] == 0
            expected = 10_000 / largest
            assert (abs(counts[1:] - expected) < 5 * expected**0.5).all()
            ends = params["corners"][:, axis] + sides
            assert params["corners"][:, axis].min() == 0
            assert ends.max() == image.shape[1 + axis]
            starts = params["corners"][sides == 2, axis]
            free = image.shape[1 + axis] - 1
            assert starts.mean() == pytest.approx((free - 1) / 2, abs=5 * free / (12 * len(starts)) ** 0.5)


@pytest.mark.parametrize("shape", [(40, 60, 50), (200, 160)])
def test_density_is_the_mean_number_of_windows_over_a_voxel(shape: tuple[int, ...]) -> None:
    params = seed(RandLocalShuffle(density=2.0)).draw((1, *shape))
    assert params["sides"].prod(1).sum() / math.prod(shape) == pytest.approx(2.0, rel=0.1)


def test_the_paper_covers_a_voxel_almost_twice() -> None:
    params = seed(RandLocalShuffle()).draw((1, 64, 64, 32))
    assert params["sides"].prod(1).sum() / (64 * 64 * 32) == pytest.approx(1.87, abs=0.05)


def test_a_batch_is_its_cases_one_by_one() -> None:
    images = torch.randn(4, 2, 20, 24, 22, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    whole, single = seed(RandLocalShuffle(200, fraction=0.2)), seed(RandLocalShuffle(200, fraction=0.2))
    for _ in range(3):
        out = whole.batch(images)
        for number, image in enumerate(images):
            assert torch.equal(out[number], single(image))
    assert torch.equal(images, before)


def test_channels_move_together_and_constants_stay() -> None:
    image = numbered(1, (12, 10, 8))[0]
    out = seed(RandLocalShuffle(100, fraction=0.3, prob=1.0))(image)
    assert torch.equal(out[0], -out[1])
    assert not torch.equal(out, image)
    constant = torch.full((1, 30, 30), 3.0)
    assert torch.equal(seed(RandLocalShuffle(prob=1.0))(constant), constant)


@pytest.mark.parametrize("shape", [(12, 10, 8), (24, 20)])
def test_the_batteries_hold(shape: tuple[int, ...]) -> None:
    check_transform(
        lambda prob: RandLocalShuffle(100, fraction=0.3, prob=prob),
        lambda keys, prob: RandLocalShuffled(keys, 100, fraction=0.3, prob=prob),
        numbered(1, shape)[0],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"windows": 0}, "`windows` must be 1 at least, got 0"),
        ({"density": 0.0}, "`density` must be above 0, got 0.0"),
        ({"fraction": 0.0}, r"`fraction` must be in \(0, 1\], got 0.0"),
        ({"fraction": 1.5}, "`fraction` must be in"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandLocalShuffle(**arguments)


def test_a_volume_too_small_to_shuffle() -> None:
    with pytest.raises(ValueError, match=r"`fraction` 0.1 leaves windows of one voxel in a volume of \(19, 19\)"):
        RandLocalShuffle()(torch.zeros(1, 19, 19))
