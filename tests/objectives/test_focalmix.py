from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_ssl.losses.soft_focal import SoftTargetFocalLoss, soft_target_focal_loss
from monai_ssl.networks.anchor_targets import soft_anchor_targets
from monai_ssl.networks.detector import Detector
from monai_ssl.objectives import focalmix as module
from monai_ssl.objectives.focalmix import FocalMix
from monai_ssl.transforms.grid_symmetry import GridSymmetry, grid_symmetries
from tests import helpers
from tests.objectives import boxes

TERMS = ["classification", "box", "unlabeled"]
PLAIN: dict[str, Any] = {"image_mix": False, "object_mix": 0.0}


@pytest.fixture
def batch() -> boxes.Batch:
    return boxes.patches(3, 2)


def method(network: Detector | None = None, **arguments: Any) -> FocalMix:
    loss = SoftTargetFocalLoss(reduction="none")
    # mixing at its full strength, unless a test is about the way there
    at_once: dict[str, Any] = {"loss": loss, "views": 2, "burn_in": 0.0, "mix_ramp": 0.0}
    objective = FocalMix(network or boxes.detector(), **{**at_once, **arguments})
    if objective.teacher is not None:
        helpers.perturb([objective.teacher], 0.1)
    return objective


@pytest.mark.parametrize("decay", [None, 0.9])
def test_battery(decay: float | None, batch: boxes.Batch) -> None:
    objective = method(decay=decay)
    helpers.check_objective(objective, batch, reaches=dict.fromkeys(TERMS, "network"))
    assert helpers.frozen(objective) == ([] if decay is None else [objective.teacher])
    assert objective.deployed is objective.labeler is (objective.network if decay is None else objective.teacher)


def test_every_parameter_learns(batch: boxes.Batch) -> None:
    objective = method()
    objective.total(objective(batch)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.network.parameters())


def test_overfits(batch: boxes.Batch) -> None:
    helpers.check_overfits(method(), batch, steps=40, learning_rate=1e-2)


