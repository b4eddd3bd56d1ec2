from __future__ import annotations

import copy
import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.networks.nets import ResNet
from torch import Tensor

from monai_ssl.networks.anchors import flatten_maps
from monai_ssl.networks.detector import Detector
from monai_ssl.networks.encoder import encoder_keys
from monai_ssl.utils.errors import UserError

SHAPES = ((4, 4, 4), (6, 5, 7))
PATCH = (16, 16, 8)


def backbone(stride: Any = 2, axes: int = 3) -> ResNet:
    return ResNet("basic", [1, 1, 1, 1], [4, 8, 16, 32], axes, 1, 3, stride, no_max_pool=True, feed_forward=False)


def detector(**settings: Any) -> Detector:
    torch.manual_seed(0)
    return Detector(**{"backbone": backbone(), "anchor_shapes": SHAPES, "levels": (1, 2), "channels": 8, **settings})


def iou(one: list[float], other: list[float]) -> float:
    sides = [min(one[k + 3], other[k + 3]) - max(one[k], other[k]) for k in range(3)]
    common = math.prod(max(0.0, side) for side in sides)
    volumes = [math.prod(box[k + 3] - box[k] for k in range(3)) for box in (one, other)]
    return common / (sum(volumes) - common)


# The anchors


def test_anchors_are_the_cells_of_every_level_in_the_order_of_flattened_maps() -> None:
    one = detector()
    expected, maps = [], []
    for scale, grid in ((1, (8, 8, 4)), (2, (4, 4, 2))):
        step = 2 * scale
        rows = [
            [
                (index + 0.5) * step + sign * shape[axis] * scale / 2
                for sign in (-1, 1)
                for axis, index in enumerate(cell)
            ]
            for cell in product(*map(range, grid))
            for shape in SHAPES
        ]
        expected += rows
        maps.append(torch.tensor(rows).view(*grid, 12).movedim(-1, 0)[None])
    assert torch.equal(one.anchors(PATCH), torch.tensor(expected))
    assert torch.equal(one.flatten(maps)[0], one.anchors(PATCH))
    inside = one.anchors(PATCH).view(-1, 2, 3).mean(1)
    assert ((inside > 0) & (inside < torch.tensor(PATCH))).all()


def test_generator_serves_monai_s_detector_in_half_precision_too() -> None:
    one = detector()
    images = torch.zeros(3, 1, *PATCH)
    for dtype in (torch.float32, torch.float16):
        anchors = one.anchor_generator(images, [torch.zeros(3, 2, 8, 8, 4, dtype=dtype), torch.zeros(3, 2, 4, 4, 2)])
        assert len(anchors) == 3
        assert all(torch.equal(each, one.anchors(PATCH)) for each in anchors)
    assert one.anchor_generator.num_anchors_per_location() == [2, 2]


def test_anchors_are_kept_and_serve_training_after_inference() -> None:
    one = detector()
    with torch.inference_mode():
        anchors = one.anchors(PATCH)
    assert one.anchors(PATCH) is anchors
    assert len(one.anchors((8, 8, 8))) == 2 * (4**3 + 2**3)
    codes = torch.zeros(2, len(anchors), 6, requires_grad=True)
    one.decode(codes, anchors).sum().backward()
    assert codes.grad is not None
    assert codes.grad.any()


# The network


@pytest.mark.parametrize("classes", [1, 3])
def test_maps_of_a_patch(classes: int) -> None:
    one = detector(num_classes=classes)
    out = one(torch.rand(2, 1, *PATCH))
    assert [tuple(each.shape) for each in out["classification"]] == [
        (2, 2 * classes, 8, 8, 4),
        (2, 2 * classes, 4, 4, 2),
    ]
    assert [tuple(each.shape) for each in out["box_regression"]] == [(2, 12, 8, 8, 4), (2, 12, 4, 4, 2)]
    assert one.flatten(out["classification"]).shape == (2, len(one.anchors(PATCH)), classes)
    assert one.flatten(out["box_regression"]).shape == (2, len(one.anchors(PATCH)), 6)


