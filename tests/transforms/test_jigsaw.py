from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_ssl.transforms.jigsaw import RandJigsaw, RandJigsawd, far_apart_permutations
from tests.helpers import check_input_unchanged, check_one_draw_serves_all_keys, same, seed


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (12, 14, 13)) -> Tensor:
    return 2 + 3 * torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def shortest(table: Tensor) -> int:
    return min(int((one != other).sum()) for one, other in combinations(table, 2))


def test_the_table_against_a_slow_greedy_search() -> None:
    table = far_apart_permutations(5, 6, seed=3, candidates=40)
    state = np.random.RandomState(3)
    pool = [list(range(5)) for _ in range(40)]
    for last in (4, 3, 2, 1):
        for row in pool:
            other = state.randint(0, last + 1)
            row[last], row[other] = row[other], row[last]
    taken = [pool[0]]
    while len(taken) < 6:
        reach = [min(sum(a != b for a, b in zip(row, one, strict=True)) for one in taken) for row in pool]
        taken.append(pool[reach.index(max(reach))])
    assert table.tolist() == taken


def test_all_candidates_are_equally_likely() -> None:
    counts = {tuple(p): 0 for p in far_apart_permutations(3, 6, candidates=200).tolist()}
    assert len(counts) == 6
    for number in range(1200):
        counts[tuple(far_apart_permutations(3, 2, number, 20)[0].tolist())] += 1
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 25.7  # chi-square, 5 degrees, 1 in 10,000


@pytest.mark.parametrize("tiles", [9, 27])
def test_greedy_permutations_are_farther_apart_than_random_ones(tiles: int) -> None:
    table = far_apart_permutations(tiles, 100)
    assert table.shape == (100, tiles)
    assert table.dtype == torch.int64
    assert torch.equal(table.sort(1).values, torch.arange(tiles).expand(100, -1))
    state = np.random.RandomState(0)
    random = [shortest(torch.as_tensor(np.stack([state.permutation(tiles) for _ in range(100)]))) for _ in range(5)]
    assert shortest(table) > max(random)
    assert torch.equal(table, far_apart_permutations(tiles, 100))
    assert not torch.equal(table, far_apart_permutations(tiles, 100, seed=1))


@pytest.mark.parametrize(("shape", "tile"), [((12, 14, 13), 3), ((12, 14, 13), (2, 4, 3)), ((10, 9), 3)])
def test_tiles_are_slices_of_their_cells_in_the_order_of_the_permutation(
    shape: tuple[int, ...], tile: int | tuple[int, ...]
) -> None:
    dims = len(shape)
    sides = (tile,) * dims if isinstance(tile, int) else tile
    image = torch.arange(2 * int(np.prod(shape))).view(2, *shape).float()
    transform = seed(RandJigsaw(tile, dims, count=5, normalize=False))
    cells = list(product(range(3), repeat=dims))
    for _ in range(5):
        tiles, label = transform(image), transform.extras["permutation"]
        assert tiles.shape == (3**dims, 2, *sides)
        assert (label.shape, label.dtype) == ((), torch.int64)
        for out, place in zip(tiles, transform.permutations[label].tolist(), strict=True):
            start = np.unravel_index(int(out[0].flatten()[0]), shape)
            assert torch.equal(out, image[(slice(None), *(slice(s, s + t) for s, t in zip(start, sides, strict=True)))])
            for cell, first, side, length in zip(cells[place], start, sides, shape, strict=True):
                assert cell * length // 3 <= first
                assert first + side <= (cell + 1) * length // 3


