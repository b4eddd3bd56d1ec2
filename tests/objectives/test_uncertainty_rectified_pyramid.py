from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_ssl.networks.pyramid_network import PyramidNetwork
from monai_ssl.objectives.supervised import Supervised
from monai_ssl.objectives.uncertainty_rectified_pyramid import UncertaintyRectifiedPyramid
from tests import helpers

Batch = dict[str, dict[str, Tensor]]
PATCH = (8, 8, 8)


def pyramid(dropout: tuple[float, ...] = (0.0, 0.0, 0.0), classes: int = 2) -> PyramidNetwork:
    bare = UNet(3, 1, classes, (4, 6, 8), (2, 2), num_res_units=1, norm=("instance", {"affine": True}))
    return PyramidNetwork(bare, 1, PATCH, dropout)


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, label.squeeze(1).long())


def method(network: PyramidNetwork | None = None, **arguments: Any) -> UncertaintyRectifiedPyramid:
    return UncertaintyRectifiedPyramid(network or pyramid(), cross_entropy, **arguments)


class Scale(nn.Module):
    """One scale of a pyramid."""

    def __init__(self, pyramid: PyramidNetwork, index: int) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.index = index

    def forward(self, images: Tensor) -> Tensor:
        return self.pyramid(images)[self.index]


@pytest.fixture
def batch() -> Batch:
    label = torch.zeros(2, 1, *PATCH)
    label[:, :, 1:5, 2:6, 2:7] = 1
    return {
        "labeled": {"image": label + 0.3 * torch.randn(2, 1, *PATCH), "label": label},
        "unlabeled": {"image": label[:1].repeat(3, 1, 1, 1, 1) + 0.3 * torch.randn(3, 1, *PATCH)},
    }


def test_battery(batch: Batch) -> None:
    objective = method(pyramid((0.1, 0.2, 0.3)), weights={"consistency": 0.1})
    helpers.check_objective(objective, batch, reaches={"supervised": "network", "consistency": "network"})
    assert helpers.frozen(objective) == []


def test_every_term_trains_every_scale_and_nothing_is_left_out(batch: Batch) -> None:
    objective = method()
    for name, term in objective(batch).items():
        gradients = torch.autograd.grad(term, list(objective.parameters()), retain_graph=True, allow_unused=True)
        idle = [n for (n, _), g in zip(objective.named_parameters(), gradients, strict=True) if g is None]
        assert not idle, name
        assert all(
            g.any() for (n, _), g in zip(objective.named_parameters(), gradients, strict=True) if "heads" in n
        ), name


def test_overfits(batch: Batch) -> None:
    helpers.check_overfits(method(), batch, steps=50, learning_rate=2e-2)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_terms_and_figures_are_re_derived(classes: int, batch: Batch) -> None:
    objective = method(pyramid(classes=classes))
    helpers.perturb([objective.network.network.model[2]], 0.3)
    terms = objective(batch)

    truth = batch["labeled"]["label"].flatten().long().tolist()
    losses = []
    for logits in objective.network(batch["labeled"]["image"]):
        voxels = torch.log_softmax(logits.double(), 1).movedim(1, -1).reshape(-1, classes).tolist()
        losses.append(-sum(voxel[label] for voxel, label in zip(voxels, truth, strict=True)) / len(truth))
    assert terms["supervised"].item() == pytest.approx(sum(losses) / 3, rel=1e-5)

    scales = [
        torch.softmax(logits.double(), 1).movedim(1, -1).reshape(-1, classes).tolist()
        for logits in objective.network(batch["unlabeled"]["image"])
    ]
    V, total = len(scales[0]), 0.0
    mean = [[sum(scale[v][c] for scale in scales) / 3 for c in range(classes)] for v in range(V)]
    for scale in scales:
        D = [sum(mean[v][c] * math.log(mean[v][c] / scale[v][c]) for c in range(classes)) for v in range(V)]
        squares = sum((mean[v][c] - scale[v][c]) ** 2 * math.exp(-D[v]) for v in range(V) for c in range(classes))
        total += squares / classes / sum(math.exp(-d) for d in D) + sum(D) / V
    assert terms["consistency"].item() == pytest.approx(total / 3, rel=1e-4)

    said = [[max(range(classes), key=voxel.__getitem__) for voxel in scale] for scale in scales]
    figures = {
        "scale_agreement": sum(len(set(answers)) == 1 for answers in zip(*said, strict=True)) / V,
        "pseudo_foreground": sum(answer > 0 for answer in said[0]) / V,
    }
    assert {name: value.item() for name, value in objective.figures.items()} == pytest.approx(figures)
    assert all(0 < value < 1 for value in figures.values())


def test_weight_zero_is_deep_supervision(batch: Batch) -> None:
    objective = method(weights={"consistency": 0.0})
    network: Any = copy.deepcopy(objective.network)
    alone = [Supervised(Scale(network, index), cross_entropy) for index in range(3)]
    expected = torch.stack([each.total(each(batch)) for each in alone]).mean()
    total = objective.total(objective(batch))
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    total.backward()
    expected.backward()
    for mine, theirs in zip(objective.network.parameters(), network.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-6)


def test_without_an_unlabelled_stream_it_is_supervised(batch: Batch) -> None:
    objective = method()
    whole = objective(batch)
    assert objective.figures
    terms = objective({"labeled": batch["labeled"]})
    assert list(terms) == ["supervised"]
    assert terms["supervised"].item() == pytest.approx(whole["supervised"].item(), rel=1e-5)
    assert objective.figures == {}


def test_labels_reach_only_the_supervised_term(batch: Batch) -> None:
    objective = method()
    before = objective(batch)
    batch["labeled"]["label"] = 1 - batch["labeled"]["label"]
    after = objective(batch)
    assert not torch.equal(before["supervised"], after["supervised"])
    assert torch.equal(before["consistency"], after["consistency"])


def test_the_network_is_passed_once(batch: Batch) -> None:
    objective = method()
    sizes: list[int] = []
    objective.deployed.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    objective(batch)
    assert sizes == [5]


def test_the_bare_network_is_deployed_and_a_checkpoint_holds_the_heads(batch: Batch) -> None:
    objective = method()
    bare: Any = UNet(3, 1, 2, (4, 6, 8), (2, 2), num_res_units=1, norm=("instance", {"affine": True}))
    bare.load_state_dict(objective.deployed_state())
    assert objective.learner is objective.deployed
    images = batch["unlabeled"]["image"]
    assert helpers.same(bare.eval()(images), objective.eval().network(images)[0])
    other = method()
    other.load_state_dict(copy.deepcopy(objective.state_dict()))
    assert helpers.same(dict(other.eval()(batch)), dict(objective.eval()(batch)))
    assert any(name.startswith("network.heads.") for name in objective.state_dict())


def test_a_network_without_heads_is_refused() -> None:
    with pytest.raises(ValueError, match="`network` must be a PyramidNetwork, got UNet"):
        UncertaintyRectifiedPyramid(UNet(3, 1, 2, (4, 6), (2,)), cross_entropy)