@pytest.mark.parametrize("num_classes", [1, 2])
def test_slow_rederivation_without_mixing(num_classes: int) -> None:
    batch = boxes.patches(3, 2, num_classes)
    network = boxes.detector(num_classes)
    loss = SoftTargetFocalLoss(1.5, (0.2, 0.7), reduction="none")
    objective = method(network, loss=loss, views=8, temperature=0.5, **PLAIN)
    network.anchor_shapes = ((4.0, 4.001, 4.002),)  # no axes can be exchanged: all 8 views, whatever is drawn
    terms = objective(batch)
    network.anchor_shapes = ((4.0, 4.0, 4.0),)

    labeled, size = batch["labeled"], [boxes.SIDE] * 3
    anchors = network.anchors(size)
    maps = network(labeled["image"])
    logits, codes = (network.flatten(maps[key]) for key in ("classification", "box_regression"))
    matched = network.match(labeled["box"], labeled["label"], size)
    focal = distance = count = 0.0
    for case, anchor in torch.cartesian_prod(torch.arange(3), torch.arange(len(anchors))).tolist():
        row = int(matched[case, anchor])
        for c in range(num_classes):
            y = float(row >= 0 and int(labeled["label"][case, row]) == c)
            p = torch.sigmoid(logits[case, anchor, c].double()).item()
            entropy = -y * math.log(p) - (1 - y) * math.log(1 - p)
            focal += (0.2 + 0.5 * y) * abs(y - p) ** 1.5 * entropy
        if row >= 0:
            wanted = network.encode(labeled["box"][case, row][None], anchors[anchor][None])[0]
            for off in (codes[case, anchor] - wanted).abs().tolist():
                distance += off - 0.5 if off > 1 else 0.5 * off**2
            count += 1
    assert count > 0
    assert terms["classification"].item() == pytest.approx(focal / max(1, count), rel=1e-4)
    assert terms["box"].item() == pytest.approx(distance / max(1, count), rel=1e-4)

    flips = [GridSymmetry((0, 1, 2), s.flips) for s in grid_symmetries(size) if s.permutation == (0, 1, 2)]
    assert len(flips) == 8
    soft, _ = soft_anchor_targets(network, batch["unlabeled"]["image"], flips, 0.5)
    said = network.flatten(network(batch["unlabeled"]["image"])["classification"])
    # an anchor weighs the same in the two unlabelled patches as in the three labelled ones
    expected = soft_target_focal_loss(said, soft, 1.5, (0.2, 0.7)).sum() / 2 / (max(1, count) / 3)
    assert terms["unlabeled"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert objective.figures["mass"].item() == pytest.approx(soft.sum().item() / 2, rel=1e-4)
    assert objective.figures["positive"].item() == pytest.approx(count / 3)


def fix(monkeypatch: pytest.MonkeyPatch, weights: list[float], partners: list[int]) -> None:
    monkeypatch.setattr(module, "draw_weights", lambda count, *_, **__: torch.tensor((2 * weights)[:count]))
    monkeypatch.setattr(module, "draw_partners", lambda count, *_, **__: torch.tensor(partners))


def test_slow_rederivation_of_image_mixing(monkeypatch: pytest.MonkeyPatch, batch: boxes.Batch) -> None:
    weights, partners = [0.9, 0.6, 0.75, 0.8, 0.7], [3, 0, 1, 4, 2]
    fix(monkeypatch, weights, partners)
    network = boxes.detector()
    objective = method(network, object_mix=0.0, temperature=1.0)
    everything = grid_symmetries([boxes.SIDE] * 3)
    monkeypatch.setattr(module, "draw_symmetries", lambda legal, count: [everything[0]])
    terms = objective(batch)

    labeled, u = batch["labeled"], batch["unlabeled"]["image"]
    size = [boxes.SIDE] * 3
    anchors = network.anchors(size)
    matched = network.match(labeled["box"], labeled["label"], size)
    with torch.no_grad():
        soft = torch.sigmoid(network.eval().flatten(network(u)["classification"]))
        network.train()
    x = torch.cat([labeled["image"], u])
    y = torch.cat([(matched >= 0).float()[..., None], soft])
    mixed = torch.stack([w * x[i] + (1 - w) * x[j] for i, (w, j) in enumerate(zip(weights, partners, strict=True))])
    wanted = torch.stack([w * y[i] + (1 - w) * y[j] for i, (w, j) in enumerate(zip(weights, partners, strict=True))])
    maps = network(mixed)
    logits, codes = (network.flatten(maps[key]) for key in ("classification", "box_regression"))
    focal = soft_target_focal_loss(logits, wanted).sum((1, 2))
    for name, part in (("classification", slice(0, 3)), ("unlabeled", slice(3, 5))):
        expected = focal[part].mean() / ((matched >= 0).sum().clamp_min(1) / 3)
        assert terms[name].item() == pytest.approx(expected.item(), rel=1e-4)
    total = share = 0.0
    for case, (w, j) in enumerate(zip(weights, partners, strict=True)):
        for source, part in ((case, w), (j, 1 - w)):
            for anchor in range(len(anchors)) if source < 3 else ():
                row = int(matched[source, anchor])
                if row >= 0:
                    code = network.encode(labeled["box"][source, row][None], anchors[anchor][None])[0]
                    total += (
                        part * torch.nn.functional.smooth_l1_loss(codes[case, anchor], code, reduction="sum").item()
                    )
                    share += part
    assert share > 1
    assert terms["box"].item() == pytest.approx(total / share, rel=1e-4)


def test_objects_of_unlabelled_patches_are_mixed_where_the_detector_is_sure(
    monkeypatch: pytest.MonkeyPatch, batch: boxes.Batch
) -> None:
    given: list[tuple[Tensor, Tensor]] = []

    def note(images: Tensor, found: Tensor, partners: Tensor, weights: Tensor) -> Tensor:
        given.append((found, partners))
        return images

    monkeypatch.setattr(module, "mix_objects", note)
    for threshold, objects in ((0.99, 1), (0.0, 5)):
        method(object_threshold=threshold)(batch)
        found, partners = given.pop()
        assert found.shape == (5, 2, 6)
        present = ~found.isnan().any(2)
        # of the labelled patches two have an object each; of the unlabelled ones as many as there are rows
        assert present[:3].sum() == 2
        assert present[3:].any() == (threshold == 0.0)
        assert int(present.sum()) >= objects
        assert ((partners >= 0) == present).all()


def test_slow_rederivation_of_object_mixing(monkeypatch: pytest.MonkeyPatch, batch: boxes.Batch) -> None:
    labeled = batch["labeled"]
    (a, row_a), (b, row_b) = (labeled["label"] >= 0).nonzero().tolist()
    wide = labeled["box"].shape[1]
    pairs = {(a, row_a): b * wide + row_b, (b, row_b): a * wide + row_a}
    shares = {(a, row_a): 0.6, (b, row_b): 0.9}

    def partners(found: Tensor, chance: float, *_: Tensor) -> Tensor:
        table = torch.full(found.shape[:2], -1)
        for place, other in pairs.items():
            table[place] = other
        return table

    def weights(count: int, alpha: float, **_: Any) -> Tensor:
        table = torch.full((count // wide, wide), alpha)  # of objects that are not mixed, and so of no account
        for place, share in shares.items():
            table[place] = share
        return table.flatten()

    monkeypatch.setattr(module, "draw_object_partners", partners)
    monkeypatch.setattr(module, "draw_weights", weights)
    seen: list[Tensor] = []
    objective = method(image_mix=False, object_threshold=0.999)
    objective.network.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    objective(batch)

    x = torch.cat([labeled["image"], batch["unlabeled"]["image"]])
    expected = x.clone()
    for (case, row), (other, its) in (((a, row_a), (b, row_b)), ((b, row_b), (a, row_a))):
        regions = []
        for box in (labeled["box"][case, row], labeled["box"][other, its]):
            sides = box.view(2, 3).T.tolist()
            regions.append((slice(None), *(slice(math.floor(low), math.ceil(high)) for low, high in sides)))
        own, theirs = x[case][regions[0]], x[other][regions[1]]
        theirs = torch.nn.functional.interpolate(theirs[None], own.shape[1:], mode="trilinear")[0]
        share = shares[case, row]
        expected[case][regions[0]] = share * own + (1 - share) * theirs
    assert not torch.allclose(expected, x, atol=0.1)
    assert torch.allclose(seen[-1], expected, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"object_mix": 0.0}, {"image_mix": False}])
def test_weights_of_both_mixes_are_drawn_with_eta(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], batch: boxes.Batch
) -> None:
    drawn: list[tuple[float, bool]] = []
    original = module.draw_weights

    def note(count: int, alpha: float, dominant: bool = False, **more: Any) -> Tensor:
        drawn.append((alpha, dominant))
        return original(count, alpha, dominant=dominant, **more)

    monkeypatch.setattr(module, "draw_weights", note)
    method(eta=0.7, **arguments)(batch)
    assert set(drawn) == {(0.7, True)}  # a patch and an object keep half of themselves at least


