from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from monai.losses import FocalLoss
from torch import Tensor
from torch.nn import functional as F

from monai_ssl.losses.soft_focal import NEAREST, SoftTargetFocalLoss, soft_target_focal_loss
from tests import helpers

LOGITS = (-50.0, -20.0, -9.5, -4.0, -1.0, 0.0, 0.3, 2.0, 7.0, 12.0, 30.0, 50.0)
TARGETS = (0.0, 0.001, 0.2, 0.5, 0.7, 0.999, 1.0)
ALPHAS = (0.3, 0.8)


def slow(z: float, y: float, gamma: float) -> tuple[float, float]:
    """The equation and its derivative by the logit, in Python's float64."""
    p, q = 1 / (1 + math.exp(-z)), 1 / (1 + math.exp(z))
    alpha = ALPHAS[0] + y * (ALPHAS[1] - ALPHAS[0])
    entropy = -y * math.log(p) - (1 - y) * math.log(q)
    distance = abs(y - p)
    slope = 0.0
    if gamma > 0 and distance > 0:
        slope = gamma * distance ** (gamma - 1) * math.copysign(p * q, p - y)
    power = distance**gamma
    return alpha * power * entropy, alpha * (slope * entropy + power * (p - y))


def grid() -> tuple[Tensor, Tensor]:
    """Every logit with every target."""
    input, target = zip(*product(LOGITS, TARGETS), strict=True)
    return torch.tensor(input, requires_grad=True), torch.tensor(target)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 1.5, 2.0, 3.0])
def test_value_and_gradient_equal_the_equation_at_any_logit(gamma: float) -> None:
    input, target = grid()
    loss = soft_target_focal_loss(input, target, gamma, ALPHAS)
    (gradient,) = torch.autograd.grad(loss.sum(), input)
    expected, slopes = zip(*[slow(z, y, gamma) for z, y in product(LOGITS, TARGETS)], strict=True)
    assert loss.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert gradient.tolist() == pytest.approx(slopes, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
def test_a_power_below_one_equals_the_equation_but_next_to_the_target(gamma: float) -> None:
    input, target = grid()
    loss = soft_target_focal_loss(input, target, gamma, ALPHAS)
    (gradient,) = torch.autograd.grad(loss.sum(), input)
    assert torch.isfinite(gradient).all()
    away = (torch.sigmoid(input) - target).abs() > 2 * NEAREST
    assert 40 < away.sum() < len(away)
    pairs = [pair for pair, kept in zip(product(LOGITS, TARGETS), away.tolist(), strict=True) if kept]
    expected, slopes = zip(*[slow(z, y, gamma) for z, y in pairs], strict=True)
    assert loss[away].tolist() == pytest.approx(expected, rel=1e-3)
    assert gradient[away].tolist() == pytest.approx(slopes, rel=1e-3)


def test_what_is_wrong_with_certainty_keeps_its_gradient() -> None:
    for gamma in (0.0, 0.5, 1.0, 2.0):
        for z, y, expected in ((-50.0, 1.0, -0.8), (50.0, 0.0, 0.3), (-50.0, 0.5, -0.275), (50.0, 0.5, 0.275)):
            input = torch.tensor(z, requires_grad=True)
            (gradient,) = torch.autograd.grad(soft_target_focal_loss(input, torch.tensor(y), gamma, ALPHAS), input)
            assert gradient.item() == pytest.approx(expected * (1 if y in (0, 1) else 0.5**gamma), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 1.5, 2.0])
def test_at_the_target_the_gradient_is_finite_and_vanishes(gamma: float) -> None:
    input = torch.linspace(-50, 50, 401, requires_grad=True)
    loss = soft_target_focal_loss(input, torch.sigmoid(input), gamma)
    (gradient,) = torch.autograd.grad(loss.sum(), input)
    # From 1 on, what rounding leaves of |y - p| counts to the power of gamma - 1: at 1 there is a kink, nothing more.
    rounding = gamma * 2e-7 ** (gamma - 1) * math.log(2) / 4 if gamma >= 1 else 0.0
    assert gradient.abs().max() < rounding + 1e-6
    assert loss.max() <= NEAREST**gamma * math.log(2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_the_least_loss_is_at_the_target_and_every_gradient_points_there(gamma: float) -> None:
    p = torch.arange(1, 100) / 100
    input = torch.logit(p).requires_grad_(True)
    for y in (0.0, 0.01, 0.3, 0.5, 0.8, 0.99, 1.0):
        loss = soft_target_focal_loss(input, torch.full_like(p, y), gamma)
        assert loss.argmin().item() == (p - y).abs().argmin().item()
        (gradient,) = torch.autograd.grad(loss.sum(), input)
        away = (p - y).abs() > 1e-3
        assert torch.equal(gradient[away].sign(), (p - y)[away].sign())


@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 2), (2, 1, 5)])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.95])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_hard_targets_have_the_focal_loss(shape: tuple[int, ...], alpha: float | None, gamma: float) -> None:
    input, target = 3 * torch.randn(shape), torch.randint(2, shape)
    input = input.clamp(-9, 9)  # beyond, a power below 1 is clamped
    alphas = (1.0, 1.0) if alpha is None else (1.0 - alpha, alpha)
    input.requires_grad_(True)
    for reduction in ("none", "mean"):
        theirs = FocalLoss(gamma=gamma, alpha=alpha, reduction=reduction)(input, target)
        ours = SoftTargetFocalLoss(gamma, alphas, reduction)(input, target)
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=2e-6)
        expected, gradient = (torch.autograd.grad(loss.sum(), input)[0] for loss in (theirs, ours))
        assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    for given in (target.float(), target.bool(), target.bfloat16()):
        assert torch.equal(
            soft_target_focal_loss(input, given, gamma, alphas), soft_target_focal_loss(input, target, gamma, alphas)
        )


