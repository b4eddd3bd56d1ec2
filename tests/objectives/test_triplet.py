from __future__ import annotations

import pytest
import torch

from monai_ssl.networks.heads import ProjectionHead
from monai_ssl.objectives.multitask import Multitask
from monai_ssl.objectives.triplet import Triplet
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives.pretext import images, network


def objective() -> Multitask:
    return Multitask(network(projection=ProjectionHead([(8, 4, 4, 4)], 8)), [Triplet()])


def batch() -> dict[str, dict[str, torch.Tensor]]:
    scans = images(4)[:, None]
    changed = scans + 0.3 * torch.randn(scans.shape, generator=torch.Generator().manual_seed(2))
    return {"unlabeled": {"image": torch.cat([changed, scans], 1)}}


def test_battery() -> None:
    helpers.check_objective(objective(), batch())


def test_anchor_positive_and_the_next_scan_by_hand() -> None:
    features = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    task = Triplet(margin=0.5)
    term = task({"projection": features.flatten(0, 1)}, {})["triplet"]
    by_hand, right = [], 0
    for case in range(3):
        anchor, positive = features[case].double()
        negative = features[(case + 1) % 3, 1].double()
        near, far = ((anchor - other) ** 2 for other in (positive, negative))
        by_hand.append(max(0.0, near.mean().item() - far.mean().item() + 0.5))
        right += near.sum() < far.sum()
    assert term.item() == pytest.approx(sum(by_hand) / 3, rel=1e-5)
    assert task.figures["triplet_accuracy"].item() == pytest.approx(right / 3)


def test_overfits() -> None:
    helpers.check_overfits(objective(), batch(), steps=60, ratio=0.5)


def test_one_scan_has_no_other() -> None:
    with pytest.raises(UserError, match="triplets need another scan in every batch: list two unlabelled scans"):
        objective()({"unlabeled": {"image": batch()["unlabeled"]["image"][:1]}})


def test_a_crop_of_the_same_scan_is_no_negative() -> None:
    features = torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(0))
    expected = []
    for case, other in ((0, 2), (1, 2), (2, 3), (3, 0)):
        near, far = ((features[case, 0] - one).square().mean() for one in (features[case, 1], features[other, 1]))
        expected.append(torch.relu(near - far + 1.0))
    term = Triplet()({"projection": features.flatten(0, 1)}, {"scan": torch.tensor([7, 7, 3, 1])})["triplet"]
    assert torch.allclose(term, torch.stack(expected).mean())
    with pytest.raises(UserError, match="list two unlabelled scans"):
        Triplet()({"projection": features.flatten(0, 1)}, {"scan": torch.tensor([7, 7, 7, 7])})
