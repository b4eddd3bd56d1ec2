from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from monai_ssl.objectives.supervised import Supervised
from tests import helpers

Batch = dict[str, dict[str, torch.Tensor]]


def network(channels: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, channels, 3, padding=1), nn.InstanceNorm3d(channels), nn.ReLU(), nn.Conv3d(channels, 2, 1)
    )


@pytest.fixture
def batch() -> Batch:
    label = torch.zeros(2, 1, 6, 6, 6)
    label[:, :, 1:4, 2:5, 2:4] = 1
    return {
        "labeled": {"image": label + 0.3 * torch.randn(2, 1, 6, 6, 6), "label": label},
        "unlabeled": {"image": torch.randn(3, 1, 6, 6, 6)},
    }


def cross_entropy(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, label.squeeze(1).long())


def test_battery(batch: Batch) -> None:
    helpers.check_objective(Supervised(network(), cross_entropy), batch, reaches={"supervised": "network"})


def test_is_the_loss_of_the_labelled_cases(batch: Batch) -> None:
    objective = Supervised(network(), cross_entropy)
    terms = objective(batch)
    assert list(terms) == ["supervised"]
    logits, label = objective.network(batch["labeled"]["image"]), batch["labeled"]["label"].long()
    by_hand = -torch.log_softmax(logits, dim=1).gather(1, label).mean()
    assert terms["supervised"].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_never_looks_at_unlabelled_cases(batch: Batch) -> None:
    objective = Supervised(network(), cross_entropy)
    with_them = objective(batch)["supervised"]
    broken = {"labeled": batch["labeled"], "unlabeled": {"image": torch.full((1,), float("nan"))}}
    assert torch.equal(objective(broken)["supervised"], with_them)
    assert torch.equal(objective({"labeled": batch["labeled"]})["supervised"], with_them)


def test_weights_the_term_and_deploys_the_network(batch: Batch) -> None:
    objective = Supervised(network(), cross_entropy, weights={"supervised": 0.5})
    terms = objective(batch)
    assert objective.total(terms).item() == pytest.approx(0.5 * terms["supervised"].item())
    assert objective.deployed is objective.network


@pytest.mark.parametrize("loss", [cross_entropy, DiceCELoss(softmax=True, to_onehot_y=True)])
def test_overfits(batch: Batch, loss: object) -> None:
    helpers.check_overfits(Supervised(network(), loss), batch, steps=60, learning_rate=3e-2)
