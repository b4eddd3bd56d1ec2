from __future__ import annotations

import itertools
import math

import pytest
import torch
from monai.losses import BendingEnergyLoss
from torch import Tensor

from monai_ssl.losses.registration import DisplacementBendingLoss, displacement_bending
from tests import helpers


def slow(field: Tensor) -> float:
    """The equation, voxel by voxel, from the differences that define each derivative."""
    axes, total, count = field.dim() - 2, 0.0, 0
    values = field.double()
    for case, component in itertools.product(range(len(field)), range(axes)):
        d = values[case, component]
        for place in itertools.product(*(range(1, length - 1) for length in d.shape)):
            count += 1

            def at(*steps: tuple[int, int], place: tuple[int, ...] = place, d: Tensor = d) -> float:
                moved = list(place)
                for axis, step in steps:
                    moved[axis] += step
                return d[tuple(moved)].item()

            for a, b in itertools.product(range(axes), repeat=2):
                if a == b:
                    second = at((a, 1)) - 2 * at() + at((a, -1))
                else:
                    signs = itertools.product((1, -1), repeat=2)
                    second = sum(i * j * at((a, i), (b, j)) for i, j in signs) / 4
                total += second**2
    return total / count


@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 5), (1, 2, 5, 4)])
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
def test_equals_the_equation_and_monai(shape: tuple[int, ...]) -> None:
    field = torch.randn(shape)
    before = field.clone()
    loss = displacement_bending(field)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(slow(field), rel=1e-5)
    assert loss.item() == pytest.approx(BendingEnergyLoss()(field).item(), rel=1e-5)
    assert torch.equal(DisplacementBendingLoss()(field), loss)
    assert torch.equal(field, before)


def test_an_affine_map_costs_nothing_and_the_axes_cost_alike() -> None:
    grid = torch.stack(torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij"))
    affine = torch.einsum("ij,jhwd->ihwd", torch.randn(3, 3), grid) + torch.randn(3, 1, 1, 1)
    assert displacement_bending(affine[None]).item() == pytest.approx(0, abs=1e-9)
    field = torch.randn(1, 3, 6, 6, 6)
    loss = displacement_bending(field)
    assert loss > 1
    for order in itertools.permutations(range(3)):
        turned = field.permute(0, 1, *(2 + axis for axis in order))
        assert displacement_bending(turned).item() == pytest.approx(loss.item(), rel=1e-5)


def test_a_wave_costs_what_calculus_says() -> None:
    """For d = sin(kx) the second derivative is -k^2 sin(kx), up to the differences' own 1 - k^2 / 12."""
    k = 2 * math.pi / 32
    field = torch.zeros(1, 3, 66, 4, 4)
    field[:, 1] = torch.sin(k * torch.arange(66.0)).view(66, 1, 1)
    expected = (k**2 * (1 - k**2 / 12)) ** 2 / 2 / 3
    assert displacement_bending(field).item() == pytest.approx(expected, rel=1e-3)


def test_descent_straightens() -> None:
    field = torch.randn(1, 2, 6, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(displacement_bending(field), field)
    assert torch.isfinite(gradient).all()
    assert displacement_bending(field - 0.05 * gradient) < displacement_bending(field)


def test_stays_in_float32_under_autocast() -> None:
    field = torch.randn(1, 3, 4, 4, 4)
    expected = displacement_bending(field)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert helpers.same(displacement_bending(field), expected)
        assert displacement_bending(field.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(1, 2, 4, 4, 4), (1, 3, 4, 4), (1, 3, 4, 2, 4), (1, 1, 4)])
def test_what_is_refused(shape: tuple[int, ...]) -> None:
    message = r"`input` must be \(B, A, \.\.\.\) with A of 2 or 3 axes, each of 3 voxels or more, got \(1, "
    with pytest.raises(ValueError, match=message):
        displacement_bending(torch.zeros(shape))
