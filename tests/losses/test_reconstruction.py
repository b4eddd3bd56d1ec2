from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_ssl.losses.reconstruction import MaskedReconstructionLoss, masked_reconstruction
from tests import helpers


def slow(input: Tensor, target: Tensor, mask: Tensor, power: int) -> float:
    """The equation, voxel by voxel, in Python floats."""
    total = weights = 0.0
    for case, voxel in product(range(len(input)), range(mask[0].numel())):
        weight = float(mask[case].flatten()[voxel])
        for channel in range(input.shape[1]):
            left, right = (float(part[case, channel].flatten()[voxel]) for part in (input, target))
            total += weight * abs(left - right) ** power
            weights += weight
    return total / weights


def pair(shape: tuple[int, ...] = (2, 3, 4, 3, 2)) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(shape) * 3, torch.randn(shape), torch.rand(shape[0], 1, *shape[2:]) < 0.4


@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 2), (1, 2, 5, 4), (3, 1, 2, 2, 2)])
@pytest.mark.parametrize(("kind", "power"), [("l1", 1), ("mse", 2)])
def test_equals_the_equation(kind: Any, power: int, shape: tuple[int, ...]) -> None:
    input, target, mask = pair(shape)
    soft, whole = torch.rand(mask.shape), torch.ones(mask.shape)
    for weight in (mask, soft, soft * 1e-4, whole):
        assert masked_reconstruction(input, target, weight, kind).item() == pytest.approx(
            slow(input, target, weight, power), rel=1e-5
        )
    expected = pytest.approx(slow(input, target, whole, power), rel=1e-5)
    assert masked_reconstruction(input, target, None, kind).item() == expected
    assert masked_reconstruction(input, target, mask, kind, "all").item() == expected


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_battery(kind: Any) -> None:
    input, target, mask = pair()
    module = MaskedReconstructionLoss(kind)
    helpers.check_loss(
        lambda left, right: masked_reconstruction(left, right, kind=kind), module, input, target, differs=input[:, :2]
    )
    assert torch.equal(module(input, target, mask), masked_reconstruction(input, target, mask, kind))
    everything = MaskedReconstructionLoss(kind, over="all")
    assert torch.equal(everything(input, target, mask), module(input, target))


def test_every_hidden_voxel_counts_alike_and_no_other_one_does() -> None:
    input, target, mask = pair()
    mask[0] = False
    mask[0, 0, 0, 0, 0] = True
    loss = masked_reconstruction(input, target, mask, "l1")
    hidden = (input - target).abs()[mask.expand_as(input)]
    assert loss.item() == pytest.approx(float(hidden.mean()), rel=1e-5)  # not the mean of the two cases' means
    elsewhere = torch.where(mask, input, torch.randn_like(input)).requires_grad_(True)
    again = masked_reconstruction(elsewhere, target, mask, "l1")
    assert torch.equal(again, loss)
    (gradient,) = torch.autograd.grad(again, elsewhere)
    assert not gradient[~mask.expand_as(gradient)].any()
    assert gradient[mask.expand_as(gradient)].all()


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_a_perfect_restoration_and_an_empty_mask_are_zero_and_differentiable(kind: Any) -> None:
    input, target, mask = pair()
    input.requires_grad_(True)
    assert masked_reconstruction(target, target, mask, kind).item() == 0
    loss = masked_reconstruction(input, target, torch.zeros_like(mask), kind)
    (gradient,) = torch.autograd.grad(loss, input)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_what_is_refused() -> None:
    input, target, mask = pair()
    with pytest.raises(ValueError, match=r"`target` must have the input's shape \(2, 3, 4, 3, 2\), got \(2, 3, 4, 3\)"):
        masked_reconstruction(input, target[..., 0])
    for wrong in (mask.expand(-1, 3, -1, -1, -1), mask[:, 0], mask[:1]):
        with pytest.raises(ValueError, match=r"`mask` must be \(B, 1, \.\.\.\) beside input \(2, 3, 4, 3, 2\)"):
            masked_reconstruction(input, target, wrong)
    for kind, over, message in (("l2", "all", "`kind` must be l1 or mse, got 'l2'"), ("l1", "some", "`over` must be")):
        with pytest.raises(ValueError, match=message):
            masked_reconstruction(input, target, mask, kind, over)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=message):
            MaskedReconstructionLoss(kind, over)  # type: ignore[arg-type]