def test_objects_are_mixed_within_their_class(monkeypatch: pytest.MonkeyPatch, batch: boxes.Batch) -> None:
    labeled, given = batch["labeled"], []
    found = torch.full((2, *labeled["box"].shape[1:]), torch.nan)
    found[1, 0] = torch.tensor([2.0, 2, 2, 6, 6, 6])
    classes = torch.full(found.shape[:2], -1)
    classes[1, 0] = 0
    monkeypatch.setattr(module, "confident_boxes", lambda *_: (found, classes))
    original = module.draw_object_partners

    def note(rows: Tensor, prob: float, labels: Tensor) -> Tensor:
        given.append((rows, labels))
        return original(rows, prob, labels)

    monkeypatch.setattr(module, "draw_object_partners", note)
    method()(batch)
    ((rows, labels),) = given
    assert torch.equal(labels, torch.cat([labeled["label"], classes]))
    assert torch.equal(rows.isnan(), torch.cat([labeled["box"], found]).isnan())


@pytest.mark.parametrize(
    ("arguments", "views", "exchanged"),
    [({}, 48, 6), ({"spacing": (1.0, 1.0, 2.0)}, 16, 2), ({"exchange_axes": False}, 8, 1)],
)
def test_views_are_what_spacing_and_training_allow(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], views: int, exchanged: int, batch: boxes.Batch
) -> None:
    offered: list[Any] = []
    monkeypatch.setattr(module, "draw_symmetries", lambda legal, _: offered.append(legal) or legal[:1])
    method(**PLAIN, **arguments)(batch)
    assert len(offered[0]) == views
    assert len({symmetry.permutation for symmetry in offered[0]}) == exchanged


def test_an_object_has_a_sharpened_target_above_the_threshold(
    monkeypatch: pytest.MonkeyPatch, batch: boxes.Batch
) -> None:
    given: list[Tensor] = []
    original = module.confident_boxes
    monkeypatch.setattr(module, "confident_boxes", lambda y, *rest: given.append(y) or original(y, *rest))
    for temperature in (1.0, 0.5):
        torch.manual_seed(0)
        method(boxes.detector(), temperature=temperature, **PLAIN)(batch)
    mean, sharpened = given
    assert torch.allclose(sharpened, mean**2 / (mean**2 + (1 - mean) ** 2), atol=1e-5)


