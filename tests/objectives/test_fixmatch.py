from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_ssl.losses.pseudo_label import masked_cross_entropy
from monai_ssl.objectives import fixmatch as module
from monai_ssl.objectives.fixmatch import FixMatch
from monai_ssl.utils.errors import UserError
from tests import helpers
from tests.objectives import semi

either_labeler = pytest.mark.parametrize("decay", [None, 0.9])


def method(network: nn.Module | None = None, apart: bool = True, **arguments: Any) -> FixMatch:
    objective = FixMatch(network or semi.Net(), semi.cross_entropy, **{"threshold": 0.7, **arguments})
    if apart and objective.teacher is not None:
        helpers.perturb([objective.teacher], 0.3)
    return objective


def undecided(classes: int = 2) -> semi.Net:
    network = semi.Net(classes)
    nn.init.zeros_(network.last.weight)
    nn.init.zeros_(network.last.bias)
    return network


@pytest.fixture
def batch() -> semi.Batch:
    return semi.two_views()


@either_labeler
def test_battery(decay: float | None, batch: semi.Batch) -> None:
    objective = method(semi.Net(dropout=0.2), decay=decay)
    helpers.check_objective(objective, batch, reaches={"supervised": "network", "pseudo": "network"})
    assert helpers.frozen(objective) == ([] if decay is None else [objective.teacher])
    assert objective.deployed is objective.labeler is (objective.network if decay is None else objective.teacher)
    assert objective.learner is objective.network
    assert objective.label_threshold == 0.7


@either_labeler
def test_overfits(decay: float | None, batch: semi.Batch) -> None:
    def supervised(network: nn.Module) -> float:
        return semi.cross_entropy(network(batch["labeled"]["image"]), batch["labeled"]["label"]).item()

    # the sum of the terms begins small, where no label is kept yet
    objective = method(semi.Net(sharpness=1), apart=False, decay=decay)
    helpers.check_overfits(objective, batch, steps=60, learning_rate=3e-2, measure=supervised)


