from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_ssl.objectives.cross_pseudo import CrossPseudo
from monai_ssl.objectives.supervised import Supervised
from monai_ssl.utils.errors import UserError
from tests import helpers

Batch = dict[str, dict[str, Tensor]]
KINDS = ["cross_entropy", "dice"]


def net(classes: int = 2, width: int = 4) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(1, width, 3, padding=1),
        nn.InstanceNorm3d(width, affine=True),
        nn.ReLU(),
        nn.Conv3d(width, classes, 1),
    )


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, label.squeeze(1).long())


def method(classes: int = 2, **arguments: Any) -> CrossPseudo:
    """Return two networks of different make, as in cross teaching."""
    objective = CrossPseudo(net(classes), cross_entropy, net(classes, width=6), **arguments)
    helpers.perturb([objective], 0.5)
    return objective


@torch.no_grad()
def say_every_class(objective: CrossPseudo, images: Tensor) -> None:
    """Center each class's logits, so that each is the largest somewhere."""
    for network in (objective.network, objective.network_b):
        last: Any = network.get_submodule("3")
        last.bias.sub_(network(images).mean((0, 2, 3, 4)))


@pytest.fixture
def batch() -> Batch:
    label = torch.zeros(2, 1, 6, 6, 6)
    label[:, :, 1:4, 2:5, 2:4] = 1
    return {
        "labeled": {"image": label + 0.3 * torch.randn(2, 1, 6, 6, 6), "label": label},
        "unlabeled": {"image": label[:1].repeat(3, 1, 1, 1, 1) + 0.3 * torch.randn(3, 1, 6, 6, 6)},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_battery_and_each_network_learns_from_its_own_terms_alone(kind: str, batch: Batch) -> None:
    objective = method(pseudo_loss=kind, weights={"pseudo": 0.1, "pseudo_b": 0.1})
    own = {"supervised": "network", "supervised_b": "network_b", "pseudo": "network", "pseudo_b": "network_b"}
    helpers.check_objective(objective, batch, reaches=own)
    assert set(objective(batch)) == set(own)
    assert helpers.frozen(objective) == []
    helpers.check_no_shared_storage(objective.network, objective.network_b)


@pytest.mark.parametrize("kind", KINDS)
def test_overfits(kind: str, batch: Batch) -> None:
    objective = CrossPseudo(net(), cross_entropy, net(), kind)
    helpers.check_overfits(objective, batch, steps=60, learning_rate=3e-2)


def by_hand(kind: str, logits: list[list[float]], labels: list[int]) -> float:
    """Compare a list of voxels' logits with their labels, in Python floats."""
    C = len(logits[0])
    p = [[math.exp(value) / sum(map(math.exp, voxel)) for value in voxel] for voxel in logits]
    if kind == "cross_entropy":
        return -sum(math.log(p[v][label]) for v, label in enumerate(labels)) / len(labels)
    losses = []
    for c in range(C):
        common = sum(p[v][c] for v, label in enumerate(labels) if label == c)
        both = sum(voxel[c] for voxel in p) + sum(label == c for label in labels)
        losses.append(1 - (2 * common + 1e-5) / (both + 1e-5))
    return sum(losses) / C


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_terms_and_figures_are_re_derived(kind: str, classes: int, batch: Batch) -> None:
    objective = method(classes, pseudo_loss=kind)
    say_every_class(objective, batch["unlabeled"]["image"])
    terms = objective(batch)
    voxels, answers = {}, {}
    for name, network in (("a", objective.network), ("b", objective.network_b)):
        labeled = network(batch["labeled"]["image"]).movedim(1, -1).reshape(-1, classes).tolist()
        truth = batch["labeled"]["label"].flatten().long().tolist()
        term = "supervised" if name == "a" else "supervised_b"
        assert terms[term].item() == pytest.approx(by_hand("cross_entropy", labeled, truth), rel=1e-4)
        voxels[name] = network(batch["unlabeled"]["image"]).movedim(1, -1).reshape(-1, classes).tolist()
        answers[name] = [max(range(classes), key=voxel.__getitem__) for voxel in voxels[name]]
        assert set(answers[name]) == set(range(classes)), "a test with a class that is never said shows little"
    assert terms["pseudo"].item() == pytest.approx(by_hand(kind, voxels["a"], answers["b"]), rel=1e-4)
    assert terms["pseudo_b"].item() == pytest.approx(by_hand(kind, voxels["b"], answers["a"]), rel=1e-4)

    pairs = list(zip(answers["a"], answers["b"], strict=True))
    said = [sum(answer > 0 for answer in answers[name]) for name in "ab"]
    figures = {
        "agreement": sum(a == b for a, b in pairs) / len(pairs),
        "foreground_agreement": 2 * sum(a == b and a > 0 for a, b in pairs) / sum(said),
        "pseudo_foreground": said[0] / len(pairs),
    }
    assert {name: value.item() for name, value in objective.figures.items()} == pytest.approx(figures)
    assert 0 < figures["foreground_agreement"] < 1


def test_without_the_pseudo_terms_each_network_is_supervised(batch: Batch) -> None:
    objective = method(weights={"pseudo": 0.0, "pseudo_b": 0.0})
    alone = [Supervised(copy.deepcopy(n), cross_entropy) for n in (objective.network, objective.network_b)]
    totals = [each.total(each(batch)) for each in alone]
    total = objective.total(objective(batch))
    assert total.item() == pytest.approx(sum(each.item() for each in totals), rel=1e-6)
    objective.weights["supervised_b"] = 0.0
    assert objective.total(objective(batch)).item() == pytest.approx(totals[0].item(), rel=1e-6)
    for each in (total, *totals):
        each.backward()
    theirs = [parameter for each in alone for parameter in each.network.parameters()]
    for mine, other in zip(objective.parameters(), theirs, strict=True):
        assert torch.allclose(mine.grad, other.grad, atol=1e-6)


def test_without_an_unlabelled_stream_both_are_supervised(batch: Batch) -> None:
    objective = method()
    objective(batch)
    terms = objective({"labeled": batch["labeled"]})
    assert list(terms) == ["supervised", "supervised_b"]
    expected = Supervised(objective.network_b, cross_entropy)(batch)["supervised"]
    assert torch.equal(terms["supervised_b"], expected)
    assert objective.figures == {}  # nothing left of the step before


def test_labels_reach_only_the_supervised_terms(batch: Batch) -> None:
    objective = method()
    before = objective(batch)
    batch["labeled"]["label"] = 1 - batch["labeled"]["label"]
    after = objective(batch)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"supervised", "supervised_b"}