def test_mixing_comes_in_over_the_ramp(monkeypatch: pytest.MonkeyPatch, batch: boxes.Batch) -> None:
    weights = [0.9, 0.6, 0.75, 0.8, 0.7]
    fix(monkeypatch, weights, [3, 0, 1, 4, 2])
    given: list[list[float]] = []
    chances: list[float] = []

    def note(tensors: list[Tensor], own: Tensor, partners: Tensor) -> list[Tensor]:
        given.append(own.tolist())
        return tensors

    def nobody(found: Tensor, chance: float, *_: Tensor) -> Tensor:
        chances.append(chance)
        return torch.full(found.shape[:2], -1)

    monkeypatch.setattr(module, "mix_up", note)
    monkeypatch.setattr(module, "draw_object_partners", nobody)
    objective = method(burn_in=0.1, mix_ramp=0.4, object_mix=0.5)
    for progress, strength in ((0.1, math.exp(-5.0)), (0.2, math.exp(-5.0 * 0.75**2)), (0.5, 1.0)):
        objective.progress = progress
        objective(batch)
        assert given.pop() == pytest.approx([1 - strength * (1 - weight) for weight in weights])
        assert chances.pop() == pytest.approx(0.5 * strength)


@pytest.mark.parametrize("arguments", [{}, PLAIN])
def test_patches_without_a_box_train(arguments: dict[str, Any], batch: boxes.Batch) -> None:
    objective = method(**arguments)
    nothing = boxes.without_objects(batch)
    for given in (nothing, {"labeled": nothing["labeled"]}):
        objective.zero_grad()
        terms = objective(given)
        assert terms["box"].item() == 0
        objective.total(terms).backward()
        # every parameter takes part in the exchange of gradients, also those of the box head
        assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.network.parameters())


def test_without_mixing_and_unlabelled_patches_it_is_the_supervised_detector(batch: boxes.Batch) -> None:
    network = boxes.detector()
    objective = method(copy.deepcopy(network), **PLAIN)
    weighed = method(network, **PLAIN)
    weighed.weights["unlabeled"] = 0.0
    alone = objective({"labeled": batch["labeled"]})
    assert set(alone) == {"classification", "box"}
    assert set(objective.figures) == {"positive"}
    both = weighed(batch)
    assert objective.total(alone).item() == pytest.approx(weighed.total(both).item(), rel=1e-5)
    objective.total(alone).backward()
    weighed.total(both).backward()
    for mine, theirs in zip(objective.network.parameters(), network.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-5)


def test_in_the_burn_in_it_is_the_supervised_detector_to_the_last_bit(batch: boxes.Batch) -> None:
    network = boxes.detector()
    alone, both = method(copy.deepcopy(network), **PLAIN), method(network, burn_in=0.2)
    both.progress = 0.19
    expected, terms = alone({"labeled": batch["labeled"]}), both(batch)
    assert list(terms) == TERMS
    assert [terms[name].item() for name in TERMS] == [expected["classification"].item(), expected["box"].item(), 0.0]
    assert list(both.figures) == ["positive", "mass", "sure", "objects"]
    assert all(both.figures[name].isnan() for name in ("mass", "sure", "objects"))
    alone.total(expected).backward()
    both.total(terms).backward()
    for mine, theirs in zip(alone.network.parameters(), network.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)
    assert all(map(torch.equal, alone.network.buffers(), network.buffers()))  # no unlabelled patch in batch statistics
    both.progress = 0.2
    assert both(batch)["unlabeled"].item() > 0
    assert both.figures["mass"].item() > 0


def test_targets_come_from_the_average(batch: boxes.Batch) -> None:
    objective = method(decay=0.9, **PLAIN)
    objective(batch)
    before = objective.figures["mass"]
    helpers.perturb([objective.network], 0.3)
    torch.manual_seed(0)
    objective(batch)
    assert torch.allclose(before, objective.figures["mass"], rtol=0.2)
    for p in objective.teacher.parameters():
        p.zero_()
    objective(batch)
    assert objective.figures["mass"] > 2 * before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"views": 0}, "`views` must be 1 or more, got 0"),
        ({"temperature": 0.0}, "`temperature` must be above 0, got 0.0"),
        ({"eta": -1.0}, "`eta` must be above 0, got -1.0"),
        ({"object_mix": 1.2}, r"`object_mix` must be in \[0, 1\], got 1.2"),
        ({"burn_in": 1.1}, r"`burn_in` must be in \[0, 1\], got 1.1"),
        ({"mix_ramp": -0.1}, r"`mix_ramp` must be in \[0, 1\], got -0.1"),
        ({"object_threshold": 1.0}, r"`object_threshold` must be in \[0, 1\), got 1.0"),
        ({"decay": 1.0}, r"`decay` must be in \[0, 1\), got 1.0"),
    ],
)
def test_messages(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(**arguments)