def test_without_power_and_weights_it_is_the_cross_entropy() -> None:
    input, target = 5 * torch.randn(4, 30), torch.rand(4, 30)
    expected = F.binary_cross_entropy_with_logits(input, target, reduction="none")
    assert torch.allclose(soft_target_focal_loss(input, target, 0.0, (1.0, 1.0)), expected)
    assert torch.allclose(soft_target_focal_loss(input, target, 1e-6, (1.0, 1.0)), expected, rtol=1e-4)


def test_the_weight_of_a_target_lies_between_those_of_zero_and_one() -> None:
    input, target = torch.randn(50), torch.rand(50)
    plain = soft_target_focal_loss(input, target, alphas=(1.0, 1.0))
    assert torch.allclose(soft_target_focal_loss(input, target), (0.05 + 0.9 * target) * plain)
    assert torch.allclose(soft_target_focal_loss(input, target, alphas=(0.0, 2.0)), 2 * target * plain)


def test_reductions() -> None:
    input, target = torch.randn(2, 6, 3), torch.rand(2, 6, 3)
    each = SoftTargetFocalLoss(reduction="none")(input, target)
    assert torch.equal(each, soft_target_focal_loss(input, target))
    assert SoftTargetFocalLoss(reduction="sum")(input, target).item() == pytest.approx(sum(each.flatten().tolist()))
    assert SoftTargetFocalLoss()(input, target).item() == pytest.approx(sum(each.flatten().tolist()) / 36)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_battery(gamma: float) -> None:
    def mean(input: Tensor, target: Tensor) -> Tensor:
        return soft_target_focal_loss(input, target, gamma).mean()

    input, target = torch.randn(2, 7, 1), torch.rand(2, 7, 1)
    helpers.check_loss(mean, SoftTargetFocalLoss(gamma), input, target, differs=input[:, :1])


def test_autocast_changes_no_bit() -> None:
    input, target = 10 * torch.randn(40), torch.rand(40)
    expected = soft_target_focal_loss(input, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(soft_target_focal_loss(input, target), expected)


def test_no_anchor_at_all_is_a_sum_of_zero() -> None:
    empty = torch.zeros(2, 0, 1)
    assert soft_target_focal_loss(empty, empty).shape == (2, 0, 1)
    assert SoftTargetFocalLoss(reduction="sum")(empty, empty).item() == 0


def test_what_is_refused() -> None:
    input = torch.zeros(2, 3, 1)
    for wrong in (input[..., 0], input[:1], input.expand(-1, -1, 2)):
        with pytest.raises(ValueError, match=r"`target` must have the input's shape \(2, 3, 1\), got \("):
            soft_target_focal_loss(input, wrong)
    for gamma in (-0.5, float("nan")):
        for call in (SoftTargetFocalLoss, lambda gamma: soft_target_focal_loss(input, input, gamma)):
            with pytest.raises(ValueError, match=f"`gamma` must be 0 or more, got {gamma}"):
                call(gamma)
    for alphas in ((0.25,), (-0.1, 1.1), (0.1, float("nan")), (0.1, 0.2, 0.7)):
        for refused in (SoftTargetFocalLoss, lambda gamma, alphas: soft_target_focal_loss(input, input, gamma, alphas)):
            with pytest.raises(ValueError, match="`alphas` must be two weights from 0, those of targets 0 and 1, got"):
                refused(2.0, alphas)
    with pytest.raises(ValueError, match="`reduction` must be none, mean or sum, got 'batch'"):
        SoftTargetFocalLoss(reduction="batch")
