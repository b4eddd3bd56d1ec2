from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_ssl.transforms.painting import (
    RandPainting,
    RandPaintingd,
    paint,
)
from tests.helpers import check_transform, seed


def inpainting(**arguments: Any) -> RandPainting:
    return RandPainting(1.0, **{"prob": 1.0, **arguments})


def inpaintingd(keys: Any, mask_key: Any = "mask", **arguments: Any) -> RandPaintingd:
    return RandPaintingd(keys, mask_key, 1.0, **{"prob": 1.0, **arguments})


def outpainting(**arguments: Any) -> RandPainting:
    return RandPainting(0.0, **{"prob": 1.0, **arguments})


def outpaintingd(keys: Any, mask_key: Any = "mask", **arguments: Any) -> RandPaintingd:
    return RandPaintingd(keys, mask_key, 0.0, **{"prob": 1.0, **arguments})


PAIRS = [(inpainting, inpaintingd), (outpainting, outpaintingd), (RandPainting, RandPaintingd)]


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (12, 14, 9)) -> Tensor:
    """Volumes whose values no noise in 0 to 1 has."""
    return 2 + 3 * torch.rand(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def boxes(count: int, shape: tuple[int, ...], largest: int = 4) -> tuple[Tensor, Tensor]:
    """Corners and sides of four boxes a case, some of which are none."""
    random = np.random.RandomState(0)
    sides = random.randint(0, largest, (count, 4, len(shape)))
    return torch.as_tensor(random.randint(0, np.asarray(shape) - sides + 1)), torch.as_tensor(sides)


@pytest.mark.parametrize("shape", [(5, 7, 4), (9, 6)])
def test_the_union_of_boxes_voxel_by_voxel(shape: tuple[int, ...]) -> None:
    images, (corners, sides) = volumes(4, 2, shape), boxes(4, shape)
    outside = torch.tensor([False, True, False, True])
    out, mask = paint(images, corners, sides, outside, torch.arange(4))
    assert mask.shape == (4, 1, *shape)
    assert torch.equal(out != images, mask.expand_as(images))
    for case in range(4):
        for voxel in product(*map(range, shape)):
            inside = any(
                all(c <= at < c + s for at, c, s in zip(voxel, corner, side, strict=True))
                for corner, side in zip(corners[case], sides[case], strict=True)
            )
            assert bool(mask[(case, 0, *voxel)]) == (inside != bool(outside[case]))


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("range", [(0.0, 1.0), (-4.0, -2.0), None])
def test_noise_is_uniform_in_its_range_and_only_where_it_is_due(range: Any, outside: bool) -> None:
    images = volumes(3, 2, (30, 30, 30))
    images[:, 1] *= 10
    corners, sides = boxes(3, (30, 30, 30), 25)
    out, mask = paint(images, corners, sides, torch.tensor([outside] * 3), torch.tensor([11, 12, 13]), range)
    everywhere = mask.expand_as(out)
    assert torch.equal(out[~everywhere], images[~everywhere])
    drawn = []
    for case, channel in product((0, 1, 2), (0, 1)):
        volume = images[case, channel]
        low, high = range or (float(volume.min()), float(volume.max()))
        noise = (out[case, channel][mask[case, 0]] - low) / (high - low)
        assert len(noise) > 1000
        assert noise.min() >= -1e-6
        assert noise.max() <= 1 + 1e-6
        counts = torch.histc(noise, 10, 0, 1)
        assert ((counts - len(noise) / 10).abs() < 5 * (len(noise) / 10) ** 0.5).all()
        drawn.append(noise[:100])
    assert all(not torch.equal(a, b) for number, a in enumerate(drawn) for b in drawn[:number])


@pytest.mark.parametrize("outside", [False, True])
def test_noise_follows_from_the_seed_of_its_case(outside: bool) -> None:
    images, corners, sides = volumes(), torch.full((3, 1, 3), 2), torch.full((3, 1, 3), 5)
    images[2] = images[0]
    kinds = torch.tensor([outside] * 3)
    out, mask = paint(images, corners, sides, kinds, torch.tensor([1, 2, 1]))
    assert torch.equal(out[0], out[2])
    assert not torch.equal(out[0][:, mask[0, 0]], out[1][:, mask[1, 0]])
    alone, _ = paint(images[1:2], corners[:1], sides[:1], kinds[:1], torch.tensor([2]))
    assert torch.equal(out[1], alone[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    out = seed(RandPainting(prob=1.0))(volumes(1)[0].to(dtype))
    assert out.dtype == dtype
    assert out.isfinite().all()


@pytest.mark.parametrize("array", [inpainting, outpainting])
@pytest.mark.parametrize("shape", [(24, 30, 21), (42, 36)])
def test_what_is_painted_is_what_the_mask_says(array: Any, shape: tuple[int, ...]) -> None:
    transform, image = seed(array()), volumes(1, 2, shape)[0]
    for _ in range(10):
        out = transform(image)
        mask = transform.extras["mask"]
        assert mask.shape == (1, *shape)
        assert torch.equal(out < 2, mask.expand_as(out))
        corners, sides = transform._params[0]["corners"], transform._params[0]["sides"]
        inside = torch.zeros(shape, dtype=torch.bool)
        for corner, side in zip(corners, sides, strict=True):
            inside[tuple(slice(c, c + s) for c, s in zip(corner, side, strict=True))] = True
        assert torch.equal(mask[0], inside if array is inpainting else ~inside)


@pytest.mark.parametrize(("array", "ends"), [(inpainting, (7, 14)), (outpainting, (18, 24))])
def test_sides_numbers_and_places_of_boxes_have_the_stated_distribution_and_keep_it(array: Any, ends: Any) -> None:
    transform, draws = seed(array()), 3000
    image = volumes(1, 1, (42, 42, 21))[0]
    transform(image)
    params = [transform.draw((1, 42, 42, 21)) for _ in range(draws)]
    numbers = [int((one["sides"].prod(1) > 0).sum()) for one in params]
    chances = [0.05, 0.95 * 0.05, 0.95**2 * 0.05, 0.95**3 * 0.05, 0.95**4]
    for number, chance in enumerate(chances, start=1):
        assert numbers.count(number) == pytest.approx(draws * chance, abs=5 * (draws * chance) ** 0.5)
    for half in (params[: draws // 2], params[draws // 2 :]):
        boxes = np.concatenate([one["sides"][one["sides"].prod(1) > 0] for one in half])
        corners = np.concatenate([one["corners"][one["sides"].prod(1) > 0] for one in half])
        values, counts = np.unique(boxes[:, 1], return_counts=True)
        assert values.tolist() == list(range(ends[0], ends[1] + 1))
        expected = len(boxes) / len(values)
        assert (abs(counts - expected) < 5 * expected**0.5).all()
        assert (corners >= 0).all()
        assert ((corners + boxes) <= (42, 42, 21)).all()
        free = 42 - boxes[:, 0]
        assert (corners[:, 0] / free).mean() == pytest.approx(0.5, abs=0.02)
        assert abs(np.corrcoef(boxes.T)[0, 1]) < 5 / len(boxes) ** 0.5


def test_one_in_five_is_in_painting() -> None:
    transform = seed(RandPainting())
    outside = [bool(transform.draw((1, 24, 24, 24))["outside"]) for _ in range(2000)]
    assert sum(outside) == pytest.approx(1600, abs=5 * 320**0.5)
    assert transform.prob == 0.9
    assert not any(seed(inpainting()).draw((1, 24, 24, 24))["outside"] for _ in range(20))
    assert all(seed(outpainting()).draw((1, 24, 24, 24))["outside"] for _ in range(20))


def test_thin_volumes_and_constants() -> None:
    out = seed(inpainting())(torch.full((1, 30, 30, 1), 5.0))
    assert out.shape == (1, 30, 30, 1)
    assert ((out == 5) | ((out >= 0) & (out <= 1))).all()
    constant = torch.full((1, 8, 8, 8), 5.0)
    for array in (inpainting, outpainting):
        assert torch.equal(seed(array(range=None))(constant), constant)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("range", [(0.0, 1.0), None])
def test_a_batch_is_its_cases_one_by_one(pair: Any, range: Any) -> None:
    images = volumes(5)
    before = images.clone()
    whole, single = seed(pair[0](range=range, prob=0.7)), seed(pair[0](range=range, prob=0.7))
    for _ in (0, 1):
        out, mask = whole.batch(images), whole.extras["mask"]
        assert mask.shape == (5, 1, 12, 14, 9)
        for number, image in enumerate(images):
            assert torch.equal(out[number], single(image))
            assert torch.equal(mask[number], single.extras["mask"])
    assert torch.equal(images, before)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("shape", [(12, 14, 9), (16, 18)])
def test_the_batteries_hold(pair: Any, shape: tuple[int, ...]) -> None:
    array, dictionary = pair
    check_transform(
        lambda prob: array(prob=prob), lambda keys, prob: dictionary(keys, prob=prob), volumes(1, 2, shape)[0]
    )


@pytest.mark.parametrize("pair", PAIRS)
def test_the_dictionary_tells_the_mask_and_where_nothing_is_painted_an_empty_one(pair: Any) -> None:
    dictionary, image = pair[1], volumes(1)[0]
    out = seed(dictionary(["image"], prob=1.0))({"image": image})
    assert torch.equal(out["image"] < 2, out["mask"].expand_as(image))
    assert not dictionary(["image"], prob=0.0)({"image": image})["mask"].any()
    assert "mask" not in dictionary(["image"], None)({"image": image})
    batched = seed(dictionary(["image"], "painted", prob=1.0)).batch({"image": volumes()})
    assert torch.equal(batched["image"] < 2, batched["painted"].expand_as(batched["image"]))


@pytest.mark.parametrize(
    ("array", "arguments", "message"),
    [
        (RandPainting, {"boxes": 0}, "`boxes` must be 1 at least, got 0"),
        (RandPainting, {"again": -0.1}, r"`again` must be in \[0, 1\], got -0.1"),
        (RandPainting, {"range": (1, 1)}, r"`range` must be a low and a higher number, or None, got \(1, 1\)"),
        (RandPainting, {"inner": (0.5, 0.2)}, r"`inner` must be a low and a high part .*, got \(0.5, 0.2\)"),
        (RandPainting, {"outer": (0.0, 0.2)}, "`outer` must be"),
        (RandPainting, {"outer": (0.5, 1.2)}, "`outer` must be"),
        (RandPainting, {"inner": (0.5,)}, "`inner` must be"),
        (RandPainting, {"outer": (0.5, 2)}, "`outer` must be"),
        (RandPainting, {"inpainting": 2}, r"`inpainting` must be in \[0, 1\], got 2"),
    ],
)
def test_arguments_out_of_range(array: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        array(**arguments)
