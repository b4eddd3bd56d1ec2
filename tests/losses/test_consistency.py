from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from monai_ssl.losses.consistency import SoftmaxConsistencyLoss, softmax_consistency
from tests import helpers


def slow(input: Tensor, target: Tensor, mask: Tensor | None) -> float:
    """The equation, voxel by voxel, in Python floats."""
    B, C, *space = input.shape
    total = weights = 0.0
    for b in range(B):
        logits, wanted = input[b].reshape(C, -1).tolist(), target[b].reshape(C, -1).tolist()
        for v in range(math.prod(space)):
            m = 1.0 if mask is None else float(mask[b].reshape(-1)[v])
            partition = sum(math.exp(logits[c][v]) for c in range(C))
            total += m * sum((math.exp(logits[c][v]) / partition - wanted[c][v]) ** 2 for c in range(C))
            weights += m
    return total / (C * weights)


def pair(shape: tuple[int, ...] = (2, 3, 4, 3, 2)) -> tuple[Tensor, Tensor]:
    return torch.randn(shape) * 3, torch.softmax(torch.randn(shape), dim=1)


@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 2), (1, 2, 5, 4), (3, 4, 2, 2, 2)])
@pytest.mark.parametrize("kind", ["none", "binary", "one voxel", "soft", "tiny"])
def test_equals_the_equation(shape: tuple[int, ...], kind: str) -> None:
    input, target = pair(shape)
    soft = torch.rand(shape[0], 1, *shape[2:])
    only = torch.zeros_like(soft)
    only.view(-1)[3] = 1
    mask = {"none": None, "binary": soft > 0.5, "one voxel": only, "soft": soft, "tiny": soft * 1e-4}[kind]
    assert softmax_consistency(input, target, mask).item() == pytest.approx(slow(input, target, mask), rel=1e-5)


def test_battery() -> None:
    input, target = pair()
    helpers.check_loss(softmax_consistency, SoftmaxConsistencyLoss(), input, target, differs=input[:, :2])


def test_agreement_is_zero_and_opposites_are_the_largest() -> None:
    input, _ = pair()
    assert softmax_consistency(input, torch.softmax(input, dim=1)).item() == 0
    one = torch.tensor([100.0, -100.0]).view(1, 2, 1, 1)
    assert softmax_consistency(one, torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)).item() == pytest.approx(1.0)


def test_a_full_mask_is_no_mask_and_voxels_outside_count_for_nothing() -> None:
    input, target = pair()
    mask = torch.rand(2, 1, 4, 3, 2) > 0.5
    assert torch.allclose(softmax_consistency(input, target, torch.ones_like(mask)), softmax_consistency(input, target))
    input.requires_grad_(True)
    loss = softmax_consistency(input, target, mask)
    (gradient,) = torch.autograd.grad(loss, input)
    assert not gradient[~mask.expand_as(gradient)].any()
    assert gradient[mask.expand_as(gradient)].any()
    elsewhere = torch.where(mask, target, torch.rand_like(target))
    assert torch.equal(softmax_consistency(input, elsewhere, mask), loss)


def test_an_empty_mask_is_zero_and_differentiable() -> None:
    input, target = pair()
    input.requires_grad_(True)
    loss = softmax_consistency(input, target, torch.zeros(2, 1, 4, 3, 2))
    (gradient,) = torch.autograd.grad(loss, input)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_module_passes_its_mask_on() -> None:
    input, target = pair()
    mask = torch.rand(2, 1, 4, 3, 2)
    assert torch.equal(SoftmaxConsistencyLoss()(input, target, mask), softmax_consistency(input, target, mask))


@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 2), (2, 4, 3, 2), (2, 1, 4, 3, 1), (1, 1, 4, 3, 2)])
def test_a_mask_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    input, target = pair()
    with pytest.raises(ValueError, match=r"`mask` must be \(B, 1, \.\.\.\) beside input \(2, 3, 4, 3, 2\)"):
        softmax_consistency(input, target, torch.ones(shape))


def test_a_target_of_another_shape_is_refused() -> None:
    input, target = pair()
    with pytest.raises(ValueError, match=r"`target` must have the input's shape \(2, 3, 4, 3, 2\), got \(2, 3, 4, 3\)"):
        softmax_consistency(input, target[..., 0])
