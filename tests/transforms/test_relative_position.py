from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_ssl.transforms.relative_position import RandRelativePosition, RandRelativePositiond
from tests.helpers import check_input_unchanged, check_one_draw_serves_all_keys, same, seed


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (12, 14, 13)) -> Tensor:
    return 2 + 3 * torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("dims", "classes"), [(2, 8), (3, 26)])
def test_classes_are_the_steps_to_the_neighbours(dims: int, classes: int) -> None:
    transform = RandRelativePosition(2, dims)
    steps = [step for step in product((-1, 0, 1), repeat=dims) if any(step)]
    assert transform.classes == classes
    assert transform.chance_level == 1 / classes
    assert transform.offsets.tolist() == [list(step) for step in steps]


@pytest.mark.parametrize(("shape", "tile"), [((12, 14, 13), 3), ((12, 14, 13), (2, 4, 3)), ((10, 9), 3)])
def test_tiles_are_slices_of_the_centre_and_of_the_neighbour(
    shape: tuple[int, ...], tile: int | tuple[int, ...]
) -> None:
    dims = len(shape)
    sides = (tile,) * dims if isinstance(tile, int) else tile
    image = torch.arange(2 * int(np.prod(shape))).view(2, *shape).float()
    transform = seed(RandRelativePosition(tile, dims, normalize=False))
    for _ in range(50):
        tiles, label = transform(image), transform.extras["position"]
        assert tiles.shape == (2, 2, *sides)
        assert (label.shape, label.dtype) == ((), torch.int64)
        center = [1] * dims
        neighbor = [1 + step for step in transform.offsets[label].tolist()]
        for out, cell in zip(tiles, (center, neighbor), strict=True):
            start = np.unravel_index(int(out[0].flatten()[0]), shape)
            assert torch.equal(out, image[(slice(None), *(slice(s, s + t) for s, t in zip(start, sides, strict=True)))])
            for place, first, side, length in zip(cell, start, sides, shape, strict=True):
                assert place * length // 3 <= first
                assert first + side <= (place + 1) * length // 3


def test_every_neighbour_is_drawn_equally_often_and_tiles_start_anywhere_in_their_cells() -> None:
    transform = seed(RandRelativePosition(3))
    draws = [transform.draw((1, 15, 15, 15)) for _ in range(2600)]
    counts = np.bincount([one["position"] for one in draws], minlength=26)
    assert len(counts) == 26
    assert ((counts - 100) ** 2 / 100).sum() < 65  # chi-square, 25 degrees, 1 in 50,000
    for tile in range(2):
        jitter = np.stack([one["starts"][tile] % 5 for one in draws])
        counts = np.bincount(jitter @ [9, 3, 1], minlength=27)
        assert ((counts - 2600 / 27) ** 2 / (2600 / 27)).sum() < 67  # chi-square, 26 degrees, 1 in 50,000


def test_each_tile_is_normalized_by_itself_and_constant_ones_are_zero() -> None:
    image = volumes(1)[0]
    for tile in seed(RandRelativePosition(3))(image):
        for channel in tile:
            assert channel.mean() == pytest.approx(0, abs=1e-5)
            assert channel.std(correction=0) == pytest.approx(1, abs=1e-5)
    assert not seed(RandRelativePosition(3))(torch.full_like(image, 0.1)).any()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shape", [(12, 14, 13), (12, 14)])
def test_a_batch_is_its_cases_one_by_one(shape: tuple[int, ...], normalize: bool) -> None:
    images = volumes(shape=shape)
    before = images.clone()
    whole, single = (seed(RandRelativePosition(3, len(shape), normalize)) for _ in range(2))
    out, labels = whole.batch(images), whole.extras["position"]
    assert out.shape == (3, 2, 2, *[3] * len(shape))
    assert (labels.shape, labels.dtype) == ((3,), torch.int64)
    assert torch.equal(images, before)
    for number, image in enumerate(images):
        assert torch.equal(out[number], single(image))
        assert torch.equal(labels[number], single.extras["position"])


def test_array_equals_dictionary() -> None:
    image = volumes(1)[0]
    array, dictionary = seed(RandRelativePosition(3)), seed(RandRelativePositiond(["image"], "class", tile=3))
    labels = set()
    for _ in range(20):
        expected, got = array(image), dictionary({"image": image})
        assert same(got["image"], expected)
        assert same(got["class"], array.extras["position"])
        labels.add(int(got["class"]))
    assert len(labels) > 5
    batch = dictionary.batch({"image": volumes()})
    assert same(batch["image"], array.batch(volumes()))
    assert same(batch["class"], array.extras["position"])
    assert set(RandRelativePositiond(["image"], None, tile=3)({"image": image})) == {"image"}


def test_the_input_stays_and_keys_share_a_draw_and_tiles_have_no_metadata() -> None:
    image = volumes(1)[0]
    for data in (image, MetaTensor(image, meta={"name": "x"})):
        check_input_unchanged(seed(RandRelativePosition(3)), data)
        out = seed(RandRelativePosition(3))(data)
        assert type(out) is Tensor
        assert torch.equal(out, seed(RandRelativePosition(3))(image))
        check_one_draw_serves_all_keys(lambda keys, prob: RandRelativePositiond(keys, tile=3), data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile": 1}, "`tile` must be whole voxels from 2"),
        ({"spatial_dims": 1}, "`spatial_dims` must be 2 or 3, got 1"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandRelativePosition(**arguments)


def test_what_it_cannot_cut() -> None:
    with pytest.raises(ValueError, match=r"`tile` \(4, 4, 4\) does not fit into the cells \(4, 4, 3\)"):
        RandRelativePosition(4)(torch.zeros(1, 12, 12, 11))
    with pytest.raises(ValueError, match="`spatial_dims` is 3, got an image with spatial axes"):
        RandRelativePosition(4)(torch.zeros(1, 12, 12))
