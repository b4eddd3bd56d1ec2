from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from monai_ssl.losses.confidence import confidence_mask, entropy_mask, kept_fraction, sharpen


def predicted(shape: tuple[int, ...] = (2, 3, 4, 3, 2)) -> Tensor:
    return torch.softmax(2 * torch.randn(shape), dim=1)


def voxels(probabilities: Tensor) -> list[list[float]]:
    return probabilities.movedim(1, -1).reshape(-1, probabilities.shape[1]).tolist()


@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 2), (1, 2, 5, 4), (6, 4)])
def test_masks_equal_their_equations(shape: tuple[int, ...]) -> None:
    p = predicted(shape)
    before = p.clone()
    for threshold in (0.4, 0.7, 0.95):
        confident, certain = confidence_mask(p, threshold), entropy_mask(p, threshold)
        for mask in (confident, certain):
            assert (mask.dtype, mask.shape) == (torch.bool, (shape[0], 1, *shape[2:]))
        assert confident.flatten().tolist() == [max(voxel) > threshold for voxel in voxels(p)]
        entropies = [-sum(c * math.log(c) for c in voxel) for voxel in voxels(p)]
        assert certain.flatten().tolist() == [entropy < threshold * math.log(shape[1]) for entropy in entropies]
    assert torch.equal(p, before)


def test_masks_at_their_limits() -> None:
    p = predicted((2, 4, 6, 6))
    assert confidence_mask(p, 0.0).all()
    assert confidence_mask(p, 0.2).all()  # the largest of four is 0.25 at least
    assert entropy_mask(p, 1.0).all()
    uniform, certain = torch.full((1, 4, 2, 2), 0.25), torch.eye(4).view(4, 4, 1, 1)
    assert not confidence_mask(uniform, 0.25).any()  # not above the threshold
    assert not entropy_mask(uniform, 0.99).any()
    assert confidence_mask(certain, 0.999).all()
    assert entropy_mask(certain, 1e-3).all()


def test_a_higher_threshold_keeps_less_confident_voxels_out() -> None:
    p = predicted((1, 3, 8, 8, 8))
    for mask, thresholds in ((confidence_mask, (0.5, 0.7, 0.9)), (entropy_mask, (0.9, 0.6, 0.3))):
        loose, middle, strict = (mask(p, threshold) for threshold in thresholds)
        assert (loose | ~middle).all()
        assert (middle | ~strict).all()
        assert kept_fraction(loose) > kept_fraction(middle) > kept_fraction(strict) > 0


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 2), (5, 4)])
def test_sharpening_equals_the_equation(shape: tuple[int, ...], temperature: float) -> None:
    p = predicted(shape)
    out = sharpen(p, temperature)
    assert out.shape == p.shape
    for got, voxel in zip(voxels(out), voxels(p), strict=True):
        powers = [c ** (1 / temperature) for c in voxel]
        assert got == pytest.approx([power / sum(powers) for power in powers], rel=1e-4, abs=1e-7)
    assert torch.equal(out.argmax(1), p.argmax(1))


def test_sharpening_of_two_classes_is_the_binary_formula() -> None:
    p, T = torch.linspace(0, 1, 21), 0.3
    expected = p ** (1 / T) / (p ** (1 / T) + (1 - p) ** (1 / T))
    out = sharpen(torch.stack([1 - p, p], 1), T)
    assert torch.allclose(out[:, 1], expected, atol=1e-6)


def test_sharpening_at_its_limits() -> None:
    p = predicted()
    assert torch.allclose(sharpen(p, 1.0), p, atol=1e-6)
    assert torch.allclose(sharpen(p, 1e3), torch.full_like(p, 1 / 3), atol=1e-2)
    cold = sharpen(predicted((1, 100, 4, 4)), 1e-3)  # where the plain powers underflow to 0 / 0
    assert torch.allclose(cold.sum(1), torch.ones(1, 4, 4))
    tie = torch.tensor([0.4, 0.4, 0.2]).view(1, 3, 1)
    assert sharpen(tie, 1e-3).flatten().tolist() == pytest.approx([0.5, 0.5, 0])


def test_sharpening_has_the_gradient_of_its_equation() -> None:
    p = predicted((2, 3, 4)).double().requires_grad_(True)
    weight = torch.randn(2, 3, 4, dtype=torch.float64)
    powers = p**4
    (expected,) = torch.autograd.grad((weight * powers / powers.sum(1, keepdim=True)).sum(), p)
    (gradient,) = torch.autograd.grad((weight * sharpen(p, 0.25)).sum(), p)
    assert torch.allclose(gradient, expected, atol=1e-4)
    saturated = torch.tensor([[1.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(sharpen(saturated, 0.5)[0, 0], saturated)
    assert torch.isfinite(gradient).all()


def test_kept_fraction() -> None:
    mask = torch.tensor([True, False, False, False]).view(1, 1, 2, 2)
    assert kept_fraction(mask).item() == 0.25
    weight = torch.tensor([0.5, 1.0], requires_grad=True)
    assert kept_fraction(weight).item() == 0.75
    assert not kept_fraction(weight).requires_grad


def test_stays_in_float32_under_autocast() -> None:
    p = torch.tensor([0.9501, 0.0499]).view(1, 2, 1, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert confidence_mask(p, 0.95).all()
        assert sharpen(p.bfloat16(), 0.5).dtype == torch.float32


def test_what_is_refused() -> None:
    p = predicted()
    for threshold in (-0.1, 1.0, 95.0):
        with pytest.raises(ValueError, match=rf"`threshold` must be in \[0, 1\), got {threshold}"):
            confidence_mask(p, threshold)
    for threshold in (0.0, 1.1):
        with pytest.raises(ValueError, match=rf"`threshold` must be in \(0, 1\], a share of ln C, got {threshold}"):
            entropy_mask(p, threshold)
    for temperature in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"`temperature` must be above 0, got {temperature}"):
            sharpen(p, temperature)
    for function in (confidence_mask, entropy_mask, sharpen):
        with pytest.raises(
            ValueError, match=r"`probabilities` must have 2 or more classes along axis 1, got shape \(2, 1"
        ):
            function(p[:, :1], 0.5)
