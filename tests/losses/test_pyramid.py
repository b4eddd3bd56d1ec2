from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from monai_ssl.losses.pyramid import RectifiedPyramidLoss, rectified_pyramid


def pyramid(scales: int = 4, shape: tuple[int, ...] = (2, 3, 4, 3, 2)) -> list[Tensor]:
    return [torch.softmax(2 * torch.randn(shape), 1) for _ in range(scales)]


def slow(probabilities: list[Tensor]) -> float:
    """The equation, voxel by voxel, in Python floats."""
    C, S = probabilities[0].shape[1], len(probabilities)
    scales = [p.movedim(1, -1).reshape(-1, C).tolist() for p in probabilities]
    total, V = 0.0, len(scales[0])
    for scale in scales:
        squares = trusts = divergences = 0.0
        for v in range(V):
            mean = [sum(other[v][c] for other in scales) / S for c in range(C)]
            divergence = sum(mean[c] * math.log(mean[c] / scale[v][c]) for c in range(C))
            trust = math.exp(-divergence)
            squares += sum((mean[c] - scale[v][c]) ** 2 for c in range(C)) * trust
            trusts += trust
            divergences += divergence
        total += (squares / (C * V)) / (trusts / V) + divergences / V
    return total / S


def doubled(logits: list[Tensor], detached: bool) -> Tensor:
    """The equation in float64 by torch's own divergence, with or without a gradient through the mean."""
    scales = [torch.softmax(one.double(), 1) for one in logits]
    mean = torch.stack(scales).mean(0)
    mean = mean.detach() if detached else mean
    total = torch.zeros((), dtype=torch.float64)
    for scale in scales:
        divergence = F.kl_div(scale.log(), mean, reduction="none").sum(1, keepdim=True)
        trust = torch.exp(-divergence)
        total = total + ((mean - scale) ** 2 * trust).mean() / trust.mean() + divergence.mean()
    return total / len(scales)


@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 2), (1, 2, 5, 4)])
@pytest.mark.parametrize("scales", [2, 4])
def test_equals_the_equation(shape: tuple[int, ...], scales: int) -> None:
    probabilities = pyramid(scales, shape)
    before = [one.clone() for one in probabilities]
    loss = rectified_pyramid(probabilities)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(slow(probabilities), rel=1e-5)
    assert torch.equal(RectifiedPyramidLoss()(probabilities), loss)
    assert all(torch.equal(*both) for both in zip(probabilities, before, strict=True))


def test_gradients_reach_every_scale_through_the_mean_too() -> None:
    logits = [torch.randn(2, 3, 4, 3, requires_grad=True) for _ in range(4)]
    gradients = torch.autograd.grad(rectified_pyramid([torch.softmax(one, 1) for one in logits]), logits)
    whole, cut = (torch.autograd.grad(doubled(logits, detached), logits) for detached in (False, True))
    for gradient, expected, other in zip(gradients, whole, cut, strict=True):
        assert torch.allclose(gradient, expected, atol=1e-6)
        assert not torch.allclose(gradient, other, atol=1e-4)


def test_agreement_costs_nothing_and_the_order_of_scales_does_not_matter() -> None:
    probabilities = pyramid()
    assert rectified_pyramid([probabilities[0]] * 4).item() == pytest.approx(0, abs=1e-6)
    loss = rectified_pyramid(probabilities)
    assert loss > 0
    assert torch.allclose(rectified_pyramid(probabilities[::-1]), loss)


def test_certain_scales_that_contradict_stay_finite() -> None:
    logits = [torch.tensor([300.0, -300.0]).view(1, 2, 1, 1).requires_grad_(True)]
    logits += [torch.tensor([-300.0, 300.0]).view(1, 2, 1, 1).requires_grad_(True)]
    scales = [torch.softmax(one, 1) for one in logits]
    assert (scales[0] == 0).any()
    loss = rectified_pyramid(scales)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(loss, logits))


def test_stays_in_float32_under_autocast() -> None:
    probabilities = pyramid()
    expected = rectified_pyramid(probabilities)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rectified_pyramid(probabilities), expected)
        assert rectified_pyramid([one.bfloat16() for one in probabilities]).dtype == torch.float32


def test_what_is_refused() -> None:
    probabilities = pyramid()
    for few in ([], probabilities[:1]):
        with pytest.raises(ValueError, match=f"`probabilities` must be those of 2 or more scales, got {len(few)}"):
            rectified_pyramid(few)
    with pytest.raises(ValueError, match=r"`probabilities` must be \(B, C, \.\.\.\), of one shape at all scales, got"):
        rectified_pyramid([probabilities[0], probabilities[1][..., :1]])
