from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_ssl.objectives.mean_teacher import MeanTeacher
from monai_ssl.objectives.supervised import Supervised
from tests import helpers

Batch = dict[str, dict[str, Tensor]]


class Net(nn.Module):
    """A small network whose logits can be sharpened."""

    def __init__(self, dropout: float = 0.0, sharpness: float = 5.0, classes: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.InstanceNorm3d(4, affine=True)
        self.drop = nn.Dropout3d(dropout)
        self.last = nn.Conv3d(4, classes, 1)
        self.sharpness = sharpness

    def forward(self, image: Tensor) -> Tensor:
        return self.sharpness * self.last(self.drop(torch.relu(self.norm(self.first(image)))))


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, label.squeeze(1).long())


def method(network: nn.Module | None = None, apart: bool = True, **arguments: Any) -> MeanTeacher:
    objective = MeanTeacher(network or Net(), cross_entropy, **arguments)
    if apart:
        helpers.perturb([objective.teacher], 0.3)
    return objective


@pytest.fixture
def batch() -> Batch:
    label = torch.zeros(2, 1, 6, 6, 6)
    label[:, :, 1:4, 2:5, 2:4] = 1
    return {
        "labeled": {"image": label + 0.3 * torch.randn(2, 1, 6, 6, 6), "label": label},
        "unlabeled": {"image": label[:1].repeat(3, 1, 1, 1, 1) + 0.3 * torch.randn(3, 1, 6, 6, 6)},
    }


@pytest.mark.parametrize("uncertainty_samples", [0, 3])
def test_battery(uncertainty_samples: int, batch: Batch) -> None:
    objective = method(Net(dropout=0.2), uncertainty_samples=uncertainty_samples, weights={"consistency": 0.1})
    helpers.check_objective(objective, batch, reaches={"supervised": "network", "consistency": "network"})
    assert helpers.frozen(objective) == [objective.teacher]


@pytest.mark.parametrize("uncertainty_samples", [0, 3])
def test_overfits(uncertainty_samples: int, batch: Batch) -> None:
    objective = method(Net(sharpness=1), apart=False, uncertainty_samples=uncertainty_samples)
    helpers.check_overfits(objective, batch, steps=60, learning_rate=3e-2)


@pytest.mark.parametrize(("samples", "progress", "classes"), [(0, 0.5, 2), (1, 0.0, 2), (4, 0.3, 3), (8, 1.0, 2)])
def test_the_terms_are_re_derived(samples: int, progress: float, classes: int, batch: Batch) -> None:
    """The algorithm box in Python floats; without dropout and noise the teacher's passes are all alike."""
    objective = method(Net(classes=classes, sharpness=3), uncertainty_samples=samples, noise=0.0)
    objective.progress = progress
    terms = objective(batch)

    x, y, u = batch["labeled"]["image"], batch["labeled"]["label"], batch["unlabeled"]["image"]
    student = torch.log_softmax(objective.network(x).double(), 1)
    by_hand = [-student[b, int(y[b, 0, i, j, k]), i, j, k].item() for b, i, j, k in voxels(y)]
    assert terms["supervised"].item() == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-4)

    p, q = (torch.softmax(net(u).double(), 1) for net in (objective.network, objective.teacher))
    threshold = (0.75 + 0.25 * math.exp(-5 * (1 - progress) ** 2)) * math.log(classes)
    total, trusted = 0.0, 0
    for b, i, j, k in voxels(u):
        mine, theirs = p[b, :, i, j, k].tolist(), q[b, :, i, j, k].tolist()
        if samples == 0 or -sum(c * math.log(c) for c in theirs) < threshold:
            trusted += 1
            total += sum((m - t) ** 2 for m, t in zip(mine, theirs, strict=True))
    assert trusted > 0
    assert terms["consistency"].item() == pytest.approx(total / (classes * trusted), rel=1e-3)


def voxels(image: Tensor) -> list[tuple[int, ...]]:
    B, _, *space = image.shape
    return [(b, i, j, k) for b in range(B) for i in range(space[0]) for j in range(space[1]) for k in range(space[2])]


def test_the_mask_comes_from_the_mean_of_the_noisy_passes_with_dropout(batch: Batch) -> None:
    objective = method(Net(dropout=0.5, sharpness=2), uncertainty_samples=5, noise=0.2)
    u = batch["unlabeled"]["image"]
    torch.manual_seed(3)
    target, mask = objective._target(u)
    torch.manual_seed(3)
    passes = []
    for index in range(6):
        noisy = u + (torch.randn_like(u) * 0.2).clamp(-0.4, 0.4)
        objective.teacher.drop.train(index > 0)
        passes.append(torch.softmax(objective.teacher(noisy), 1).detach())
    assert torch.allclose(target, passes[0], atol=1e-6)
    mean = torch.stack(passes[1:]).mean(0)
    entropy = -(mean * mean.log()).sum(1, keepdim=True)
    expected = entropy < (0.75 + 0.25 * math.exp(-5)) * math.log(2)
    assert torch.equal(mask, expected)
    assert 0 < expected.float().mean() < 1


