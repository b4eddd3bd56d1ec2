from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_ssl.losses.soft_focal import SoftTargetFocalLoss, soft_target_focal_loss
from monai_ssl.networks.detector import Detector
from monai_ssl.objectives import pseudo_boxes as module
from monai_ssl.objectives.focalmix import FocalMix
from monai_ssl.objectives.pseudo_boxes import PseudoBoxes
from tests import helpers
from tests.objectives import boxes

TERMS = ["classification", "box", "unlabeled"]


@pytest.fixture
def batch() -> boxes.Batch:
    return boxes.patches(3, 2)


def method(network: Detector | None = None, **arguments: Any) -> PseudoBoxes:
    loss = SoftTargetFocalLoss(reduction="none")
    objective = PseudoBoxes(network or boxes.detector(), loss, **{"burn_in": 0.0, **arguments})
    if objective.teacher is not None:
        helpers.perturb([objective.teacher], 0.1)
    return objective


@pytest.mark.parametrize("decay", [None, 0.9])
def test_battery(decay: float | None, batch: boxes.Batch) -> None:
    objective = method(decay=decay)
    helpers.check_objective(objective, batch, reaches=dict.fromkeys(TERMS, "network"))
    assert helpers.frozen(objective) == ([] if decay is None else [objective.teacher])


def test_overfits(batch: boxes.Batch) -> None:
    helpers.check_overfits(method(), batch, steps=40, learning_rate=1e-2)


def test_sure_boxes_are_objects_and_the_rest_is_background(monkeypatch: pytest.MonkeyPatch, batch: boxes.Batch) -> None:
    network = boxes.detector()
    found = torch.full((2, 2, 6), torch.nan)
    found[0, 0] = torch.tensor([2.0, 2, 2, 6, 6, 6])
    asked: list[tuple[Tensor, float]] = []

    def sure(p: Tensor, _: Tensor, size: Any, threshold: float, count: int) -> tuple[Tensor, Tensor]:
        asked.append((p, threshold))
        return found, torch.tensor([[0, -1], [-1, -1]])

    monkeypatch.setattr(module, "confident_boxes", sure)
    objective = method(network, threshold=0.6)
    terms = objective(batch)
    u, size = batch["unlabeled"]["image"], [boxes.SIDE] * 3
    said = network.flatten(network(u)["classification"])
    assert torch.allclose(asked[0][0], torch.sigmoid(said), atol=1e-5)
    assert asked[0][1] == objective.label_threshold == 0.6
    matched = network.match(found, torch.tensor([[0, -1], [-1, -1]]), size)
    assert (matched[0] >= 0).any()
    assert not (matched[1] >= 0).any()
    wanted = (matched >= 0).float()[..., None]
    labeled = batch["labeled"]
    positives = (network.match(labeled["box"], labeled["label"], size) >= 0).sum(1).float().mean()  # not those found
    expected = soft_target_focal_loss(said, wanted).sum() / 2 / positives
    assert terms["unlabeled"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert objective.figures["objects"].item() == 0.5


def test_the_labelled_terms_are_those_of_the_supervised_detector(batch: boxes.Batch) -> None:
    network = boxes.detector()
    terms, alone = method(network)(batch), method(network)({"labeled": batch["labeled"]})
    detector = FocalMix(network, SoftTargetFocalLoss(reduction="none"), image_mix=False, object_mix=0.0)
    supervised = detector({"labeled": batch["labeled"]})
    assert set(alone) == {"classification", "box"}
    for name in alone:
        assert terms[name].item() == pytest.approx(supervised[name].item(), rel=1e-5)
        assert alone[name].item() == pytest.approx(supervised[name].item(), rel=1e-5)


def test_in_the_burn_in_labelled_patches_teach_alone(batch: boxes.Batch) -> None:
    network = boxes.detector()
    expected = method(copy.deepcopy(network))({"labeled": batch["labeled"]})
    objective = method(network, burn_in=0.2)
    objective.progress = 0.19
    terms = objective(batch)
    assert [terms[name].item() for name in TERMS] == [expected["classification"].item(), expected["box"].item(), 0.0]
    assert objective.figures["objects"].isnan()
    objective.progress = 0.2
    assert objective(batch)["unlabeled"].item() > 0


def test_patches_without_a_box_train(batch: boxes.Batch) -> None:
    objective = method()
    terms = objective(boxes.without_objects(batch))
    assert terms["box"].item() == 0
    objective.total(terms).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.network.parameters())


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"`threshold` must be in \[0, 1\), got 1.0"):
        method(threshold=1.0)
    with pytest.raises(ValueError, match=r"`burn_in` must be in \[0, 1\], got -0.1"):
        method(burn_in=-0.1)


def test_boxes_come_from_the_average(monkeypatch: pytest.MonkeyPatch, batch: boxes.Batch) -> None:
    asked: list[Tensor] = []

    def none(p: Tensor, found: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        asked.append(p)
        return found.new_full((len(p), 2, 6), torch.nan), torch.full((len(p), 2), -1)

    monkeypatch.setattr(module, "confident_boxes", none)
    objective = method(decay=0.9)
    objective(batch)
    helpers.perturb([objective.network], 0.3)
    objective(batch)
    assert torch.allclose(asked[0], asked[1], atol=1e-6)
    assert objective.teacher is not None
    helpers.perturb([objective.teacher], 0.3)
    objective(batch)
    assert not torch.allclose(asked[0], asked[2], atol=1e-3)
