from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_ssl.objectives import interpolation_consistency as module
from monai_ssl.objectives.interpolation_consistency import InterpolationConsistency
from monai_ssl.objectives.mean_teacher import MeanTeacher
from tests import helpers
from tests.objectives import semi


def method(network: nn.Module | None = None, apart: bool = True, **arguments: Any) -> InterpolationConsistency:
    objective = InterpolationConsistency(network or semi.Net(), semi.cross_entropy, **arguments)
    if apart:
        helpers.perturb([objective.teacher], 0.3)
    return objective


def draw(monkeypatch: pytest.MonkeyPatch, weights: list[float], partners: list[int]) -> None:
    """Fix what is drawn."""
    monkeypatch.setattr(module, "draw_weights", lambda count, alpha, device: torch.tensor(weights))
    monkeypatch.setattr(module, "draw_partners", lambda count, device: torch.tensor(partners))


@pytest.fixture
def batch() -> semi.Batch:
    return semi.two_views()


def test_battery(batch: semi.Batch) -> None:
    objective = method(semi.Net(dropout=0.2))
    helpers.check_objective(objective, batch, reaches={"supervised": "network", "consistency": "network"})
    assert helpers.frozen(objective) == [objective.teacher]


def test_overfits(batch: semi.Batch) -> None:
    helpers.check_overfits(method(semi.Net(sharpness=1), apart=False), batch, steps=60, learning_rate=3e-2)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_terms_and_figures_are_re_derived(classes: int, batch: semi.Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, partners = [0.9, 0.4, 0.0], [2, 0, 1]
    draw(monkeypatch, weights, partners)
    objective = method(semi.Net(classes, sharpness=3))
    terms = objective(batch)
    u = batch["unlabeled"]["image"]
    q = torch.softmax(objective.teacher(u).double(), 1)
    total, largest, foreground = 0.0, 0.0, 0
    for case, (weight, partner) in enumerate(zip(weights, partners, strict=True)):
        mixed = weight * u[case] + (1 - weight) * u[partner]
        p = torch.softmax(objective.network(mixed[None]).double(), 1)
        for _, i, j, k in semi.voxels(mixed[None]):
            mine, other = (q[number, :, i, j, k].tolist() for number in (case, partner))
            wanted = [weight * a + (1 - weight) * b for a, b in zip(mine, other, strict=True)]
            total += sum((a - b) ** 2 for a, b in zip(p[0, :, i, j, k].tolist(), wanted, strict=True))
            largest += max(mine)
            foreground += mine.index(max(mine)) > 0
    assert terms["consistency"].item() == pytest.approx(total / (classes * u.numel()), rel=1e-4)
    assert objective.figures["confidence"].item() == pytest.approx(largest / u.numel(), rel=1e-4)
    assert objective.figures["pseudo_foreground"].item() == pytest.approx(foreground / u.numel())


def test_the_draws_are_those_of_the_paper(batch: semi.Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def mix_up(tensors: list[Tensor], weights: Tensor, partners: Tensor) -> list[Tensor]:
        seen.update(weights=weights, partners=partners)
        return tensors

    monkeypatch.setattr(module, "mix_up", mix_up)
    image = torch.zeros(400, 1, 1, 1, 1)
    objective = method(nn.Conv3d(1, 2, 1), alpha=0.2)
    objective._mixed(image)
    weights, partners = seen["weights"], seen["partners"]
    assert sorted(partners.tolist()) == list(range(400))
    assert not (partners == torch.arange(400)).any()
    assert weights.mean().item() == pytest.approx(0.5, abs=0.1)
    # the variance of Beta(a, a) is 1 / (4 (2 a + 1)): 0.179 here, 0.083 of a uniform one
    assert weights.var().item() == pytest.approx(1 / (4 * 1.4), abs=0.03)


@pytest.mark.parametrize("alone", [True, False])
def test_an_unmixed_case_is_a_mean_teacher_without_noise(
    alone: bool, batch: semi.Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    if alone:
        batch["unlabeled"] = {"image": batch["unlabeled"]["image"][:1]}
    else:
        draw(monkeypatch, [1.0, 1.0, 1.0], [1, 2, 0])
    objective = method()
    plain = MeanTeacher(objective.network, semi.cross_entropy, noise=0.0)
    plain.teacher.load_state_dict(objective.teacher.state_dict())
    terms, expected = objective(batch), plain(batch)
    assert expected["consistency"].item() > 0
    for name, term in expected.items():
        assert terms[name].item() == pytest.approx(term.item(), rel=1e-6)


def test_weight_zero_is_supervised(batch: semi.Batch) -> None:
    semi.check_supervised_at_weight_zero(method, "consistency", batch)


def test_without_unlabelled_cases_it_is_supervised(batch: semi.Batch) -> None:
    semi.check_supervised_without_unlabeled(method, batch)


def test_resumes_exactly(batch: semi.Batch) -> None:
    semi.check_resumes(method, batch)


def test_the_teacher_follows_and_is_deployed(batch: semi.Batch) -> None:
    objective = method(semi.Net(dropout=0.5), decay=0.9)
    assert objective.deployed is objective.teacher
    assert objective.train() is objective
    assert objective.network.drop.training
    assert not any(part.training for part in objective.teacher.modules())
    for step, decay in ((0, 0.0), (1, 0.5), (500, 0.9)):
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
        ({"alpha": 0.0}, r"`alpha` must be above 0, got 0\.0\."),
        ({"alpha": float("nan")}, r"`alpha` must be above 0, got nan\."),
        ({"decay": 1.0}, r"`decay` must be in \[0, 1\), got 1\.0\."),
        ({"decay": -0.5}, r"`decay` must be in \[0, 1\), got -0\.5\."),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(**arguments)