def test_each_network_is_passed_once(batch: Batch) -> None:
    objective = method()
    sizes: list[int] = []
    for network in (objective.network, objective.network_b):
        network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    objective(batch)
    assert sizes == [5, 5]


def test_who_finds_nothing_agrees_on_nothing(batch: Batch) -> None:
    objective = method()
    with torch.no_grad():
        for network in (objective.network, objective.network_b):
            network.get_parameter("3.bias").copy_(torch.tensor([100.0, -100.0]))
    objective(batch)
    figures = {name: value.item() for name, value in objective.figures.items()}
    assert figures == {"agreement": 1.0, "foreground_agreement": 0.0, "pseudo_foreground": 0.0}


def test_the_first_network_is_deployed_and_a_checkpoint_holds_both(batch: Batch) -> None:
    objective = method()
    assert objective.deployed is objective.network
    assert objective.labeler is objective.network_b
    other = method()
    other.load_state_dict(copy.deepcopy(objective.state_dict()))
    assert helpers.same(dict(other(batch)), dict(objective(batch)))
    assert {name.split(".")[0] for name in objective.state_dict()} == {"network", "network_b"}


def test_networks_that_could_teach_each_other_nothing_are_refused() -> None:
    network = net()
    for again in (network, copy.deepcopy(network)):
        with pytest.raises(
            UserError, match=r"start with the same weights .* '%network_def' makes a network of its own"
        ):
            CrossPseudo(network, cross_entropy, again)
    pretrained = copy.deepcopy(network)  # only the last layer is new
    nn.init.normal_(pretrained[-1].weight)
    CrossPseudo(network, cross_entropy, pretrained)


def test_what_is_refused(batch: Batch) -> None:
    with pytest.raises(UserError, match="this method needs a second network: set network_b"):
        CrossPseudo(net(), cross_entropy, None)
    with pytest.raises(ValueError, match="`pseudo_loss` must be 'cross_entropy' or 'dice', got 'ce'"):
        CrossPseudo(net(), cross_entropy, net(), "ce")
    with pytest.raises(UserError, match=r"network_b answers in the shape \(5, 3, 6, 6, 6\), the network in \(5, 2, 6"):
        CrossPseudo(net(2), cross_entropy, net(3))(batch)
