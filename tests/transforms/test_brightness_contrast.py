from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_ssl.transforms.brightness_contrast import (
    RandBrightnessContrast,
    RandBrightnessContrastd,
    brightness_contrast,
)
from tests.helpers import check_transform, seed


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (8, 6, 5)) -> Tensor:
    return 2 * torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0)) - 1


SHIFTS, FACTORS = torch.tensor([0.5, -1.0, 0.0]), torch.tensor([0.7, 1.6, 1.2])


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("shape", [(4, 3, 5), (6, 7)])
def test_against_numpy(shape: tuple[int, ...], clip: bool) -> None:
    images = volumes(3, 2, shape)
    out = brightness_contrast(images, SHIFTS, FACTORS, clip)
    for case in range(3):
        for channel in range(2):
            array = images[case, channel].double().numpy()
            expected = array.mean() + float(FACTORS[case]) * (array - array.mean()) + float(SHIFTS[case]) * array.std()
            if clip:
                expected = np.minimum(np.maximum(expected, array.min()), array.max())
            assert np.allclose(out[case, channel], expected, atol=1e-5)


def test_moments_are_what_was_asked_for() -> None:
    images = volumes().double()
    out = brightness_contrast(images, SHIFTS, FACTORS)
    axes = (2, 3, 4)
    deviation, mean = torch.std_mean(images, axes)
    new_deviation, new_mean = torch.std_mean(out, axes)
    assert torch.allclose(new_deviation, deviation * FACTORS[:, None])
    assert torch.allclose(new_mean, mean + SHIFTS[:, None] * torch.std(images, axes, correction=0))


def test_shift_zero_and_factor_one_are_the_identity_and_constants_stay() -> None:
    images = volumes()
    assert torch.equal(brightness_contrast(images, torch.zeros(3), torch.ones(3)), images)
    assert torch.equal(brightness_contrast(images, torch.zeros(3), torch.ones(3), clip=True), images)
    constant = torch.full((3, 1, 4, 4, 4), 0.1)
    assert torch.allclose(brightness_contrast(constant, SHIFTS, FACTORS), constant)


def test_dtypes_are_kept() -> None:
    exact = brightness_contrast(volumes().double(), SHIFTS, FACTORS)
    assert exact.dtype == torch.float64
    for dtype, error in ((torch.float16, 0.01), (torch.bfloat16, 0.1)):
        out = brightness_contrast(volumes().to(dtype), SHIFTS, FACTORS)
        assert out.dtype == dtype
        assert torch.allclose(out.double(), exact, atol=error)


def test_shifts_are_uniform_and_factors_in_their_logarithm() -> None:
    transform = seed(RandBrightnessContrast(0.4, (0.25, 2.0)))
    params = [transform.draw((1, 8, 8, 8)) for _ in range(2000)]
    shifts, logs = np.array([one["shift"] for one in params]), np.log2([one["factor"] for one in params])
    assert -0.4 <= shifts.min() < -0.39
    assert 0.39 < shifts.max() <= 0.4
    assert shifts.mean() == pytest.approx(0, abs=5 * 0.8 / math.sqrt(12 * 2000))
    assert -2 <= logs.min() < -1.95
    assert 0.95 < logs.max() <= 1
    assert logs.mean() == pytest.approx(-0.5, abs=5 * 3 / math.sqrt(12 * 2000))


@pytest.mark.parametrize("clip", [False, True])
def test_a_batch_is_its_cases_one_by_one(clip: bool) -> None:
    images = volumes(5)
    whole, single = (seed(RandBrightnessContrast(clip=clip, prob=0.7)) for _ in range(2))
    for _ in (0, 1):
        out = whole.batch(images)
        for number, image in enumerate(images):
            assert torch.allclose(out[number], single(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 6, 5), (14, 9)])
def test_the_batteries_hold(shape: tuple[int, ...]) -> None:
    check_transform(RandBrightnessContrast, RandBrightnessContrastd, volumes(1, 2, shape)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"brightness": -0.1}, "`brightness` must be 0 at least, got -0.1"),
        ({"contrast": (0.0, 1.0)}, r"`contrast` must be two numbers above 0, the least first, got \(0.0, 1.0\)"),
        ({"contrast": (2.0, 1.0)}, "`contrast` must be"),
        ({"contrast": (1.0,)}, "`contrast` must be"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandBrightnessContrast(**arguments)
