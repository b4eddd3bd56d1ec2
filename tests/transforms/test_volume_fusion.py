from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.volume_fusion import RandVolumeFusion, RandVolumeFusiond, fuse_volumes, paint_boxes
from tests.helpers import check_transform, same, seed

SHAPE = (16, 12, 10)


def volumes(count: int = 4, channels: int = 2, shape: tuple[int, ...] = SHAPE, state: int = 0) -> Tensor:
    return torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(state))


@pytest.mark.parametrize("boxes", [1, 24, 25, 60])
@pytest.mark.parametrize("shape", [(7, 6, 5), (9, 8)])
def test_boxes_are_painted_one_after_the_other(shape: tuple[int, ...], boxes: int) -> None:
    ends = torch.stack([torch.randint(0, length + 1, (2, boxes, 2)) for length in shape], 2).sort(-1).values
    values = torch.randint(0, 1000, (2, boxes))
    painted = paint_boxes(ends[..., 0], ends[..., 1], values, shape)
    expected = torch.zeros(2, 1, *shape, dtype=torch.int64)
    for case, box in product(range(2), range(boxes)):
        place = tuple(slice(*map(int, pair)) for pair in ends[case, box])
        expected[(case, 0, *place)] = values[case, box]
    assert painted.dtype == torch.int64
    assert torch.equal(painted, expected)


