from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from monai_ssl.losses.blending import (
    BlendedConsistencyLoss,
    blended_consistency,
    blended_target,
    tempered_frequencies,
)

N = (0.7, 0.25, 0.05)


def views(shape: tuple[int, ...] = (2, 3, 4, 3, 2)) -> tuple[Tensor, Tensor]:
    return 2 * torch.randn(shape), 2 * torch.randn(shape)


def voxels(values: Tensor) -> list[list[float]]:
    return values.movedim(1, -1).reshape(-1, values.shape[1]).tolist()


def slow(z: list[float], other: list[float], gain: float, background: bool) -> list[float]:
    """The blend of one voxel, in Python floats."""
    first, second = z.index(max(z)), other.index(max(other))
    k = min(max(gain * (N[first] - N[second]) + 0.5, 0.0), 1.0)
    if not background and 0 in (first, second):
        k = 0.5
    return [(1 - k) * a + k * b for a, b in zip(z, other, strict=True)]


@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 2), (1, 3, 5, 4), (6, 3)])
@pytest.mark.parametrize("gain", [0.0, 0.4, 3.0])
@pytest.mark.parametrize("background", [True, False])
def test_equals_the_equations(shape: tuple[int, ...], gain: float, background: bool) -> None:
    first, second = views(shape)
    z, other = torch.softmax(first, 1), torch.softmax(second, 1)
    expected = [slow(a, b, gain, background) for a, b in zip(voxels(z), voxels(other), strict=True)]
    target = blended_target(z, other, N, gain, background)
    assert target.shape == z.shape
    for got, wanted in zip(voxels(target), expected, strict=True):
        assert got == pytest.approx(wanted, rel=1e-5)
    divergence = 0.0
    for a, b, wanted in zip(voxels(z), voxels(other), expected, strict=True):
        divergence += sum(w * math.log(w / p) for w, p in zip(wanted, a, strict=True))
        divergence += sum(w * math.log(w / p) for w, p in zip(wanted, b, strict=True))
    loss = blended_consistency(first, second, N, gain, background)
    assert loss.item() == pytest.approx(divergence / len(expected), rel=1e-4)


def test_the_rarer_class_prevails() -> None:
    common, rare = torch.tensor([0.8, 0.1, 0.1]).view(1, 3, 1), torch.tensor([0.2, 0.2, 0.6]).view(1, 3, 1)
    for left, right in ((common, rare), (rare, common)):
        assert torch.allclose(blended_target(left, right, N, 5.0), rare)  # clipped: it takes all
        mild = blended_target(left, right, N, 0.4)
        assert torch.allclose(mild, 0.24 * common + 0.76 * rare)  # 0.4 (0.7 - 0.05) + 0.5 = 0.76
        for same in (blended_target(left, right, N, 0.0), blended_target(left, right, N, 5.0, False)):
            assert torch.allclose(same, (common + rare) / 2)


def test_background_is_weighed_less_after_tempering() -> None:
    background, organ = torch.tensor([0.9, 0.1]).view(1, 2, 1), torch.tensor([0.1, 0.9]).view(1, 2, 1)
    shares = []
    for power in (1.0, 0.5, 0.0):
        target = blended_target(background, organ, tempered_frequencies([97, 3], power), 0.4)
        shares.append((target[0, 1, 0].item() - 0.1) / 0.8)
    assert shares == pytest.approx([0.876, 0.5 + 0.4 * (97**0.5 - 3**0.5) / (97**0.5 + 3**0.5), 0.5], abs=1e-5)
    assert shares[0] > shares[1] > shares[2]


@pytest.mark.parametrize("gain", [0.0, 0.4, 3.0])
def test_the_views_may_change_places(gain: float) -> None:
    first, second = views()
    one, other = (blended_consistency(*pair, N, gain) for pair in ((first, second), (second, first)))
    assert torch.allclose(one, other)
    assert one > 0
    assert blended_consistency(first, first + 3, N, gain).item() == pytest.approx(0, abs=1e-6)


