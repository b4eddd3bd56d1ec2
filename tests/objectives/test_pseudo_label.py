from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_ssl.losses.pseudo_label import masked_cross_entropy
from monai_ssl.objectives.pseudo_label import IGNORE, PseudoLabel
from monai_ssl.objectives.supervised import Supervised
from tests import helpers
from tests.objectives import semi

with_and_without_teacher = pytest.mark.parametrize("decay", [None, 0.9])


def method(network: nn.Module | None = None, **arguments: Any) -> PseudoLabel:
    return PseudoLabel(network or semi.Net(), semi.cross_entropy, **arguments)


@pytest.fixture
def batch() -> semi.Batch:
    """Three unlabelled patches with pseudo-labels: some background, some foreground, the rest not labelled."""
    two = semi.two_views()
    image = two["unlabeled"]["image"]
    label = torch.full((3, 1, 6, 6, 6), IGNORE, dtype=torch.uint8)
    label[:, :, :, :3], label[:, :, 1:4, 2:5, 2:4] = 0, 1
    label[2, :, :3] = IGNORE
    return {"labeled": two["labeled"], "unlabeled": {"image": image, "label": label}}


@with_and_without_teacher
def test_battery(decay: float | None, batch: semi.Batch) -> None:
    objective = method(semi.Net(dropout=0.2), decay=decay)
    helpers.check_objective(objective, batch, reaches={"supervised": "network", "pseudo": "network"})
    assert helpers.frozen(objective) == ([] if decay is None else [objective.teacher])
    assert objective.deployed is objective.labeler is (objective.network if decay is None else objective.teacher)
    assert objective.learner is objective.network
    assert method(threshold=0.7).label_threshold == 0.7


@with_and_without_teacher
def test_overfits(decay: float | None, batch: semi.Batch) -> None:
    helpers.check_overfits(method(decay=decay), batch, steps=60, learning_rate=3e-2)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_terms_and_figures_are_re_derived(classes: int, dtype: torch.dtype, batch: semi.Batch) -> None:
    """Cross-entropy and soft Dice in Python floats, over the labelled voxels of the pseudo-labels alone."""
    pseudo = batch["unlabeled"]["label"]
    pseudo[0, 0, 1, 2, 2] = classes - 1
    objective = method(semi.Net(classes))
    terms = objective({**batch, "unlabeled": {**batch["unlabeled"], "label": pseudo.to(dtype)}})
    image = batch["unlabeled"]["image"]
    p = torch.softmax(objective.network(image).double(), 1)
    labels = {(b, i, j, k): int(pseudo[b, 0, i, j, k]) for b, i, j, k in semi.voxels(image)}
    labels = {place: label for place, label in labels.items() if label != 255}
    entropy = [-math.log(p[b, label, i, j, k].item()) for (b, i, j, k), label in labels.items()]
    dice = 0.0
    for number in range(1, classes):
        predicted = sum(p[b, number, i, j, k].item() for b, i, j, k in labels)
        common = sum(p[b, number, i, j, k].item() for (b, i, j, k), label in labels.items() if label == number)
        wanted = sum(label == number for label in labels.values())
        dice += 1 - (2 * common + 1e-5) / (predicted + wanted + 1e-5)
    assert 0 < len(labels) < pseudo.numel()
    assert terms["pseudo"].item() == pytest.approx(0.5 * (sum(entropy) / len(entropy) + dice / (classes - 1)), rel=1e-4)
    labeled = batch["labeled"]
    alone = semi.cross_entropy(objective.network(labeled["image"]), labeled["label"])
    assert terms["supervised"].item() == pytest.approx(alone.item(), rel=1e-5)
    figures = {name: figure.item() for name, figure in objective.figures.items()}
    foreground = sum(label > 0 for label in labels.values()) / len(labels)
    assert figures == pytest.approx({"kept": len(labels) / pseudo.numel(), "pseudo_foreground": foreground})


@pytest.mark.parametrize("loss", [None, masked_cross_entropy])
def test_a_voxel_without_label_has_no_gradient_and_is_no_background(loss: Any, batch: semi.Batch) -> None:
    """A pointwise network: what stands at one voxel reaches the loss there alone."""
    objective = method(nn.Conv3d(1, 2, 1), pseudo_loss=loss)
    image, label = batch["unlabeled"]["image"].requires_grad_(True), batch["unlabeled"]["label"]
    term = objective(batch)["pseudo"]
    (gradient,) = torch.autograd.grad(term, image)
    assert not gradient[label == IGNORE].any()
    assert gradient[label != IGNORE].all()
    batch["unlabeled"]["label"] = torch.where(label == IGNORE, 0, label)
    assert abs(objective(batch)["pseudo"].item() - term.item()) > 1e-3


def test_without_a_kept_voxel_the_term_is_0_and_harms_nothing(batch: semi.Batch) -> None:
    batch["unlabeled"]["label"].fill_(IGNORE)
    objective = method()
    terms = objective(batch)
    assert terms["pseudo"].item() == 0
    assert {name: figure.item() for name, figure in objective.figures.items()} == {"kept": 0, "pseudo_foreground": 0}
    objective.total(terms).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in objective.network.parameters())


def test_round_0_is_supervised_and_looks_at_no_unlabelled_image(batch: semi.Batch) -> None:
    del batch["unlabeled"]["label"]
    network = semi.Net()
    seen: list[int] = []
    network.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    objective, supervised = method(network), Supervised(network, semi.cross_entropy)
    terms = objective(batch)
    assert seen == [2]
    assert torch.equal(terms["supervised"], supervised(batch)["supervised"])
    # named from the first step on, for the log's columns
    assert list(terms) == ["supervised", "pseudo"]
    assert terms["pseudo"].item() == 0
    assert list(objective.figures) == ["kept", "pseudo_foreground"]
    assert all(math.isnan(figure.item()) for figure in objective.figures.values())
    assert torch.equal(objective.total(terms), supervised.total(supervised(batch)))


def test_it_learns_under_autocast(batch: semi.Batch) -> None:
    objective = method()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        term = objective(batch)["pseudo"]
    assert term.dtype == torch.float32
    term.backward()
    assert objective.network.first.weight.grad.any()


def test_weight_zero_is_supervised(batch: semi.Batch) -> None:
    semi.check_supervised_at_weight_zero(method, "pseudo", batch)


@with_and_without_teacher
def test_without_unlabelled_cases_it_is_supervised(decay: float | None, batch: semi.Batch) -> None:
    semi.check_supervised_without_unlabeled(lambda network: method(network, decay=decay), batch)


@with_and_without_teacher
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
    objective.train()
    assert objective.network.training
    assert not any(part.training for part in objective.teacher.modules())
    alone = method()
    before: dict[str, Tensor] = copy.deepcopy(alone.state_dict())
    alone.reset_teacher()
    alone.update_teacher(3)
    assert helpers.same(before, alone.state_dict())
    assert all(name.startswith("network.") for name in before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.0}, r"`threshold` must be in \[0, 1\), got 1\.0\."),
        ({"threshold": -0.1}, r"`threshold` must be in \[0, 1\), got -0\.1\."),
        ({"decay": 1.0}, r"`decay` must be in \[0, 1\), got 1\.0\."),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(**arguments)
