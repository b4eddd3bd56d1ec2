from __future__ import annotations

import math
from collections import Counter
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_ssl.transforms.mixing import cuboid_mask, cut_mix, draw_partners, draw_weights, mix_up


def boxes(masks: Tensor) -> list[list[tuple[int, int]]]:
    """First voxel and side along each axis of each mask, whose true voxels must fill that box."""
    found = []
    for mask in masks:
        places = mask[0].nonzero()
        low, high = places.min(0).values, places.max(0).values
        sides = high - low + 1
        assert len(places) == int(sides.prod()), "the true voxels are no cuboid"
        found.append([(int(start), int(side)) for start, side in zip(low, sides, strict=True)])
    return found


@pytest.mark.parametrize(
    ("shape", "sides", "expected"),
    [
        ((12, 9, 15), 2 / 3, (8, 6, 10)),
        ((10, 7), (0.5, 1.0), (5, 7)),
        ((4, 5, 6), 0.01, (1, 1, 1)),
        ((3, 4), 1, (3, 4)),
    ],
)
def test_a_cuboid_of_given_sides_lies_inside(shape: Any, sides: Any, expected: Any) -> None:
    masks = cuboid_mask(shape, 30, sides)
    assert masks.shape == (30, 1, *shape)
    assert masks.dtype == torch.bool
    for box in boxes(masks):
        assert tuple(side for _, side in box) == expected
    assert cuboid_mask(shape, sides=sides).shape == (1, 1, *shape)


def test_every_place_is_drawn_equally_often_and_every_mask_by_itself() -> None:
    counts = Counter(tuple(start for start, _ in box) for box in boxes(cuboid_mask((6, 5), 2000, (0.5, 0.8))))
    assert set(counts) == set(product(range(4), range(2)))  # the last place of each axis among them
    assert all(abs(count - 250) < 5 * 250**0.5 for count in counts.values())


@pytest.mark.parametrize("volume", [(0.0, 1.0), (0.1, 0.4)])
def test_the_share_of_the_volume_is_uniform(volume: tuple[float, float]) -> None:
    shares = cuboid_mask((40, 40), 1500, volume=volume).float().mean((1, 2, 3)).sort().values
    expected = volume[0] + (volume[1] - volume[0]) * (torch.arange(1500) + 0.5) / 1500
    # The Kolmogorov-Smirnov distance passes 1.95 / sqrt(n) once in 1,000; rounding to voxels adds a little.
    assert ((shares - expected).abs() < (volume[1] - volume[0]) * 1.95 / math.sqrt(1500) + 0.025).all()


def test_the_least_cuboid_is_a_voxel_and_the_largest_is_all() -> None:
    assert cuboid_mask((4, 5, 3), 9, volume=(0, 0)).sum((1, 2, 3, 4)).tolist() == [1] * 9
    assert cuboid_mask((4, 5, 3), 9, volume=(1, 1)).all()


def test_a_cuboid_keeps_the_proportions_of_the_volume() -> None:
    for (_, first), (_, second) in boxes(cuboid_mask((60, 30), 20, volume=(0.2, 0.6))):
        assert abs(first - 2 * second) <= 2


