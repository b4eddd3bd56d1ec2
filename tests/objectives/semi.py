"""A small network, a small batch and properties that tests of semi-supervised methods share."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from monai_ssl.objectives.base import Objective
from monai_ssl.objectives.supervised import Supervised
from tests import helpers

Batch = dict[str, dict[str, Tensor]]


class Net(nn.Module):
    """A network that answers with each class somewhere, and more or less sharply."""

    def __init__(self, classes: int = 2, sharpness: float = 5.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.InstanceNorm3d(4, affine=True)
        self.drop = nn.Dropout3d(dropout)
        self.last = nn.Conv3d(4, classes, 1)
        nn.init.zeros_(self.last.bias)
        self.sharpness = sharpness

    def forward(self, image: Tensor) -> Tensor:
        return self.sharpness * self.last(self.drop(torch.tanh(self.norm(self.first(image)))))


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, label.squeeze(1).long())


def two_views(side: int = 6, labeled: int = 2, unlabeled: int = 3) -> Batch:
    """Noisy boxes; the strong view is the weak one in other contrast and with more noise."""
    label = torch.zeros(labeled, 1, side, side, side)
    label[:, :, 1:4, 2:5, 2:4] = 1
    weak = label[:1].repeat(unlabeled, 1, 1, 1, 1) + 0.3 * torch.randn(unlabeled, 1, side, side, side)
    return {
        "labeled": {"image": label + 0.3 * torch.randn_like(label), "label": label},
        "unlabeled": {"image": weak, "strong": 0.7 * weak + 0.3 * torch.randn_like(weak)},
    }


def voxels(image: Tensor) -> Iterator[tuple[int, ...]]:
    """Case and place of every voxel of ``(B, C, H, W, D)``."""
    cases, _, *space = image.shape
    for index in torch.cartesian_prod(*(torch.arange(length) for length in (cases, *space))).tolist():
        yield tuple(index)


def check_supervised_at_weight_zero(make: Callable[[nn.Module], Objective], term: str, batch: Batch) -> None:
    """Loss and gradient are those of supervised learning; only rounding differs, as more cases share a pass."""
    network = Net()
    supervised = Supervised(copy.deepcopy(network), cross_entropy)
    objective = make(network)
    objective.weights[term] = 0.0
    terms = objective(batch)
    assert set(terms) == {"supervised", term}
    total, expected = objective.total(terms), supervised.total(supervised(batch))
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    total.backward()
    expected.backward()
    for mine, theirs in zip(network.parameters(), supervised.network.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-5)


def check_supervised_without_unlabeled(make: Callable[[nn.Module], Objective], batch: Batch) -> None:
    """Without unlabelled cases the supervised term is left, bit by bit, and no figure of an earlier batch."""
    network = Net()
    objective = make(network)
    objective(batch)
    assert objective.figures
    terms = objective({"labeled": batch["labeled"]})
    assert list(terms) == ["supervised"]
    assert torch.equal(terms["supervised"], Supervised(network, cross_entropy)(batch)["supervised"])
    assert objective.figures == {}


def check_resumes(make: Callable[[nn.Module], Objective], batch: Batch) -> None:
    """A fresh objective that loads the state goes on bit by bit as the one that wrote it."""
    first, second = make(Net(dropout=0.3)), make(Net(dropout=0.3))
    _steps(first, batch, range(3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    logs = [_steps(objective, batch, range(3, 6)) for objective in (first, second)]
    assert helpers.same(*logs)
    assert helpers.same(first.state_dict(), second.state_dict())


def _steps(objective: Objective, batch: Batch, steps: range) -> list[dict[str, Tensor]]:
    log = []
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.05)
    objective.train()
    for step in steps:
        torch.manual_seed(step)
        terms = objective(batch)
        optimizer.zero_grad()
        objective.total(terms).backward()
        optimizer.step()
        objective.update_teacher(step)
        log.append({name: value.detach() for name, value in (terms | objective.figures).items()})
    return log
