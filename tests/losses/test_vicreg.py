from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from monai_ssl.losses.vicreg import VICRegLoss, vicreg_covariance, vicreg_invariance, vicreg_terms, vicreg_variance
from tests import helpers


def slow(input: Tensor, target: Tensor, gamma: float, epsilon: float) -> dict[str, float]:
    """The equations, number by number, in Python floats."""
    n, d = input.shape
    invariance = sum(
        (a - b) ** 2 for x, y in zip(input.tolist(), target.tolist(), strict=True) for a, b in zip(x, y, strict=True)
    ) / (n * d)
    variance = covariance = 0.0
    for view in (input.tolist(), target.tolist()):
        mean = [sum(row[f] for row in view) / n for f in range(d)]
        C = [[sum((r[f] - mean[f]) * (r[g] - mean[g]) for r in view) / (n - 1) for g in range(d)] for f in range(d)]
        variance += sum(max(0.0, gamma - math.sqrt(C[f][f] + epsilon)) for f in range(d)) / d / 2
        covariance += sum(C[f][g] ** 2 for f in range(d) for g in range(d) if f != g) / d
    return {"invariance": invariance, "variance": variance, "covariance": covariance}


def pair(shape: tuple[int, int] = (6, 4)) -> tuple[Tensor, Tensor]:
    return torch.randn(shape) * 0.8 + 2, torch.randn(shape) * 1.1


def white(count: int = 12, features: int = 5) -> Tensor:
    """A batch whose covariance is the identity."""
    raw = torch.randn(count, features, dtype=torch.float64)
    return (torch.linalg.qr(raw - raw.mean(0)).Q * math.sqrt(count - 1)).float()


@pytest.mark.parametrize("shape", [(2, 3), (6, 4), (3, 9), (5, 1)])
@pytest.mark.parametrize(("gamma", "epsilon"), [(1.0, 1e-4), (0.7, 0.1)])
def test_equals_the_equations(shape: tuple[int, int], gamma: float, epsilon: float) -> None:
    input, target = pair(shape)
    terms = vicreg_terms(input, target, gamma, epsilon)
    expected = slow(input, target, gamma, epsilon)
    assert list(terms) == list(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert helpers.same(VICRegLoss(gamma, epsilon)(input, target), terms)


def test_two_equal_views_of_identity_covariance_cost_nothing() -> None:
    features = white()
    for name, term in vicreg_terms(features, features.clone()).items():
        assert term.item() == pytest.approx(0, abs=1e-10), name
    shifted = vicreg_terms(features + 3, features + 3)
    assert shifted["covariance"].item() == pytest.approx(0, abs=1e-10)  # the mean is free


def test_collapse_and_repetition_are_told_apart() -> None:
    constant = torch.ones(6, 4, requires_grad=True)
    assert vicreg_variance(constant).item() == pytest.approx(1 - 1e-2)
    assert torch.isfinite(torch.autograd.grad(vicreg_variance(constant), constant)[0]).all()
    assert vicreg_covariance(constant).item() == 0
    repeated = white()[:, [0, 0, 0]]
    assert vicreg_variance(repeated).item() == pytest.approx(0, abs=1e-6)
    assert vicreg_covariance(repeated).item() == pytest.approx(2, rel=1e-4)  # six covariances of 1 over three features
    assert vicreg_variance(white() * 0.25).item() == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize("name", ["invariance", "variance", "covariance"])
def test_battery(name: str) -> None:
    module = VICRegLoss()
    input, target = pair()
    helpers.check_loss(
        lambda left, right: vicreg_terms(left, right.detach())[name],
        lambda left, right: module(left, right.detach())[name],  # type: ignore[arg-type]
        input * 0.3,
        target,
        differs=input[:2],
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(input, target)[name], vicreg_terms(input, target)[name])


def test_gradients_reach_both_views() -> None:
    input, target = (part.mul(0.3).requires_grad_(True) for part in pair())
    for name, term in vicreg_terms(input, target).items():
        for gradient in torch.autograd.grad(term, (input, target), retain_graph=True):
            assert gradient.any(), name
            assert torch.isfinite(gradient).all(), name


def test_what_is_refused() -> None:
    input, target = pair()
    with pytest.raises(ValueError, match=r"`target` must have the input's shape \(6, 4\), got \(6, 3\)"):
        vicreg_invariance(input, target[:, :3])
    with pytest.raises(ValueError, match=r"`input` must be \(B, F\), got \(6, 4, 1\)"):
        vicreg_invariance(input[..., None], target[..., None])
    for function in (vicreg_variance, vicreg_covariance):
        with pytest.raises(ValueError, match="must hold 2 cases at least, got 1: one case has no variance; make"):
            function(input[:1])
        with pytest.raises(ValueError, match=r"`input` must be \(B, F\)"):
            function(input[0])
    for build in (lambda: vicreg_variance(input, epsilon=0.0), lambda: VICRegLoss(epsilon=0.0)):
        with pytest.raises(ValueError, match=r"`epsilon` must be above 0, got 0\.0"):
            build()