@either_labeler
@pytest.mark.parametrize("classes", [2, 3])
def test_the_terms_and_figures_are_re_derived(
    classes: int, decay: float | None, batch: semi.Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The algorithm box in Python floats: cross-entropy and soft Dice over the kept voxels, mixed voxel by voxel."""
    partners = [2, 0, 1]
    cuboids = torch.zeros(3, 1, 6, 6, 6, dtype=torch.bool)
    cuboids[0, :, 1:4, :5, 2:] = cuboids[1, :, 3:, 3:, 3:] = True
    monkeypatch.setattr(module, "draw_partners", lambda count, device: torch.tensor(partners))
    objective = method(semi.Net(classes, sharpness=4), decay=decay, mix_volume=(0.0, 1.0))
    monkeypatch.setattr(objective, "_cuboids", lambda images: cuboids)
    terms = objective(batch)

    weak, strong = batch["unlabeled"]["image"], batch["unlabeled"]["strong"]
    p = torch.softmax(objective.deployed(weak).double(), 1)
    mixed, labels = strong.clone(), {}
    for b, i, j, k in semi.voxels(weak):
        source = partners[b] if cuboids[b, 0, i, j, k] else b
        mixed[b, 0, i, j, k] = strong[source, 0, i, j, k]
        there = p[source, :, i, j, k].tolist()
        if max(there) > 0.7:
            labels[b, i, j, k] = there.index(max(there))
    mine = torch.softmax(objective.network(mixed).double(), 1)
    entropy = [-math.log(mine[b, label, i, j, k].item()) for (b, i, j, k), label in labels.items()]
    dice = 0.0
    for number in range(1, classes):
        predicted = sum(mine[b, number, i, j, k].item() for b, i, j, k in labels)
        common = sum(mine[b, number, i, j, k].item() for (b, i, j, k), label in labels.items() if label == number)
        wanted = sum(label == number for label in labels.values())
        dice += 1 - (2 * common + 1e-5) / (predicted + wanted + 1e-5)
    expected = 0.5 * (sum(entropy) / len(entropy) + dice / (classes - 1))
    assert 0 < len(labels) < weak.numel()
    assert terms["pseudo"].item() == pytest.approx(expected, rel=1e-4)

    argmax, largest = p.argmax(1), p.amax(1)
    kept, foreground = largest > 0.7, argmax > 0
    assert 0 < (kept & foreground).sum() < foreground.sum()
    figures = {name: figure.item() for name, figure in objective.figures.items()}
    assert figures == pytest.approx(
        {
            "kept": kept.double().mean().item(),
            "kept_foreground": (kept & foreground).sum().item() / foreground.sum().item(),
            "pseudo_foreground": foreground.double().mean().item(),
        }
    )


@either_labeler
def test_labels_carry_no_gradient_to_the_weak_view(decay: float | None, batch: semi.Batch) -> None:
    unlabeled = batch["unlabeled"]
    for view in unlabeled.values():
        view.requires_grad_(True)
    term = method(decay=decay)(batch)["pseudo"]
    weak, strong = torch.autograd.grad(term, [unlabeled["image"], unlabeled["strong"]], allow_unused=True)
    assert weak is None
    assert strong.any()


@either_labeler
def test_labels_are_made_in_evaluation_mode_and_without_a_graph(decay: float | None, batch: semi.Batch) -> None:
    objective = method(semi.Net(dropout=0.5), decay=decay)
    objective.network.norm.eval()  # as a part that a transfer schedule has frozen
    graphs: list[bool] = []
    objective.labeler.register_forward_hook(lambda *_: graphs.append(torch.is_grad_enabled()))
    labels = [objective._labels(batch["unlabeled"]["image"]) for _ in range(3)]
    assert graphs == [False] * 3
    assert helpers.same(labels[0], labels[1])
    assert helpers.same(labels[0], labels[2])
    assert objective.network.drop.training
    assert not objective.network.norm.training
    if objective.teacher is not None:
        objective.train()
        assert not any(part.training for part in objective.teacher.modules())


def test_a_label_at_the_threshold_is_left_out_and_is_no_background(batch: semi.Batch) -> None:
    objective = method(undecided(), threshold=0.5)
    terms = objective(batch)
    assert terms["pseudo"].item() == 0
    assert objective.figures["kept"].item() == 0
    objective.total(terms).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in objective.network.parameters())
    pushed = method(undecided(), threshold=0.4)(batch)["pseudo"]
    assert pushed.item() > 0.3  # half of ln 2: all are kept as class 0


def test_all_is_kept_at_threshold_zero(batch: semi.Batch) -> None:
    batch["unlabeled"]["strong"] = batch["unlabeled"]["image"].clone()
    objective = method(threshold=0.0, mix_prob=0.0, pseudo_loss=masked_cross_entropy)
    term = objective(batch)["pseudo"]
    p = torch.softmax(objective.network(batch["unlabeled"]["image"]), 1)
    assert term.item() == pytest.approx(-p.amax(1).log().mean().item(), rel=1e-5)
    assert objective.figures["kept"].item() == objective.figures["kept_foreground"].item() == 1


def test_cuboids() -> None:
    images = torch.zeros(300, 1, 8, 8, 8)
    never, always, half = (
        method(mix_prob=prob, mix_volume=(0.1, 0.3))._cuboids(images).flatten(1).double().mean(1)
        for prob in (0.0, 1.0, 0.5)
    )
    assert not never.any()
    # sides are rounded to whole voxels: 0.1 and 0.3 of the volume are 3.7 and 5.4 of 8 voxels
    assert (always.min().item(), always.max().item()) == (4**3 / 8**3, 5**3 / 8**3)
    assert (half > 0).double().mean().item() == pytest.approx(0.5, abs=0.1)


def test_a_single_case_is_left_unmixed(batch: semi.Batch) -> None:
    batch["unlabeled"] = {name: view[:1] for name, view in batch["unlabeled"].items()}
    network = semi.Net()
    mixed, plain = (method(network, mix_prob=prob)(batch)["pseudo"] for prob in (1.0, 0.0))
    assert torch.equal(mixed, plain)


def test_it_learns_under_autocast(batch: semi.Batch) -> None:
    """The pass without gradient comes first; it may not leave weights behind that the second one takes for constant."""
    objective = method(threshold=0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        objective(batch)["pseudo"].backward()
    assert all(parameter.grad is not None for parameter in objective.network.parameters())
    assert objective.network.first.weight.grad.any()


@either_labeler
def test_weight_zero_is_supervised(decay: float | None, batch: semi.Batch) -> None:
    semi.check_supervised_at_weight_zero(lambda network: method(network, decay=decay), "pseudo", batch)


@either_labeler
def test_without_unlabelled_cases_it_is_supervised(decay: float | None, batch: semi.Batch) -> None:
    semi.check_supervised_without_unlabeled(lambda network: method(network, decay=decay), batch)


@either_labeler
def test_resumes_exactly(decay: float | None, batch: semi.Batch) -> None:
    semi.check_resumes(lambda network: method(network, decay=decay), batch)


def test_the_teacher_follows_where_there_is_one() -> None:
    objective = method(decay=0.9)
    for step, decay in ((0, 0.0), (1, 0.5), (500, 0.9)):
        helpers.perturb([objective.network], 0.3)
        old = copy.deepcopy(objective.teacher.state_dict())
        objective.update_teacher(step)
        for name, value in objective.teacher.state_dict().items():
            expected = decay * old[name] + (1 - decay) * objective.network.state_dict()[name]
            assert torch.allclose(value, expected, atol=1e-6), (step, name)
    objective.reset_teacher()
    assert helpers.same(objective.teacher.state_dict(), objective.network.state_dict())
    alone = method()
    before: dict[str, Tensor] = copy.deepcopy(alone.state_dict())
    alone.reset_teacher()
    alone.update_teacher(3)
    assert helpers.same(before, alone.state_dict())
    assert all(name.startswith("network.") for name in before)


def test_the_strong_view_is_needed(batch: semi.Batch) -> None:
    with pytest.raises(
        UserError, match=r"needs the entry 'blurred' in the unlabelled stream; it has image, strong\. .*`views`"
    ):
        method(strong="blurred")(batch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.0}, r"`threshold` must be in \[0, 1\), got 1\.0\."),
        ({"threshold": -0.1}, r"`threshold` must be in \[0, 1\), got -0\.1\."),
        ({"mix_prob": 1.1}, r"`mix_prob` must be in \[0, 1\], got 1\.1\."),
        (
            {"mix_volume": (0.4, 0.02)},
            r"`mix_volume` must be two numbers in \[0, 1\], the least first, got \(0\.4, 0\.",
        ),
        ({"mix_volume": (0.5,)}, r"`mix_volume` must be two numbers in \[0, 1\], the least first, got \(0\.5,\)\."),
        ({"mix_volume": (0.5, 1.5)}, r"`mix_volume` must be two numbers in \[0, 1\], the least first"),
        ({"decay": 1.0}, r"`decay` must be in \[0, 1\), got 1\.0\."),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(**arguments)