def test_scales_of_the_anchors_follow_the_strides() -> None:
    one = detector(levels=(1, 3), anchor_shapes=((4, 4, 4),))
    sides = one.anchors(PATCH)[:, 3:] - one.anchors(PATCH)[:, :3]
    assert sides.unique().tolist() == [4.0, 16.0]
    other = detector(levels=(1, 3), anchor_shapes=((4, 4, 4),), anchor_scales=(1, 2.5))
    assert (other.anchors(PATCH)[:, 3] - other.anchors(PATCH)[:, 0]).unique().tolist() == [4.0, 10.0]


def test_one_level_is_enough_and_an_image_will_do() -> None:
    one = detector(levels=(2,), anchor_shapes=((6, 6, 6),))
    assert [tuple(each.shape) for each in one(torch.rand(1, 1, 16, 16, 16))["classification"]] == [(1, 1, 4, 4, 4)]
    flat = detector(backbone=backbone(axes=2), anchor_shapes=((4, 6),))
    out = flat(torch.rand(1, 1, 16, 8))
    assert flat.flatten(out["box_regression"]).shape == flat.anchors((16, 8))[None].shape == (1, 40, 4)


def test_maps_are_in_single_precision_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = detector()(torch.rand(1, 1, *PATCH))
    assert {each.dtype for maps in out.values() for each in maps} == {torch.float32}


def test_no_parameter_is_left_without_a_gradient() -> None:
    one = detector()
    out = one(torch.rand(2, 1, *PATCH))
    sum(each.square().mean() for maps in out.values() for each in maps).backward()
    gradients: dict[str, Any] = {name: value.grad for name, value in one.named_parameters()}
    assert [name for name, value in gradients.items() if value is None] == []
    # a bias before a norm has one of 0
    assert [name for name, value in gradients.items() if name.endswith("weight") and not value.any()] == []


def test_at_the_start_every_anchor_is_an_object_with_a_probability_of_a_hundredth() -> None:
    one = detector(num_classes=2)
    probability = one.flatten(one(torch.rand(2, 1, *PATCH))["classification"]).sigmoid()
    assert probability.min() > 0.005
    assert probability.max() < 0.02
    assert probability.mean().item() == pytest.approx(0.01, rel=0.1)


def test_state_is_plain_and_fits_a_copy(tmp_path: Path) -> None:
    one, other = detector(), detector(backbone=backbone())
    one.anchors(PATCH)
    torch.save(one.state_dict(), tmp_path / "model.pt")
    with torch.no_grad():
        for value in other.parameters():
            value.add_(1.0)
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    image = torch.rand(1, 1, *PATCH)
    answers = [each.eval()(image)["classification"][0] for each in (one, other, copy.deepcopy(one))]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    assert {name.split(".")[0] for name in one.state_dict()} == {
        "feature_extractor",
        "classification_head",
        "regression_head",
    }


def test_it_says_where_its_encoder_is() -> None:
    one = detector()
    assert one.encoder is one.feature_extractor.encoder
    assert set(encoder_keys(one)) == {f"feature_extractor.encoder.{name}" for name in one.encoder.state_dict()}


def test_maps_are_flattened_as_monai_does() -> None:
    one = detector(num_classes=2)
    maps = [torch.randn(2, 4, 3, 2, 4), torch.randn(2, 4, 1, 2, 1)]
    theirs = RetinaNetDetector(one, one.anchor_generator)._reshape_maps(maps)
    assert torch.equal(one.flatten(maps), theirs)
    assert torch.equal(flatten_maps(maps, 2), theirs)


# Box codes


