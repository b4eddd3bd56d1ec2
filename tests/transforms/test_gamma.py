from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_ssl.transforms.gamma import RandGamma, RandGammad, change_gamma
from tests.helpers import check_transform, seed


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (8, 6, 5)) -> Tensor:
    return 2 * torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0)) - 1


GAMMAS = torch.tensor([0.5, 1.7, 3.0])
INVERTED = torch.tensor([False, True, False])


@pytest.mark.parametrize("keep_moments", [False, True])
@pytest.mark.parametrize("shape", [(4, 3, 5), (6, 7)])
def test_the_curve_voxel_by_voxel(shape: tuple[int, ...], keep_moments: bool) -> None:
    images = volumes(3, 2, shape)
    out = change_gamma(images, GAMMAS, INVERTED, keep_moments)
    for case in range(3):
        for channel in range(2):
            values = [float(value) for value in images[case, channel].flatten()]
            if INVERTED[case]:
                values = [-value for value in values]
            low, high = min(values), max(values)
            curve = [low + (high - low) * ((value - low) / (high - low)) ** float(GAMMAS[case]) for value in values]
            if keep_moments:
                scale = np.std(values) / np.std(curve)
                curve = [float((value - np.mean(curve)) * scale + np.mean(values)) for value in curve]
            expected = [-value for value in curve] if INVERTED[case] else curve
            assert np.allclose(out[case, channel].flatten(), expected, atol=1e-5)


def test_gamma_one_is_the_identity_and_one_over_gamma_the_inverse() -> None:
    images, ones = volumes(), torch.ones(3)
    for keep_moments in (False, True):
        assert torch.allclose(change_gamma(images, ones, INVERTED, keep_moments), images, atol=1e-5)
    there = change_gamma(images.double(), GAMMAS, INVERTED)
    assert not torch.allclose(there, images.double(), atol=0.1)
    assert torch.allclose(change_gamma(there, 1 / GAMMAS, INVERTED), images.double(), atol=1e-5)


def test_order_and_ends_are_kept_and_gamma_above_one_darkens() -> None:
    ramp = torch.linspace(-3, 5, 20_000).expand(3, 1, 1, -1)
    out = change_gamma(ramp, torch.tensor([0.3, 4.0, 4.0]), torch.tensor([False, False, True]))
    assert (out.diff(dim=-1) >= 0).all()
    assert torch.allclose(out[..., [0, -1]], torch.tensor([-3.0, 5.0]).expand(3, 1, 1, 2))
    assert [bool((out[case] <= ramp[case] + 1e-5).all()) for case in range(3)] == [False, True, False]
    assert [bool((out[case] >= ramp[case] - 1e-5).all()) for case in range(3)] == [True, False, True]


@pytest.mark.parametrize("keep_moments", [False, True])
def test_a_constant_volume_stays(keep_moments: bool) -> None:
    constant = torch.full((3, 2, 4, 4, 4), 0.1)
    assert torch.equal(change_gamma(constant, GAMMAS, INVERTED, keep_moments), constant)


def test_values_are_finite_and_dtypes_kept() -> None:
    exact = change_gamma(volumes().double(), GAMMAS, INVERTED)
    assert exact.dtype == torch.float64
    assert torch.isfinite(exact).all()
    for dtype, error in ((torch.float16, 0.01), (torch.bfloat16, 0.1)):
        out = change_gamma(volumes().to(dtype), GAMMAS, INVERTED)
        assert out.dtype == dtype
        assert torch.allclose(out.double(), exact, atol=error)


def test_exponents_are_uniform_in_their_logarithm_and_a_quarter_inverted() -> None:
    transform = seed(RandGamma((0.25, 2.0)))
    params = [transform.draw((1, 8, 8, 8)) for _ in range(2000)]
    logs = np.log2([one["gamma"] for one in params])
    assert -2 <= logs.min() < -1.95
    assert 0.95 < logs.max() <= 1
    assert logs.mean() == pytest.approx(-0.5, abs=5 * 3 / math.sqrt(12 * 2000))
    assert sum(one["inverted"] for one in params) == pytest.approx(500, abs=5 * math.sqrt(375))
    assert RandGamma((1.5, 1.5)).draw((1, 8))["gamma"] == pytest.approx(1.5)


@pytest.mark.parametrize("keep_moments", [False, True])
def test_a_batch_is_its_cases_one_by_one(keep_moments: bool) -> None:
    images = volumes(5)
    whole, single = (seed(RandGamma(inversion=0.5, keep_moments=keep_moments, prob=0.7)) for _ in range(2))
    for _ in (0, 1):
        out = whole.batch(images)
        for number, image in enumerate(images):
            assert torch.allclose(out[number], single(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 6, 5), (14, 9)])
def test_the_batteries_hold(shape: tuple[int, ...]) -> None:
    check_transform(RandGamma, RandGammad, volumes(1, 2, shape)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": (0.0, 1.0)}, r"`gamma` must be two numbers above 0, the least first, got \(0.0, 1.0\)"),
        ({"gamma": (2.0, 1.0)}, "`gamma` must be"),
        ({"gamma": (1.0,)}, "`gamma` must be"),
        ({"inversion": 1.5}, r"`inversion` must be in \[0, 1\], got 1.5"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandGamma(**arguments)
