from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from monai_ssl.objectives.base import Batch, Objective


class Two(Objective):
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.network(batch["labeled"]["image"])
        return {"square": (logits**2).mean(), "absolute": logits.abs().mean()}


def test_the_total_is_the_weighted_sum_and_an_unnamed_term_weighs_one() -> None:
    terms = {"square": torch.tensor(3.0), "absolute": torch.tensor(-5.0)}
    assert Two(nn.Identity()).total(terms).item() == -2
    assert Two(nn.Identity(), {"absolute": 0.25}).total(terms).item() == 1.75
    assert Two(nn.Identity(), {"absolute": 0.0, "square": 2.0}).total(terms).item() == 6


def test_the_total_carries_each_weight_into_the_gradient() -> None:
    objective = Two(nn.Linear(2, 1), {"square": 0.5, "absolute": 3.0})
    batch = {"labeled": {"image": torch.randn(4, 2)}}
    terms = objective(batch)
    by_hand = [torch.autograd.grad(term, objective.network.weight, retain_graph=True)[0] for term in terms.values()]
    objective.total(terms).backward()
    assert torch.allclose(objective.network.weight.grad, 0.5 * by_hand[0] + 3.0 * by_hand[1])


def test_weights_are_the_objectives_own() -> None:
    given = {"square": 0.5}
    objective = Two(nn.Identity(), given)
    objective.weights["square"] = 9.0
    assert given == {"square": 0.5}
    assert copy.deepcopy(objective).weights == {"square": 9.0}


def test_what_a_method_without_teacher_does_not_define() -> None:
    objective = Two(nn.Linear(2, 1))
    before = copy.deepcopy(objective.state_dict())
    objective.reset_teacher()
    objective.update_teacher(3)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())
    assert objective.deployed is objective.network
    assert objective.progress == 0.0


def test_the_state_dict_is_the_network_alone() -> None:
    assert list(Two(nn.Linear(2, 1), {"square": 2.0}).state_dict()) == ["network.weight", "network.bias"]


def test_forward_is_the_methods_part() -> None:
    with pytest.raises(NotImplementedError):
        Objective(nn.Identity())({"labeled": {}})