def test_decoding_undoes_encoding() -> None:
    one = detector()
    anchors = one.anchors(PATCH)
    lower = torch.rand(len(anchors), 3) * 12 - 2
    boxes = torch.cat([lower, lower + 0.5 + torch.rand(len(anchors), 3) * 33], dim=1)
    assert torch.allclose(one.decode(one.encode(boxes, anchors), anchors), boxes, rtol=0, atol=1e-4)
    codes = torch.randn(3, len(anchors), 6)
    decoded = one.decode(codes, anchors)
    assert all(torch.equal(decoded[case], one.decode(codes[case], anchors)) for case in range(3))
    assert torch.equal(one.decode(torch.zeros_like(anchors), anchors), anchors)


def test_codes_against_the_equation() -> None:
    one = detector()
    anchor, box = [0.0, 0.0, 0.0, 4.0, 4.0, 8.0], [1.0, 2.0, 2.0, 3.0, 10.0, 10.0]
    expected = [0.0, 1.0, 0.25, math.log(0.5), math.log(2.0), 0.0]
    assert one.encode(torch.tensor([box]), torch.tensor([anchor]))[0].tolist() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="NaN or Inf"):
        one.encode(torch.tensor([[1.0, 1.0, 1.0, 1.0, 2.0, 2.0]]), torch.tensor([anchor]))


# Matching


def atss(boxes: list[list[float]], levels: list[list[list[float]]], candidates: int, per_place: int) -> list[int]:
    """The algorithm box of the paper, without the condition on centres, for each anchor of each level."""
    anchors = [anchor for level in levels for anchor in level]
    best: dict[int, tuple[float, int]] = {}
    for row, box in enumerate(boxes):
        chosen, start = [], 0
        for level in levels:
            gaps = [
                math.dist([a[k] + a[k + 3] for k in range(3)], [box[k] + box[k + 3] for k in range(3)]) for a in level
            ]
            nearest = sorted(range(len(level)), key=gaps.__getitem__)[: candidates * per_place]
            chosen += [start + index for index in nearest]
            start += len(level)
        values = torch.tensor([iou(box, anchors[index]) for index in chosen], dtype=torch.float64)
        threshold = values.mean() + values.std()
        for index, value in zip(chosen, values.tolist(), strict=True):
            if value >= threshold and value > best.get(index, (-1.0, -1))[0]:
                best[index] = (value, row)
    return [best[index][1] if index in best else -1 for index in range(len(anchors))]


def test_matches_against_the_algorithm() -> None:
    one = detector(num_candidates=3)
    generator = torch.Generator().manual_seed(0)
    # centres off the grid's symmetry planes, so that no two distances are equal
    lower = torch.rand(2, 4, 3, generator=generator) * torch.tensor([9.0, 9.0, 3.0])
    boxes = torch.cat([lower, lower + 2.0 + 4.0 * torch.rand(2, 4, 3, generator=generator)], dim=-1)
    labels = torch.tensor([[0, -1, 0, 0], [-1, 0, -1, -1]])
    boxes[labels < 0] = math.nan
    matched = one.match(boxes, labels, PATCH)
    levels = [each.tolist() for each in one.anchors(PATCH).split([512, 64])]
    for case in range(2):
        rows = (labels[case] >= 0).nonzero().flatten().tolist()
        expected = atss([boxes[case, row].tolist() for row in rows], levels, 3, len(SHAPES))
        assert set(expected) == {-1, *range(len(rows))}  # else this were no test of the algorithm alone
        assert matched[case].tolist() == [rows[row] if row >= 0 else -1 for row in expected]


def test_a_box_that_is_an_anchor_is_matched_by_it() -> None:
    one = detector()
    anchors = one.anchors(PATCH)
    chosen = torch.tensor([300, 540])
    boxes = torch.stack([anchors[chosen], anchors[chosen].flip(0)])
    matched = one.match(boxes, torch.zeros(2, 2, dtype=torch.int64), PATCH)
    assert matched[0, chosen].tolist() == [0, 1]
    assert matched[1, chosen].tolist() == [1, 0]
    strict = detector(center_in_box=True).match(boxes, torch.zeros(2, 2, dtype=torch.int64), PATCH)
    centers = anchors.view(-1, 2, 3).mean(1)
    for row in (0, 1):
        held = centers[strict[0] == row]
        assert len(held)
        assert ((held > boxes[0, row, :3]) & (held < boxes[0, row, 3:])).all()