def test_the_threshold_rises_with_progress_and_ends_at_the_largest_entropy(batch: Batch) -> None:
    objective = method(Net(sharpness=1), uncertainty_samples=1, noise=0.0)
    trusted = []
    for progress in (0.0, 0.3, 0.6, 0.9, 1.0):
        objective.progress = progress
        trusted.append(objective._target(batch["unlabeled"]["image"])[1])
    for less, more in itertools.pairwise(trusted):
        assert not (less & ~more).any()
    assert trusted[0].sum() < trusted[-1].sum()
    assert trusted[-1].all()  # nothing but an exactly uniform voxel is uncertain at the end


def test_an_uncertain_teacher_teaches_nothing(batch: Batch) -> None:
    objective = method(apart=False, uncertainty_samples=2)
    with torch.no_grad():
        objective.teacher.last.weight.zero_()
        objective.teacher.last.bias.zero_()
    objective.progress = 1.0
    terms = objective(batch)
    assert terms["consistency"].item() == 0
    objective.total(terms).backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.network.parameters())


def test_weight_zero_is_supervised(batch: Batch) -> None:
    network = Net()
    supervised = Supervised(copy.deepcopy(network), cross_entropy)
    objective = method(network, weights={"consistency": 0.0})
    totals = [each.total(each(batch)) for each in (supervised, objective)]
    assert totals[1].item() == pytest.approx(totals[0].item(), rel=1e-5)
    for total in totals:
        total.backward()
    for mine, theirs in zip(network.parameters(), supervised.network.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-5)


def test_without_an_unlabelled_stream_it_is_supervised(batch: Batch) -> None:
    network = Net()
    objective = method(network)
    terms = objective({"labeled": batch["labeled"]})
    assert list(terms) == ["supervised"]
    assert torch.equal(terms["supervised"], Supervised(network, cross_entropy)(batch)["supervised"])


def test_a_teacher_like_its_student_leaves_nothing_to_agree_on(batch: Batch) -> None:
    objective = method(apart=False, noise=0.0)
    assert objective(batch)["consistency"].item() == pytest.approx(0, abs=1e-10)


def test_labels_and_teacher_reach_only_their_own_term(batch: Batch) -> None:
    objective = method(noise=0.0)
    first = objective(batch)
    batch["labeled"]["label"] = 1 - batch["labeled"]["label"]
    relabeled = objective(batch)
    helpers.perturb([objective.teacher], 0.3)
    retaught = objective(batch)
    assert not torch.equal(relabeled["supervised"], first["supervised"])
    assert torch.equal(relabeled["consistency"], first["consistency"])
    assert torch.equal(retaught["supervised"], relabeled["supervised"])
    assert not torch.equal(retaught["consistency"], relabeled["consistency"])


def test_the_teacher_stays_in_evaluation_mode(batch: Batch) -> None:
    objective = method(Net(dropout=0.5), uncertainty_samples=2)
    for switch in (objective.train, objective.eval, objective.train, lambda: objective.train(True)):
        assert switch() is objective
        assert objective.network.training == objective.training
        assert not any(module.training for module in objective.teacher.modules())
    objective(batch)
    assert objective.network.drop.training
    assert not any(module.training for module in objective.teacher.modules())


def test_the_noise_is_clamped_at_twice_its_deviation() -> None:
    objective = method(noise=0.1)
    image = torch.zeros(1, 1, 40, 40, 40)
    noise = objective._noisy(image)
    assert noise.abs().max().item() == pytest.approx(0.2)
    assert (noise.abs() >= 0.2).float().mean().item() == pytest.approx(0.0455, abs=0.005)  # beyond two deviations
    assert noise.std().item() == pytest.approx(0.0959, abs=0.002)
    assert noise.mean().item() == pytest.approx(0, abs=0.002)
    assert not image.any()
    assert torch.equal(method(noise=0.0)._noisy(image + 1), image + 1)


def test_the_teacher_follows_and_is_deployed(batch: Batch) -> None:
    objective = method(decay=0.9)
    assert objective.deployed is objective.teacher
    objective.update_teacher(0)  # the first update makes a copy
    assert helpers.same(objective.teacher.state_dict(), objective.network.state_dict())
    for step, decay in ((1, 0.5), (3, 0.75), (9, 0.9), (500, 0.9)):
        helpers.perturb([objective.network], 0.3)
        old = copy.deepcopy(objective.teacher.state_dict())
        objective.update_teacher(step)
        for name, value in objective.teacher.state_dict().items():
            expected = decay * old[name] + (1 - decay) * objective.network.state_dict()[name]
            assert torch.allclose(value, expected, atol=1e-6), (step, name)
    objective.reset_teacher()
    assert helpers.same(objective.teacher.state_dict(), objective.network.state_dict())
    helpers.check_no_shared_storage(objective.network, objective.teacher)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": -0.1}, r"`noise` must be 0 or more, got -0\.1\."),
        ({"uncertainty_samples": -1}, r"`uncertainty_samples` must be 0 or more, got -1\."),
        ({"decay": 1.0}, r"`decay` must be in \[0, 1\), got 1\.0\."),
        ({"decay": -0.5}, r"`decay` must be in \[0, 1\), got -0\.5\."),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MeanTeacher(Net(), cross_entropy, **arguments)
