from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from monai_ssl.objectives.entropy_minimisation import EntropyMinimisation
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives import semi


def method(network: nn.Module | None = None) -> EntropyMinimisation:
    return EntropyMinimisation(network or semi.Net(), semi.cross_entropy)


@pytest.fixture
def batch() -> semi.Batch:
    return semi.two_views()


def test_battery(batch: semi.Batch) -> None:
    objective = method(semi.Net(dropout=0.2))
    helpers.check_objective(objective, batch, reaches={"supervised": "network", "entropy": "network"})
    assert objective.deployed is objective.network


def test_overfits(batch: semi.Batch) -> None:
    helpers.check_overfits(method(semi.Net(sharpness=1)), batch, steps=60, learning_rate=3e-2)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_terms_and_figures_are_re_derived(classes: int, batch: semi.Batch) -> None:
    objective = method(semi.Net(classes, sharpness=2))
    terms = objective(batch)
    label, unlabeled = batch["labeled"]["label"], batch["unlabeled"]["image"]
    own = torch.softmax(objective.network(batch["labeled"]["image"]).double(), 1)
    by_hand = [-math.log(own[b, int(label[b, 0, i, j, k]), i, j, k].item()) for b, i, j, k in semi.voxels(label)]
    assert terms["supervised"].item() == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-4)

    p = torch.softmax(objective.network(unlabeled).double(), 1)
    entropies, largest, foreground = [], [], []
    for b, i, j, k in semi.voxels(unlabeled):
        here = p[b, :, i, j, k].tolist()
        entropies.append(-sum(c * math.log(c) for c in here))
        largest.append(max(here))
        foreground.append(here.index(max(here)) > 0)
    count = len(entropies)
    assert terms["entropy"].item() == pytest.approx(sum(entropies) / count, rel=1e-4)
    assert objective.figures["confidence"].item() == pytest.approx(sum(largest) / count, rel=1e-4)
    assert objective.figures["pseudo_foreground"].item() == pytest.approx(sum(foreground) / count)
    assert 0 < sum(foreground) < count


def test_an_undecided_network_has_the_largest_entropy_and_is_not_pushed(batch: semi.Batch) -> None:
    network = semi.Net(classes=3)
    nn.init.zeros_(network.last.weight)
    nn.init.zeros_(network.last.bias)
    objective = method(network)
    term = objective(batch)["entropy"]
    assert term.item() == pytest.approx(math.log(3))
    gradient = torch.autograd.grad(term, network.last.weight)[0]
    assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-6)


def test_probabilities_of_zero_give_no_nan(batch: semi.Batch) -> None:
    objective = method(semi.Net(sharpness=1e4))
    terms = objective(batch)
    assert objective.figures["confidence"].item() > 0.99
    assert terms["entropy"].item() >= 0
    objective.total(terms).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in objective.network.parameters())


def test_weight_zero_is_supervised(batch: semi.Batch) -> None:
    semi.check_supervised_at_weight_zero(method, "entropy", batch)


def test_without_unlabelled_cases_it_is_supervised(batch: semi.Batch) -> None:
    semi.check_supervised_without_unlabeled(method, batch)


def test_resumes_exactly(batch: semi.Batch) -> None:
    semi.check_resumes(method, batch)


def test_labelled_cases_are_needed(batch: semi.Batch) -> None:
    with pytest.raises(UserError, match="set labeled_batch_size to 1 or more"):
        method()({"unlabeled": batch["unlabeled"]})