def test_a_seed_draws_the_same() -> None:
    def draw(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [draw_partners(5), draw_weights(5), cuboid_mask((9, 9, 9), 3, volume=(0, 1))]

    assert all(torch.equal(one, other) for one, other in zip(draw(3), draw(3), strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(draw(3), draw(4), strict=True))


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_no_case_is_its_own_partner_and_all_others_are_alike(count: int) -> None:
    seen = torch.zeros(count, count)
    for _ in range(1200):
        partners = draw_partners(count)
        assert sorted(partners.tolist()) == list(range(count))
        seen[torch.arange(count), partners] += 1
    assert not seen.diag().any()
    others = seen[~torch.eye(count, dtype=torch.bool)]
    assert ((others - 1200 / (count - 1)).abs() < 5 * (1200 / (count - 1)) ** 0.5).all()


def test_a_single_case_is_its_own_partner() -> None:
    assert draw_partners(1).tolist() == [0]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_weights_have_the_moments_of_the_beta_distribution(alpha: float) -> None:
    weights = draw_weights(20000, alpha)
    assert weights.dtype == torch.float32
    assert weights.shape == (20000,)
    variance = 1 / (4 * (2 * alpha + 1))
    assert weights.mean().item() == pytest.approx(0.5, abs=5 * math.sqrt(variance / 20000))
    assert weights.var().item() == pytest.approx(variance, rel=0.05)
    torch.manual_seed(1)
    plain = draw_weights(50, alpha)
    torch.manual_seed(1)
    dominant = draw_weights(50, alpha, dominant=True)
    assert (plain < 0.5).any()
    assert torch.allclose(dominant, torch.maximum(plain, 1 - plain))


def batch(count: int = 4, shape: tuple[int, ...] = (3, 4, 2)) -> list[Tensor]:
    """Images, class numbers, probabilities, trusted voxels."""
    image, probabilities = torch.randn(count, 2, *shape), torch.softmax(torch.randn(count, 3, *shape), 1)
    return [image, torch.randint(3, (count, 1, *shape)), probabilities, torch.rand(count, 1, *shape) > 0.5]


@pytest.mark.parametrize("shape", [(3, 4, 2), (5, 4)])
@pytest.mark.parametrize("one", [False, True])
def test_cut_mix_voxel_by_voxel(shape: tuple[int, ...], one: bool) -> None:
    tensors = batch(4, shape)
    before = [tensor.clone() for tensor in tensors]
    mask, partners = torch.rand(1 if one else 4, 1, *shape) > 0.5, torch.tensor([2, 3, 1, 0])
    mixed = cut_mix(tensors, mask, partners)
    for tensor, was, out in zip(tensors, before, mixed, strict=True):
        assert torch.equal(tensor, was)
        assert (out.dtype, out.shape) == (was.dtype, was.shape)
        for case, channel in product(range(4), range(was.shape[1])):
            for voxel in product(*map(range, shape)):
                source = partners[case] if mask[0 if one else case][0][voxel] else case
                assert out[case, channel][voxel] == was[source, channel][voxel]
    given = cut_mix(tensors, mask, [tensor[partners] for tensor in tensors])
    assert all(torch.equal(left, right) for left, right in zip(given, mixed, strict=True))


def test_cutting_both_ways_exchanges_and_cutting_again_undoes_it() -> None:
    labeled, unlabeled = batch(2), batch(2)
    mask = cuboid_mask((3, 4, 2), sides=2 / 3)
    forth, back = cut_mix(labeled, mask, unlabeled), cut_mix(unlabeled, mask, labeled)
    assert not torch.equal(forth[0], labeled[0])
    for one, other, was in zip(cut_mix(forth, mask, back), cut_mix(back, ~mask, forth), labeled, strict=True):
        assert torch.equal(one, was)
        assert torch.equal(other, was)


def test_gradients_go_where_the_voxels_came_from() -> None:
    own, other = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4, requires_grad=True)
    mask = cuboid_mask((4, 4), 2, 0.5)
    (mixed,) = cut_mix([own], mask, [other])
    gradients = torch.autograd.grad(mixed.sum(), (own, other))
    assert torch.equal(gradients[0], (~mask).float().expand_as(own))
    assert torch.equal(gradients[1], mask.float().expand_as(own))
    weights = torch.tensor([0.25, 0.75])
    (mixed,) = mix_up([own], weights, [other])
    gradients = torch.autograd.grad(mixed.sum(), (own, other))
    assert torch.allclose(gradients[0], weights.view(2, 1, 1, 1).expand_as(own))
    assert torch.allclose(gradients[1], 1 - weights.view(2, 1, 1, 1).expand_as(own))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_mix_up_equals_the_equation(dtype: torch.dtype) -> None:
    image, _, probabilities, _ = batch(3)
    tensors, weights, partners = [image.to(dtype), probabilities.to(dtype)], torch.rand(3), torch.tensor([1, 2, 0])
    before = [tensor.clone() for tensor in tensors]
    for was, out, tensor in zip(before, mix_up(tensors, weights, partners), tensors, strict=True):
        assert torch.equal(tensor, was)
        assert out.dtype == dtype
        for case in range(3):
            expected = (
                float(weights[case]) * was[case].double() + (1 - float(weights[case])) * was[partners[case]].double()
            )
            assert torch.allclose(out[case].double(), expected, atol=0.05 if dtype == torch.bfloat16 else 1e-6)
    assert torch.allclose(mix_up([probabilities], weights, partners)[0].sum(1), torch.ones(3, 3, 4, 2))


def test_mix_up_at_its_limits() -> None:
    image, *_ = batch(3)
    partners = torch.tensor([1, 2, 0])
    assert torch.equal(mix_up([image], torch.ones(3), partners)[0], image)
    assert torch.equal(mix_up([image], torch.zeros(3), partners)[0], image[partners])
    assert torch.equal(mix_up([image], torch.rand(3), torch.arange(3))[0], image)
    one = mix_up([image], torch.tensor([0.3, 0.6, 0.9]), partners)[0][:, :, 0, 0, 0]
    assert mix_up([image[:, :, 0, 0, 0]], torch.tensor([0.3, 0.6, 0.9]), partners)[0].tolist() == one.tolist()


def test_everything_is_on_the_asked_device() -> None:
    images = [part.to("meta") for part in batch(4)]
    partners, weights = draw_partners(4, "meta"), draw_weights(4, device="meta")
    mask = cuboid_mask((3, 4, 2), 4, volume=(0, 1), device="meta")
    assert {part.device.type for part in (partners, weights, mask)} == {"meta"}
    assert {part.device.type for part in cut_mix(images, mask, partners)} == {"meta"}
    assert mix_up(images[:1], weights, partners)[0].device.type == "meta"


def test_what_cannot_be_drawn() -> None:
    for draw in (draw_partners, draw_weights, lambda count: cuboid_mask((4, 4), count, 0.5)):
        with pytest.raises(ValueError, match=r"`count` must be 1 or more, got 0\."):
            draw(0)
    for alpha in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="`alpha` must be above 0, got"):
            draw_weights(2, alpha)
    for sides in (0.0, 1.1, (0.5, 0.5), (0.5, 0.5, 0.0), ()):
        with pytest.raises(ValueError, match=r"`sides` must be in \(0, 1\], one number or one for each of 3 axes, got"):
            cuboid_mask((4, 4, 4), sides=sides)
    for volume in ((0.5, 0.2), (0.1,), (-0.1, 0.5), (0.5, 1.5)):
        with pytest.raises(ValueError, match=r"`volume` must be two numbers in \[0, 1\], the least first, got"):
            cuboid_mask((4, 4, 4), volume=volume)
    for given in ({}, {"sides": 0.5, "volume": (0.1, 0.2)}):
        with pytest.raises(ValueError, match="exactly one of `sides` and `volume` must be given"):
            cuboid_mask((4, 4, 4), **given)  # type: ignore[arg-type]