def test_the_blend_voxel_by_voxel() -> None:
    alphas = (0.0, 0.3, 0.9, 1.0)
    images, other = volumes(2, 2, (4, 3, 2)), volumes(2, 2, (4, 3, 2), state=1)
    classes = torch.randint(0, 4, (2, 1, 4, 3, 2))
    out = fuse_volumes(images, other, classes, alphas)
    for case, channel, x, y, z in product(range(2), range(2), range(4), range(3), range(2)):
        alpha = alphas[int(classes[case, 0, x, y, z])]
        expected = alpha * float(other[case, channel, x, y, z]) + (1 - alpha) * float(images[case, channel, x, y, z])
        assert float(out[case, channel, x, y, z]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_weight_zero_is_the_scan_and_weight_one_the_other_bit_by_bit() -> None:
    images, other = volumes(2), volumes(2, state=1)
    images[0, 0, 0, 0] = -0.0
    classes = torch.randint(0, 2, (2, 1, *SHAPE))
    out = fuse_volumes(images, other, classes, (0.0, 1.0))
    chosen = classes.bool().expand_as(out)
    assert torch.equal(out[chosen], other[chosen])
    assert torch.equal(out[~chosen].view(torch.int32), images[~chosen].view(torch.int32))
    spoilt = torch.full_like(other, torch.inf)
    assert torch.equal(fuse_volumes(images, spoilt, torch.zeros_like(classes), (0.0, 1.0)), images)


def test_what_is_drawn_has_the_stated_distribution() -> None:
    transform, shape = seed(RandVolumeFusion()), (1, 40, 32, 11)
    draws = [transform.draw(shape) for _ in range(2000)]
    sides = [draw["stops"] - draw["starts"] for draw in draws]
    counts = np.array([(side.min(1) > 0).sum() for side in sides])
    assert (np.array([(side > 0).any(1).sum() for side in sides]) == counts).all()

    def uniform(values: np.ndarray, low: int, high: int) -> None:
        assert (values.min(), values.max()) == (low, high)
        expected = len(values) / (high - low + 1)
        assert np.abs(np.bincount(values)[low:] - expected).max() < 5 * expected**0.5

    uniform(counts, 10, 40)
    kept = [slice(count) for count in counts]
    lengths = np.concatenate([side[keep] for side, keep in zip(sides, kept, strict=True)])
    for axis, (low, high) in enumerate([(3, 25), (2, 20), (1, 6)]):  # 6 to 62.5 % of 40, 32, 11
        uniform(lengths[:, axis], low, high)
    uniform(np.concatenate([draw["classes"][keep] for draw, keep in zip(draws, kept, strict=True)]), 0, 4)
    starts = np.concatenate([draw["starts"][keep] for draw, keep in zip(draws, kept, strict=True)])
    assert (starts >= 0).all()
    assert (starts + lengths <= shape[1:]).all()
    uniform(starts[lengths[:, 0] == 10, 0], 0, 30)


def test_a_case_is_blended_where_its_class_says_so() -> None:
    image, other = volumes(2)
    transform = seed(RandVolumeFusion())
    out = transform(image, other=other)
    classes = transform.extras["alpha_class"]
    assert classes.shape == (1, *SHAPE)
    assert classes.dtype == torch.int64
    assert set(classes.unique().tolist()) == {0, 1, 2, 3, 4}
    weight = classes * 0.25
    assert torch.allclose(out, weight * other + (1 - weight) * image, atol=1e-6)
    assert torch.equal(transform(image, randomize=False, other=other), out)


def test_a_batch_is_its_cases_one_by_one_each_with_the_next_one() -> None:
    images = volumes()
    for given in (None, volumes(state=1)):
        whole, single = seed(RandVolumeFusion()), seed(RandVolumeFusion())
        out, classes = whole.batch(images, other=given), whole.extras["alpha_class"]
        for number, image in enumerate(images):
            other = images[(number + 1) % len(images)] if given is None else given[number]
            assert torch.equal(out[number], single(image, other=other))
            assert torch.equal(classes[number], single.extras["alpha_class"])


def test_skipped_cases_stay_and_are_second_scans_all_the_same() -> None:
    images, transform, changed = volumes(), seed(RandVolumeFusion(prob=0.3)), []
    for _ in range(20):
        out, classes = transform.batch(images), transform.extras["alpha_class"]
        weight = classes * 0.25
        assert torch.allclose(out, weight * images.roll(-1, 0) + (1 - weight) * images, atol=1e-6)
        acted = classes.flatten(1).any(1)
        assert torch.equal(out[~acted], images[~acted])
        changed.append(int(acted.sum()))
    assert {0, 1} <= set(changed)
    assert max(changed) > 1


class Given(RandVolumeFusion):
    """One whose second scan is always at hand."""

    def __call__(self, img: Any, randomize: bool = True, other: Any = None) -> Tensor:
        return super().__call__(img, randomize, volumes(1, state=1)[0])


def given(keys: KeysCollection, prob: float) -> RandVolumeFusiond:
    transform = RandVolumeFusiond(keys, prob=prob)
    transform.transform = Given(prob=prob)
    return transform


def test_the_batteries_hold() -> None:
    check_transform(lambda prob: Given(prob=prob), given, volumes(1)[0])


def test_the_dictionary_takes_the_second_scan_from_its_entry() -> None:
    images, others = volumes(2), volumes(2, state=1)
    array, dictionary = seed(RandVolumeFusion()), seed(RandVolumeFusiond(["image"], "second", "class"))
    out = dictionary({"image": images[0], "second": others[0]})
    assert torch.equal(out["image"], array(images[0], other=others[0]))
    assert torch.equal(out["class"], array.extras["alpha_class"])
    assert torch.equal(out["second"], others[0])
    out = dictionary.batch({"image": images, "second": others})
    assert torch.equal(out["image"], array.batch(images, other=others))
    dictionary = RandVolumeFusiond(["image"], prob=0.0)
    assert same(dictionary({"image": images[0]})["image"], images[0])
    assert not dictionary({"image": images[0]})["alpha_class"].any()
    assert set(RandVolumeFusiond(["image"], "second", None)({"image": images[0], "second": others[0]})) == {
        "image",
        "second",
    }
    plane = seed(RandVolumeFusion(boxes=(1, 3))).batch(volumes(2, 1, (20, 15)))
    assert plane.shape == (2, 1, 20, 15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boxes": (0, 4)}, r"`boxes` must be two whole numbers from 1, the least first, got \(0, 4\)"),
        ({"boxes": (5, 4)}, "`boxes` must be"),
        ({"boxes": (1, 2.5)}, "`boxes` must be"),
        ({"boxes": (1,)}, "`boxes` must be"),
        ({"sides": (0.0, 0.5)}, r"`sides` must be two numbers in \(0, 1\], the least first, got \(0.0, 0.5\)"),
        ({"sides": (0.6, 0.5)}, "`sides` must be"),
        ({"sides": (0.6, 1.1)}, "`sides` must be"),
        ({"alphas": (0.25, 1.0)}, r"`alphas` must be two numbers at least that rise from 0 to 1 at most"),
        ({"alphas": (0.0,)}, "`alphas` must be"),
        ({"alphas": (0.0, 1.5)}, "`alphas` must be"),
        ({"alphas": (0.0, 0.5, 0.5)}, "`alphas` must be"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandVolumeFusion(**arguments)


def test_without_a_second_scan_it_names_the_remedy_and_one_of_another_shape_is_refused() -> None:
    images = volumes(1)
    with pytest.raises(ValueError, match=r"needs a second scan: a batch of two at least, `other`, or .* `other_key`"):
        RandVolumeFusion().batch(images)
    with pytest.raises(ValueError, match="needs a second scan"):
        RandVolumeFusiond(["image"])({"image": images[0]})
    transform = RandVolumeFusion()
    with pytest.raises(ValueError, match=r"`other` must have the images' shape \(1, 2, 16, 12, 10\), got \(1, 2, 16"):
        transform(images[0], other=images[0, ..., :5])
    with pytest.raises(ValueError, match="needs a second scan"):  # the one before is forgotten
        transform(images[0])