def test_every_object_has_an_anchor() -> None:
    # at the corner of eight cells: half of the candidates overlap it well and equally, and none beats their mean
    one = detector(anchor_shapes=((4, 4, 4),))
    box, labels = torch.tensor([[[4.0, 4.0, 2.0, 8.0, 8.0, 6.0]]]), torch.zeros(1, 1, dtype=torch.int64)
    anchors = one.anchors(PATCH)
    assert one.matcher(box[0], anchors, [256, 32], 1)[1].max() == -1
    (found,) = (one.match(box, labels, PATCH)[0] == 0).nonzero(as_tuple=True)
    values = [iou(box[0, 0].tolist(), anchor) for anchor in anchors.tolist()]
    assert found.tolist() == [index for index, value in enumerate(values) if value > max(values) - 1e-4]
    assert len(found) == 8
    # one that is elsewhere keeps what it has
    both = torch.cat([box, anchors[:1][None]], dim=1)
    matched = one.match(both, torch.zeros(1, 2, dtype=torch.int64), PATCH)
    assert matched[0, 0] == 1
    assert (matched[0] == 0).nonzero().flatten().tolist() == found.tolist()


def test_cases_without_objects_match_nothing() -> None:
    one = detector()
    nothing = torch.full((2, 3, 6), math.nan)
    for boxes in (nothing, nothing[:, :0]):
        matched = one.match(boxes, torch.full(boxes.shape[:2], -1), PATCH)
        assert matched.shape == (2, len(one.anchors(PATCH)))
        assert matched.dtype == torch.int64
        assert (matched == -1).all()
    boxes = torch.cat([torch.tensor([[[4.0, 4.0, 2.0, 8.0, 8.0, 6.0]]]).expand(1, 3, 6), nothing[:1]])
    matched = one.match(boxes, torch.tensor([[0, -1, -1], [-1, -1, -1]]), PATCH)
    assert matched[0].max() == 0
    assert (matched[1] == -1).all()


# Messages


def boxes_of_nan() -> Tensor:
    one = detector()
    return one.match(torch.full((1, 1, 6), math.nan), torch.zeros(1, 1, dtype=torch.int64), PATCH)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: detector()(torch.rand(1, 1, 16, 18, 7)),
            UserError,
            r"\[16, 18, 7\] must be .* \[4, 4, 4\].*\[16, 16, 8\]",
        ),
        (lambda: detector().anchors((2, 16, 16)), UserError, r"\[4, 16, 16\] would do"),
        (lambda: detector().check_patch_size((16, 16)), UserError, "must have 3 axes"),
        (lambda: detector(channels=12), ValueError, "`channels` must be a multiple of 8.*got 12"),
        (lambda: detector(num_classes=0), ValueError, "`num_classes` must be at least 1, got 0"),
        (
            lambda: detector(anchor_scales=(1, 2, 4)),
            ValueError,
            r"one for each of the 2 levels \[1, 2\], got \[1, 2, 4\]",
        ),
        (lambda: detector(anchor_shapes=((4, 4),)), ValueError, "`anchor_shapes` must have 3 axes.*got 2"),
        (lambda: detector(anchor_shapes=((4, 4, 4), (4, 4))), ValueError, "`base_anchor_shapes` must be shapes"),
        (lambda: detector(anchor_shapes=()), ValueError, "`base_anchor_shapes` must be shapes"),
        (boxes_of_nan, ValueError, "`boxes` must be finite where `labels` is 0 or above"),
    ],
)
def test_messages(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