def test_tiles_start_anywhere_in_their_cells_and_apart_from_each_other() -> None:
    transform = seed(RandJigsaw(3, 2, count=2, permutations=[list(range(9)), list(range(8, -1, -1))]))
    draws = [transform.draw((1, 15, 15)) for _ in range(900)]
    starts = np.stack([one["starts"][:: 1 - 2 * one["permutation"]] for one in draws])
    for cell in range(9):
        jitter = starts[:, cell] - 5 * np.asarray([cell // 3, cell % 3])
        counts = np.bincount(3 * jitter[:, 0] + jitter[:, 1], minlength=9)
        assert ((counts - 100) ** 2 / 100).sum() < 34  # chi-square, 8 degrees, 1 in 25,000
    assert abs(np.corrcoef(starts[:, 0, 0], starts[:, 1, 0])[0, 1]) < 4 / 900**0.5


def test_every_permutation_is_drawn_equally_often() -> None:
    transform = seed(RandJigsaw(2, 2, count=10))
    labels = [transform.draw((1, 9, 9))["permutation"] for _ in range(2000)]
    counts = np.bincount(labels, minlength=10)
    assert len(counts) == transform.classes == 10
    assert ((counts - 200) ** 2 / 200).sum() < 36  # chi-square, 9 degrees, 1 in 25,000
    assert transform.chance_level == 0.1


def test_each_tile_is_normalized_by_itself_and_constant_ones_are_zero() -> None:
    image = volumes(1)[0]
    for tile in seed(RandJigsaw(3, count=5))(image):
        for channel in tile:
            assert channel.mean() == pytest.approx(0, abs=1e-5)
            assert channel.std(correction=0) == pytest.approx(1, abs=1e-5)
    assert not seed(RandJigsaw(3, count=5))(torch.full_like(image, 0.1)).any()


def test_a_stored_table_is_taken_as_it_is() -> None:
    stored = RandJigsaw(3, count=7, seed=5).permutations
    for table in (stored, stored.tolist(), stored.numpy()):
        transform = RandJigsaw(3, permutations=table)
        assert torch.equal(transform.permutations, stored)
        assert transform.classes == 7
    stored[0] = stored[1].clone()
    assert not torch.equal(transform.permutations, stored)
    image = volumes(1)[0]
    one, other = seed(RandJigsaw(3, count=7)), seed(RandJigsaw(3, count=7, seed=5))
    assert not torch.equal(one(image), other(image))
    assert torch.equal(one.extras["permutation"], other.extras["permutation"])


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shape", [(12, 14, 13), (12, 14)])
def test_a_batch_is_its_cases_one_by_one(shape: tuple[int, ...], normalize: bool) -> None:
    images = volumes(shape=shape)
    before = images.clone()
    whole, single = (seed(RandJigsaw(3, len(shape), count=20, normalize=normalize)) for _ in range(2))
    out, labels = whole.batch(images), whole.extras["permutation"]
    assert out.shape == (3, 3 ** len(shape), 2, *[3] * len(shape))
    assert (labels.shape, labels.dtype) == ((3,), torch.int64)
    assert torch.equal(images, before)
    for number, image in enumerate(images):
        assert torch.equal(out[number], single(image))
        assert torch.equal(labels[number], single.extras["permutation"])


def test_array_equals_dictionary() -> None:
    image = volumes(1)[0]
    array, dictionary = seed(RandJigsaw(3, count=20)), seed(RandJigsawd(["image"], "class", tile=3, count=20))
    labels = set()
    for _ in range(20):
        expected, got = array(image), dictionary({"image": image})
        assert same(got["image"], expected)
        assert same(got["class"], array.extras["permutation"])
        labels.add(int(got["class"]))
    assert len(labels) > 5
    batch = dictionary.batch({"image": volumes()})
    assert same(batch["image"], array.batch(volumes()))
    assert same(batch["class"], array.extras["permutation"])
    assert set(RandJigsawd(["image"], None, tile=3, count=5)({"image": image})) == {"image"}


def test_the_input_stays_and_keys_share_a_draw_and_tiles_have_no_metadata() -> None:
    image = volumes(1)[0]
    for data in (image, MetaTensor(image, meta={"name": "x"})):
        check_input_unchanged(seed(RandJigsaw(3, count=5)), data)
        out = seed(RandJigsaw(3, count=5))(data)
        assert type(out) is Tensor
        assert torch.equal(out, seed(RandJigsaw(3, count=5))(image))
        check_one_draw_serves_all_keys(lambda keys, prob: RandJigsawd(keys, tile=3, count=5), data)
    assert seed(RandJigsaw(3, count=5))(image.half()).dtype == torch.float16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile": 1}, "`tile` must be whole voxels from 2"),
        ({"spatial_dims": 1}, "`spatial_dims` must be 2 or 3, got 1"),
        ({"count": 1}, "`tiles` and `count` must be 2 or more"),
        ({"count": 20_000}, "`candidates` `count` or more, got 27, 20000 and 10000"),
        ({"permutations": [[0, 1, 2], [2, 1, 0]]}, "`permutations` must be two or more permutations of 0 to 26"),
        ({"permutations": torch.arange(27)[None]}, "`permutations` must be two or more"),
        ({"permutations": torch.zeros(2, 27)}, "`permutations` must be two or more"),
        ({"permutations": torch.arange(27).expand(2, -1)}, "`permutations` must differ from each other"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandJigsaw(**arguments)


def test_what_it_cannot_cut() -> None:
    with pytest.raises(ValueError, match=r"`tile` \(4, 4, 4\) does not fit into the cells \(4, 4, 3\)"):
        RandJigsaw(4, count=2)(torch.zeros(1, 12, 12, 11))
    with pytest.raises(ValueError, match="`spatial_dims` is 3, got an image with spatial axes"):
        RandJigsaw(4, count=2)(torch.zeros(1, 12, 12))
    data = {"image": torch.zeros(1, 30, 30, 30), "other": torch.zeros(1, 12, 12, 12)}
    with pytest.raises(ValueError, match="images that share a draw must have one shape"):
        seed(RandJigsawd(["image", "other"], tile=4, count=2))(data)
    with pytest.raises(ValueError, match="more than the 6 different permutations of 3 tiles among 200 candidates"):
        far_apart_permutations(3, 7, candidates=200)