def test_what_cannot_be_mixed() -> None:
    image, label, probabilities, _ = batch(4)
    mask, partners, weights = torch.ones(4, 1, 3, 4, 2, dtype=torch.bool), torch.arange(4), torch.rand(4)
    with pytest.raises(ValueError, match=r"`mask` must be bool, got torch\.float32"):
        cut_mix([image], mask.float(), partners)
    for wrong in (mask[:2], mask[:, 0], mask.expand(-1, 2, -1, -1, -1), mask[..., :1]):
        with pytest.raises(ValueError, match=r"`mask` must be \(B or 1, 1, \.\.\.\) beside \(4, 2, 3, 4, 2\), got"):
            cut_mix([image], wrong, partners)
    for mix, amount in ((cut_mix, mask), (mix_up, weights)):
        with pytest.raises(ValueError, match=r"`partners` must be \(4,\), one a case, got \(3,\)"):
            mix([image], amount, partners[:3])
        with pytest.raises(ValueError, match="`partners` must have the tensors' shapes"):
            mix([image, probabilities], amount, [image, label])
        with pytest.raises(ValueError, match="`tensors` must be a sequence of tensors, got one tensor"):
            mix(image, amount, partners)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"`tensors` must be floating point \(one-hot for class numbers\), got torch.int"
    ):
        mix_up([label], weights, partners)
    with pytest.raises(ValueError, match=r"`weights` must be \(4,\), one a case, got \(1,\)"):
        mix_up([image], weights[:1], partners)
