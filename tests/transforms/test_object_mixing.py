from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from monai_ssl.transforms.object_mixing import draw_object_partners, mix_objects

NAN = float("nan")
NONE = [NAN] * 6


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three patches with three, no and two objects: fractional edges, at borders and beyond, overlapping ones."""
    first = [[1.0, 1.0, 1.0, 4.0, 5.0, 3.0], [2.3, 3.6, 0.2, 6.9, 6.0, 2.5], NONE, [-1.5, 4.0, 3.2, 1.2, 9.0, 4.0]]
    last = [NONE, [0.0, 0.0, 0.0, 7.0, 6.0, 5.0], [6.1, 5.1, 4.1, 6.9, 5.9, 4.9], NONE]
    boxes = torch.tensor([first, [NONE] * 4, last])
    partners = torch.tensor([[9, 3, -1, 10], [-1] * 4, [-1, 0, 1, -1]])
    return torch.randn(3, 2, 7, 6, 5), boxes, partners, torch.rand(3, 4) / 2 + 0.5


def flat(images: Tensor, boxes: Tensor, partners: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    """The same batch in two dimensions."""
    return images[..., 2], boxes[..., [0, 1, 3, 4]], partners, weights


def hull(box: list[float], shape: tuple[int, ...]) -> list[range]:
    """Voxels along each axis of which a part lies in the box."""
    found = []
    for axis, length in enumerate(shape):
        low, high = box[axis], box[axis + len(shape)]
        inside = [i for i in range(length) if min(i + 1, high) > max(i, low)]
        found.append(range(inside[0], inside[-1] + 1))
    return found


def sampled(volume: Tensor, region: list[range], sides: list[int], place: tuple[int, ...]) -> float:
    """Linear interpolation of a region that is stretched to other sides, at the centre of one voxel."""
    neighbours: list[list[tuple[int, float]]] = []
    for voxels, side, i in zip(region, sides, place, strict=True):
        at = (i + 0.5) * len(voxels) / side - 0.5  # in voxels of the region, whose first centre is 0
        low = math.floor(at)
        pair = ((low, 1 - (at - low)), (low + 1, at - low))
        neighbours.append([(voxels[min(max(index, 0), len(voxels) - 1)], share) for index, share in pair])
    return sum(
        float(volume[tuple(index for index, _ in corner)]) * math.prod(share for _, share in corner)
        for corner in product(*neighbours)
    )


@pytest.mark.parametrize("axes", [2, 3])
def test_equals_the_equation_voxel_by_voxel(axes: int) -> None:
    images, boxes, partners, weights = batch() if axes == 3 else flat(*batch())
    shape, expected = tuple(images.shape[2:]), images.clone()
    for b, m in product(range(3), range(4)):  # in this order: the last row prevails
        partner = int(partners[b, m])
        if partner < 0:
            continue
        own = hull(boxes[b, m].tolist(), shape)
        theirs = hull(boxes[partner // 4, partner % 4].tolist(), shape)
        sides, weight = [len(voxels) for voxels in own], float(weights[b, m])
        for channel, place in product(range(2), product(*map(range, sides))):
            voxel = b, channel, *(voxels[i] for voxels, i in zip(own, place, strict=True))
            other = sampled(images[partner // 4, channel], theirs, sides, place)
            expected[voxel] = weight * images[voxel] + (1 - weight) * other
    mixed = mix_objects(images, boxes, partners, weights)
    assert torch.allclose(mixed, expected, atol=1e-5)
    assert torch.equal(mixed[1], images[1])
    assert ((mixed != images).flatten(2).any(2) == torch.tensor([[True], [False], [True]])).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_input_is_not_changed_and_dtype_is_kept(dtype: torch.dtype) -> None:
    images, boxes, partners, weights = batch()
    given = [images.to(dtype), boxes, partners, weights]
    before = [part.clone() for part in given]
    mixed = mix_objects(*given)
    assert (mixed.dtype, mixed.shape) == (dtype, images.shape)
    for part, was in zip(given, before, strict=True):
        assert torch.allclose(part, was, 0, 0, equal_nan=True)
    expected = mix_objects(images.double(), boxes, partners, weights)
    assert torch.allclose(mixed.double(), expected, atol=0.05 if dtype == torch.bfloat16 else 1e-6)


def test_weight_one_and_no_partner_change_no_bit() -> None:
    images, boxes, partners, weights = batch()
    assert torch.equal(mix_objects(images, boxes, partners, torch.ones(3, 4)), images)
    unread = torch.full((3, 4), NAN)  # a weight without a partner may be anything
    assert torch.equal(mix_objects(images, boxes, torch.full((3, 4), -1), unread), images)
    own = torch.tensor([[0, 1, -1, 3], [-1] * 4, [-1, 9, 10, -1]])
    assert torch.allclose(mix_objects(images, boxes, own, weights), images, atol=1e-6)


def test_a_box_is_the_whole_voxels_that_it_touches_in_its_patch() -> None:
    images = torch.zeros(1, 1, 6, 6, 6)
    images[..., 5] = 1.0
    target = [0.0, 0.0, 5.0, 1.0, 1.0, 6.0]
    for box, touched in (
        ([1.0, 2.0, 0.0, 3.0, 3.0, 5.0], (2, 1, 5)),
        ([0.9, 2.1, 3.99, 3.01, 2.2, 4.01], (4, 1, 2)),
        ([-3.0, -0.5, 2.0, 0.1, 6.5, 5.0], (1, 6, 3)),
        ([4.2, 0.0, 0.0, 60.0, 1.0, 1.0], (2, 1, 1)),
    ):
        boxes = torch.tensor([[box, target]])
        mixed = mix_objects(images, boxes, torch.tensor([[1, -1]]), torch.tensor([[0.75, 0.5]]))
        places = (mixed != images).nonzero()[:, 2:]
        assert tuple((places.max(0).values - places.min(0).values + 1).tolist()) == touched
        assert len(places) == math.prod(touched)
        assert torch.allclose(mixed[mixed != images], torch.tensor(0.25))


def test_rows_without_a_voxel_are_never_mixed() -> None:
    images = torch.randn(1, 1, 4, 4, 4)
    inside = [0.0, 0.0, 0.0, 2.0, 2.0, 2.0]
    beyond, before = [4.0, 0.0, 0.0, 6.0, 2.0, 2.0], [0.0, -3.0, 0.0, 2.0, 0.0, 2.0]
    partly, thin = [*inside[:5], NAN], [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    for empty in (NONE, partly, beyond, before, thin):
        boxes, weights = torch.tensor([[inside, empty]]), torch.full((1, 2), 0.5)
        assert torch.equal(mix_objects(images, boxes, torch.tensor([[1, 0]]), weights), images)


def test_where_boxes_overlap_the_last_row_prevails_and_no_blend_enters_another() -> None:
    images = torch.arange(16.0).view(1, 1, 4, 4)
    one, two = [0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]
    weights = torch.full((1, 2), 0.5)
    for rows in ([one, two], [two, one]):
        boxes = torch.tensor([rows])
        alone = [mix_objects(images, boxes, torch.tensor([given]), weights) for given in ([1, -1], [-1, 0])]
        both = mix_objects(images, boxes, torch.tensor([[1, 0]]), weights)
        changed = alone[1] != images
        assert changed.sum() == 4
        assert torch.equal(both, torch.where(changed, alone[1], alone[0]))


def test_the_batch_is_mixed_as_its_patches_in_any_order() -> None:
    images, boxes, partners, weights = batch()
    order = torch.tensor([2, 0, 1])  # patch order[k] comes k-th; its objects' numbers change with it
    place = torch.argsort(order)
    moved = torch.where(partners < 0, -1, place[partners.clamp_min(0) // 4] * 4 + partners % 4)
    mixed = mix_objects(images[order], boxes[order], moved[order], weights[order])
    assert torch.equal(mixed, mix_objects(images, boxes, partners, weights)[order])


def rows(present: list[list[bool]]) -> Tensor:
    boxes = torch.rand(len(present), len(present[0]), 6)
    boxes[~torch.tensor(present)] = NAN
    return boxes


def test_every_other_object_is_a_partner_equally_often() -> None:
    boxes = rows([[True, False, True], [False, False, False], [False, True, True]])
    objects = [0, 2, 7, 8]
    seen = torch.zeros(9, 9)
    for _ in range(1200):
        partners = draw_object_partners(boxes)
        assert (partners.dtype, partners.shape) == (torch.int64, (3, 3))
        given = partners.flatten()
        assert [m for m in range(9) if given[m] >= 0] == objects
        seen[objects, given[objects]] += 1
    for own, other in product(objects, objects):
        assert seen[own, other] == 0 if own == other else abs(seen[own, other] - 400) < 5 * 400**0.5
    assert seen.sum() == 4 * 1200


def test_objects_are_mixed_with_the_given_chance() -> None:
    boxes = rows([[True] * 50 + [False] * 10] * 40)
    for prob in (0.0, 0.3, 1.0):
        partners = draw_object_partners(boxes, prob)
        assert (partners[:, 50:] == -1).all()
        mixed = int((partners >= 0).sum())
        assert abs(mixed - 2000 * prob) <= 5 * (2000 * prob * (1 - prob)) ** 0.5


def test_one_object_alone_none_at_all_and_no_row() -> None:
    alone, none, empty = rows([[False, False], [True, False]]), rows([[False, False]] * 2), torch.zeros(2, 0, 6)
    images = torch.randn(2, 1, 4, 4, 4)
    for boxes in (alone, none, empty):
        partners = draw_object_partners(boxes)
        assert (partners == -1).all()
        assert torch.equal(mix_objects(images, boxes, partners, torch.full(partners.shape, 0.5)), images)
    pair = rows([[True, False], [False, True]])
    assert draw_object_partners(pair).tolist() == [[3, -1], [-1, 0]]


def test_a_seed_draws_the_same() -> None:
    boxes = rows([[True] * 8] * 3)

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return draw_object_partners(boxes, 0.7)

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_what_cannot_be_drawn() -> None:
    for prob in (-0.1, 1.1, NAN):
        with pytest.raises(ValueError, match=rf"`prob` must be in \[0, 1\], got {prob}\."):
            draw_object_partners(torch.rand(1, 2, 6), prob)
    for shape in ((2, 6), (1, 2, 5), (1, 2, 3, 6)):
        with pytest.raises(ValueError, match=r"`boxes` must be \(B, M, 4 or 6\), got \("):
            draw_object_partners(torch.rand(shape))


def test_what_cannot_be_mixed() -> None:
    images, boxes, partners, weights = batch()
    for wrong in (images[0, 0], images.long(), images[:, :, 0, 0]):
        with pytest.raises(ValueError, match=r"`images` must be \(B, C, H, W\[, D\]\) in floating point, got \("):
            mix_objects(wrong, boxes, partners, weights)
    for rows_ in (boxes[:2], boxes[0], boxes[..., :4]):
        with pytest.raises(ValueError, match=r"`boxes` must be \(3, M, 6\) beside images \(3, 2, 7, 6, 5\), got \("):
            mix_objects(images, rows_, partners, weights)
    with pytest.raises(ValueError, match=r"`partners` must be \(3, 4\), one a box, got \(12,\)"):
        mix_objects(images, boxes, partners.flatten(), weights)
    with pytest.raises(ValueError, match=r"`weights` must be \(3, 4\), one a box, got \(3, 1\)"):
        mix_objects(images, boxes, partners, weights[:, :1])
    for number in (-2, 12):
        with pytest.raises(ValueError, match=f"`partners` must be -1 or the number of one of 12 boxes, got {number}"):
            mix_objects(images, boxes, partners.clone().fill_(number), weights)
    for weight in (0.4, 1.5, NAN):
        with pytest.raises(ValueError, match=rf"`weights` must be in \[0\.5, 1\], got {str(weight)[:3]}"):
            mix_objects(images, boxes, partners, torch.full((3, 4), weight))


def test_partners_are_of_one_class() -> None:
    torch.manual_seed(0)
    boxes = torch.rand(4, 5, 6)
    boxes[1, 2:] = torch.nan
    labels = torch.randint(0, 2, (4, 5))
    labels[3, 4] = 2  # alone of its class
    labels[1, 2:] = -1
    partners = draw_object_partners(boxes, 1.0, labels)
    there = labels.flatten()
    for number, partner in enumerate(partners.flatten().tolist()):
        if there[number] in (-1, 2):
            assert partner == -1
        else:
            assert partner not in (-1, number)
            assert there[partner] == there[number]
    drawn = []
    for classes in (None, torch.zeros(4, 5, dtype=torch.int64)):
        torch.manual_seed(1)
        drawn.append(draw_object_partners(boxes, 0.5, classes))
    assert torch.equal(*drawn)
