from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from monai_ssl.networks.teacher import make_teacher
from monai_ssl.objectives.base import Batch, Objective, TeacherObjective
from monai_ssl.utils.errors import UserError
from tests import helpers


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


def test_an_entry_that_is_missing_is_told_with_its_remedy() -> None:
    entries = {"image": torch.zeros(1), "strong": torch.ones(1)}
    assert Objective.entry(entries, "strong") is entries["strong"]
    message = r"method needs the entry 'second' in the unlabelled stream; it has image, strong\. .* in `views`\."
    with pytest.raises(UserError, match=message):
        Objective.entry(entries, "second")


class Student(nn.Sequential):
    """Parameters, running statistics and an integer buffer, and dropout that tells the mode."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))


class One(TeacherObjective):
    def __init__(self, decay: float = 0.9, threshold: float = 0.0, taught: bool = True) -> None:
        super().__init__(Student(), decay, threshold, {"square": 0.5})
        self.teacher = make_teacher(self.network) if taught else None


class Both(TeacherObjective):
    """Two teachers, and a decay that does not rise."""

    def __init__(self) -> None:
        super().__init__(Student(), 0.9)
        self.pair = nn.ModuleList([make_teacher(self.network), make_teacher(self.network)])

    def averages(self) -> nn.ModuleList:
        return self.pair

    def teacher_decay(self, step: int) -> float:
        return 0.25


def move(network: nn.Module) -> None:
    """Change every parameter and run through the running statistics."""
    helpers.perturb([network], 0.3)
    network.train()(torch.randn(8, 2))


def check_averaged(objective: TeacherObjective, step: int, decay: float) -> None:
    """One update, number by number in Python floats; integer buffers are copied."""
    move(objective.network)
    before = [copy.deepcopy(teacher.state_dict()) for teacher in objective.averages()]
    mine = objective.network.state_dict()
    objective.update_teacher(step)
    for old, teacher in zip(before, objective.averages(), strict=True):
        for name, value in teacher.state_dict().items():
            pairs = zip(old[name].flatten().tolist(), mine[name].flatten().tolist(), strict=True)
            expected = [decay * a + (1 - decay) * b if value.is_floating_point() else b for a, b in pairs]
            assert value.flatten().tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6), (step, name)


def test_the_teacher_is_a_plain_mean_first_and_then_decays() -> None:
    objective = One()
    for step, decay in ((0, 0.0), (1, 0.5), (3, 0.75), (9, 0.9), (500, 0.9)):
        check_averaged(objective, step, decay)
    plain_copy = One(decay=0.0)
    check_averaged(plain_copy, 7, 0.0)
    assert helpers.same(plain_copy.teacher.state_dict(), plain_copy.network.state_dict())


def test_several_teachers_and_a_decay_of_its_own() -> None:
    objective = Both()
    helpers.perturb([objective.pair[1]], 0.3)
    for step in (0, 5):
        check_averaged(objective, step, 0.25)
    assert objective.deployed is objective.labeler is objective.pair[0]
    objective.reset_teacher()
    for teacher in objective.pair:
        assert helpers.same(teacher.state_dict(), objective.network.state_dict())
        helpers.check_no_shared_storage(objective.network, teacher)
    objective.train()
    assert not any(module.training for module in objective.pair.modules())


def test_the_teacher_is_deployed_stays_in_evaluation_mode_and_takes_no_gradient() -> None:
    objective = One(threshold=0.7)
    assert objective.deployed is objective.labeler is objective.teacher
    assert objective.learner is objective.network
    assert objective.label_threshold == 0.7
    assert objective.weights == {"square": 0.5}
    for mode in (True, False, True):
        assert objective.train(mode) is objective
        assert all(module.training == mode for module in objective.network.modules())
        assert not any(module.training for module in objective.teacher.modules())
    assert helpers.frozen(objective) == [objective.teacher]
    move(objective.network)
    assert not helpers.same(objective.teacher.state_dict(), objective.network.state_dict())
    objective.reset_teacher()
    assert helpers.same(objective.teacher.state_dict(), objective.network.state_dict())
    helpers.check_no_shared_storage(objective.network, objective.teacher)


def test_without_a_teacher_the_student_is_deployed_and_left_alone() -> None:
    objective = One(taught=False)
    assert objective.deployed is objective.labeler is objective.network
    before = copy.deepcopy(objective.state_dict())
    objective.reset_teacher()
    objective.update_teacher(3)
    assert helpers.same(before, objective.state_dict())
    assert all(name.startswith("network.") for name in before)
    assert objective.train().network.training


def test_the_averages_are_no_part_of_their_own() -> None:
    names = list(One().state_dict())
    assert {name.split(".")[0] for name in names} == {"network", "teacher"}
    assert len(names) == 2 * len(Student().state_dict())


@pytest.mark.parametrize("name", ["decay", "threshold"])
@pytest.mark.parametrize("value", [1.0, -0.1, float("nan")])
def test_shares_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be in \[0, 1\), got {value}\."):
        One(**{name: value})