def test_gradients_reach_both_views_and_take_the_blend_as_given() -> None:
    first, second = (view.requires_grad_(True) for view in views())
    before = first.detach().clone(), second.detach().clone()
    loss = blended_consistency(first, second, N)
    target = blended_target(torch.softmax(first, 1), torch.softmax(second, 1), N)
    assert not target.requires_grad
    for view, gradient in zip((first, second), torch.autograd.grad(loss, (first, second)), strict=True):
        assert torch.allclose(gradient, (torch.softmax(view, 1) - target).detach() / 48, atol=1e-7)
        assert gradient.any()
    assert torch.equal(first.detach(), before[0])
    assert torch.equal(second.detach(), before[1])


def test_certain_views_stay_finite() -> None:
    first, second = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True), torch.tensor([[-200.0, 200.0, 0.0]])
    loss = blended_consistency(first, second, N)
    (gradient,) = torch.autograd.grad(loss, first)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_masks() -> None:
    first, second = views()
    mask = torch.rand(2, 1, 4, 3, 2) < 0.5
    one, other = (view.movedim(1, -1)[mask[:, 0]] for view in (first, second))
    assert torch.allclose(blended_consistency(first, second, N, mask=mask), blended_consistency(one, other, N))
    first.requires_grad_(True)
    empty = blended_consistency(first, second, N, mask=torch.zeros_like(mask))
    assert empty.item() == 0
    assert not torch.autograd.grad(empty, first)[0].any()


def test_module_equals_function_and_keeps_its_frequencies_out_of_the_state() -> None:
    first, second = views()
    module = BlendedConsistencyLoss([70, 25, 5], power=1.0, gain=0.7, include_background=False)
    mask = torch.rand(2, 1, 4, 3, 2)
    assert torch.allclose(module(first, second, mask), blended_consistency(first, second, N, 0.7, False, mask))
    assert module.state_dict() == {}
    assert copy.deepcopy(module).to("meta").frequencies.device.type == "meta"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(first, second).dtype == torch.float32
        assert module(first.bfloat16(), second.bfloat16()).dtype == torch.float32


def test_no_part_is_left_on_another_device() -> None:
    first, second = (view.to("meta") for view in views())
    assert blended_consistency(first, second, N, include_background=False).device.type == "meta"


def test_tempering() -> None:
    counts = [970.0, 20.0, 0.0, 10.0]
    assert tempered_frequencies(counts, 1.0).tolist() == pytest.approx([0.97, 0.02, 0.0, 0.01])
    assert tempered_frequencies(counts, 0.0).tolist() == pytest.approx([0.25] * 4)
    roots = [math.sqrt(count) for count in counts]
    assert tempered_frequencies(torch.tensor(counts)).tolist() == pytest.approx([root / sum(roots) for root in roots])
    assert torch.allclose(tempered_frequencies([1000 * count for count in counts]), tempered_frequencies(counts))


def test_what_is_refused() -> None:
    first, second = views()
    z, other = torch.softmax(first, 1), torch.softmax(second, 1)
    for function, left, right in ((blended_target, z, other), (blended_consistency, first, second)):
        with pytest.raises(ValueError, match=r"`gain` must be 0 or more, got -0\.1"):
            function(left, right, N, -0.1)
        with pytest.raises(ValueError, match=r"`frequencies` must be \(3,\), one a class, got \(2,\)"):
            function(left, right, N[:2])
        with pytest.raises(
            ValueError, match=r"`second` must have the first's shape \(2, 3, 4, 3, 2\), got \(2, 3, 4, 3\)"
        ):
            function(left, right[..., 0], N)
        with pytest.raises(ValueError, match=r"`first` must have 2 or more classes along axis 1, got shape \(2, 1, 4"):
            function(left[:, :1], right[:, :1], N[:1])
    with pytest.raises(ValueError, match=r"`mask` must be \(B, 1, \.\.\.\) beside first \(2, 3, 4, 3, 2\), got \(2, 3"):
        blended_consistency(first, second, N, mask=torch.ones_like(first))
    with pytest.raises(ValueError, match=r"`gain` must be 0 or more, got -1"):
        BlendedConsistencyLoss([1, 2], gain=-1)
    for power in (-0.5, 1.5):
        with pytest.raises(ValueError, match=rf"`power` must be in \[0, 1\], got {power}"):
            tempered_frequencies([1, 2], power)
    for counts in ([1.0, -1.0], [0.0, 0.0], [[1.0, 2.0]], [float("nan"), 1.0]):
        with pytest.raises(ValueError, match="`counts` must be numbers from 0, one a class and not all 0, got"):
            tempered_frequencies(counts)  # type: ignore[arg-type]
