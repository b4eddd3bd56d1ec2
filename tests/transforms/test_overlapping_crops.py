from __future__ import annotations

import copy
from collections import Counter
from itertools import combinations, product
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_ssl.transforms.overlapping_crops import RandOverlappingCrops, RandOverlappingCropsd, common_region, crops_at
from tests.helpers import check_input_unchanged, check_one_draw_serves_all_keys, same, seed


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (9, 8, 7)) -> Tensor:
    return torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def numbered(shape: tuple[int, ...]) -> Tensor:
    """A volume whose voxels are all different."""
    return torch.arange(prod(shape)).view(1, *shape)


def common(first: tuple[int, ...], second: tuple[int, ...], size: tuple[int, ...]) -> int:
    """Voxels in both crops, counted one by one."""
    inside = [
        set(product(*(range(start, start + side) for start, side in zip(starts, size, strict=True))))
        for starts in (first, second)
    ]
    return len(inside[0] & inside[1])


@pytest.mark.parametrize(("shape", "size"), [((9, 8, 7), (4, 5, 3)), ((9, 8), (4, 5))])
def test_crops_are_slices(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    images = volumes(3, 2, shape)
    starts = torch.stack([torch.randint(0, n - s + 1, (3, 4)) for n, s in zip(shape, size, strict=True)], -1)
    out = crops_at(images, starts, size)
    assert out.shape == (3, 4, 2, *size)
    for case, view in product(range(3), range(4)):
        place = tuple(slice(int(p), int(p) + s) for p, s in zip(starts[case, view], size, strict=True))
        assert torch.equal(out[case, view], images[case][(slice(None), *place)])


@pytest.mark.parametrize("overlap", [0.05, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize(
    ("shape", "size", "views"), [((12, 11, 9), (6, 5, 4), 2), ((12, 11, 9), (6, 5, 4), 4), ((14, 13), (6, 9), 3)]
)
def test_every_pair_overlaps_voxel_by_voxel(
    shape: tuple[int, ...], size: tuple[int, ...], views: int, overlap: float
) -> None:
    transform = seed(RandOverlappingCrops(size, views, overlap))
    image = numbered(shape)
    for _ in range(30):
        out = transform(image)
        for one, other in combinations(out, 2):
            share = len(set(one.flatten().tolist()) & set(other.flatten().tolist())) / prod(size)
            assert share >= overlap - 1e-9
            assert overlap < 1 or torch.equal(one, other)


@pytest.mark.parametrize(
    ("shape", "size", "views", "overlap"),
    [
        ((6, 4), (3, 2), 2, 0.3),
        ((6, 4), (3, 2), 3, 0.5),
        ((4, 3, 5), (2, 2, 3), 2, 0.5),
        ((5, 5, 4), (4, 4, 3), 2, 0.5),
    ],
)
def test_starts_are_uniform_over_what_is_allowed(
    shape: tuple[int, ...], size: tuple[int, ...], views: int, overlap: float
) -> None:
    places = list(product(*(range(n - s + 1) for n, s in zip(shape, size, strict=True))))
    expected: dict[tuple[tuple[int, ...], ...], float] = {(place,): 1 / len(places) for place in places}
    for _ in range(views - 1):
        longer = {}
        for starts, chance in expected.items():
            allowed = [p for p in places if all(common(p, one, size) >= overlap * prod(size) - 1e-9 for one in starts)]
            longer |= {(*starts, place): chance / len(allowed) for place in allowed}
        expected = longer
    transform, draws = seed(RandOverlappingCrops(size, views, overlap)), 6000
    counts: Counter[Any] = Counter()
    for _ in range(draws):
        counts[tuple(map(tuple, transform.draw((1, *shape))["starts"].tolist()))] += 1
    assert set(counts) <= set(expected)
    statistic = sum((counts[key] - draws * chance) ** 2 / (draws * chance) for key, chance in expected.items())
    degrees = len(expected) - 1
    assert abs(statistic - degrees) < 5 * (2 * degrees) ** 0.5, (statistic, degrees)


def test_an_overlap_that_is_no_binary_fraction_is_met_exactly_and_not_by_a_voxel_more() -> None:
    transform = seed(RandOverlappingCrops(10, overlap=0.07))  # 0.07 * 100 > 7 in floating point
    pairs = [transform.draw((1, 40, 40))["starts"].tolist() for _ in range(2000)]
    assert min(common(tuple(one), tuple(other), (10, 10)) for one, other in pairs) == 7


def test_a_volume_of_a_crops_size_has_one_crop() -> None:
    image = volumes(1)[0]
    transform = seed(RandOverlappingCrops((9, 8, 7), views=3))
    assert torch.equal(transform(image), image.expand(3, -1, -1, -1, -1))
    assert not transform.extras["position"].any()


@pytest.mark.parametrize(("shape", "size"), [((9, 8, 7), (4, 5, 3)), ((9, 8), (4, 5))])
def test_the_common_region_holds_the_same_voxels(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    image = numbered(shape)
    first, second = (
        torch.stack([torch.randint(0, n - s + 1, (50,)) for n, s in zip(shape, size, strict=True)], -1)
        for _ in range(2)
    )
    begins_first, begins_second, extents = common_region(first, second, size)
    assert begins_first.shape == begins_second.shape == extents.shape == first.shape
    assert extents.dtype == torch.int64
    for a, b, in_a, in_b, extent in zip(first, second, begins_first, begins_second, extents, strict=True):
        one, other = crops_at(image[None], torch.stack([a, b])[None], size)[0, :, 0]
        left = one[tuple(slice(int(p), int(p + n)) for p, n in zip(in_a, extent, strict=True))]
        right = other[tuple(slice(int(p), int(p + n)) for p, n in zip(in_b, extent, strict=True))]
        assert torch.equal(left, right)
        assert left.numel() == len(set(one.flatten().tolist()) & set(other.flatten().tolist()))
    assert not common_region(torch.tensor([0, 0]), torch.tensor([0, 5]), (4, 5))[2].all()


def test_a_batch_is_its_cases_one_by_one() -> None:
    images = volumes()
    whole, single = (seed(RandOverlappingCrops((4, 5, 3), 3, 0.3)) for _ in range(2))
    out, position = whole.batch(images), whole.extras["position"]
    assert out.shape == (3, 3, 2, 4, 5, 3)
    assert position.shape == (3, 3, 3)
    for number, image in enumerate(images):
        assert torch.equal(out[number], single(image))
        assert torch.equal(position[number], single.extras["position"])
    assert torch.equal(whole.batch(images, randomize=False), out)


def test_views_are_plain_tensors_of_the_same_dtype_and_the_input_stays() -> None:
    for data in (volumes(1)[0].half(), MetaTensor(volumes(1)[0]), volumes(1)[0].numpy()):
        transform = seed(RandOverlappingCrops(4))
        out = transform(data)
        assert type(out) is Tensor
        assert out.dtype == torch.as_tensor(data).dtype
        assert out.shape == (2, 2, 4, 4, 4)
        assert type(transform.extras["position"]) is Tensor
        assert transform.extras["position"].dtype == torch.int64
        check_input_unchanged(transform, data)
        before = copy.deepcopy(data)
        out.zero_()
        assert np.array_equal(data, before)  # the views are no windows onto it
    check_input_unchanged(seed(RandOverlappingCropsd(["image"], size=4)), {"image": volumes(1)[0], "name": "case"})


def test_array_equals_dictionary_and_one_draw_serves_all_keys() -> None:
    image = volumes(1)[0]
    array, dictionary = seed(RandOverlappingCrops(4, 3, 0.3)), seed(RandOverlappingCropsd(["image"], "at", 4, 3, 0.3))
    for _ in range(20):
        expected, got = array(image), dictionary({"image": image})
        assert same(expected, got["image"])
        assert same(array.extras["position"], got["at"])
    check_one_draw_serves_all_keys(lambda keys, prob: RandOverlappingCropsd(keys, size=4), image)
    assert set(RandOverlappingCropsd(["image"], None, 4)({"image": image})) == {"image"}
    batch = seed(RandOverlappingCropsd(["image"], size=4)).batch({"image": volumes()})
    assert batch["image"].shape == (3, 2, 2, 4, 4, 4)
    assert batch["position"].shape == (3, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "`size` must be whole voxels from 1, got 0"),
        ({"size": (4, 2.5, 4)}, "`size` must be whole voxels"),
        ({"size": ()}, "`size` must be whole voxels"),
        ({"size": 4, "views": 1}, "`views` must be a whole number from 2, got 1"),
        ({"size": 4, "overlap": 0.0}, r"`overlap` must be in \(0, 1\], got 0.0"),
        ({"size": 4, "overlap": 1.1}, "`overlap` must be"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandOverlappingCrops(**arguments)


def test_volumes_that_it_cannot_crop() -> None:
    with pytest.raises(ValueError, match=r"`size` \(8, 8, 8\) does not fit into a volume of \(9, 8, 7\): pad the vol"):
        RandOverlappingCrops(8)(volumes(1)[0])
    with pytest.raises(ValueError, match="`size` must be one number or one for each of 3 axes"):
        RandOverlappingCrops((4, 4))(volumes(1)[0])
