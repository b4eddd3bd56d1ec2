from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from monai_ssl.transforms.blur import RandGaussianBlur, RandGaussianBlurd, blur_matrices, gaussian_blur
from tests.helpers import check_transform, seed


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (8, 12, 6)) -> Tensor:
    return torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def widths(count: int, axes: int) -> Tensor:
    return 2 * torch.rand(count, axes, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("truncate", [4.0, 2.0])
@pytest.mark.parametrize(("channels", "shape"), [(1, (8, 12, 6)), (3, (8, 12, 6)), (2, (14, 9)), (2, (1, 5, 3))])
def test_against_scipy(channels: int, shape: tuple[int, ...], truncate: float) -> None:
    images, sigmas = volumes(4, channels, shape), widths(4, len(shape))
    sigmas[0] = 0.3  # a single voxel at truncate 2 or less
    sigmas[1, 0] = 5  # wider than the volume
    out = gaussian_blur(images, sigmas, truncate)
    assert out.is_contiguous()
    for case in range(4):
        for channel in range(channels):
            volume = images[case, channel].double().numpy()
            expected = gaussian_filter(volume, sigmas[case].tolist(), mode="nearest", truncate=truncate)
            assert np.allclose(out[case, channel], expected, atol=1e-5)


def test_width_zero_is_the_identity_along_its_axis() -> None:
    images = volumes()
    assert torch.equal(gaussian_blur(images, torch.zeros(3, 3)), images)
    sigmas = widths(3, 3)
    sigmas[:, 1] = 0
    out = gaussian_blur(images, sigmas)
    for line in range(12):
        alone = gaussian_blur(images[:, :, :, line : line + 1], sigmas)
        assert torch.allclose(out[:, :, :, line : line + 1], alone, atol=1e-6)
    assert not torch.allclose(out, images, atol=0.1)


def test_matrices_average() -> None:
    matrices = blur_matrices(torch.tensor([0.0, 0.7, 3.0]), 9)
    assert torch.allclose(matrices.sum(2), torch.ones(3, 9).double())
    assert (matrices >= 0).all()
    assert torch.equal(matrices[0], torch.eye(9).double())
    assert torch.allclose(matrices, matrices.flip(1, 2))
    assert (torch.linalg.eigvals(matrices).abs() <= 1 + 1e-9).all()


def test_a_constant_stays_constant_and_a_channel_alone() -> None:
    constant = torch.full((3, 1, 6, 6, 6), 2.5)
    assert torch.allclose(gaussian_blur(constant, widths(3, 3)), constant)
    images = volumes()
    images[:, 1] = 0
    out = gaussian_blur(images, widths(3, 3))
    assert not out[:, 1].any()
    assert torch.allclose(out[:, :1], gaussian_blur(images[:, :1], widths(3, 3)), atol=1e-6)


def test_dtypes_are_kept_and_autocast_does_not_lower_the_products() -> None:
    images, sigmas = volumes(), widths(3, 3)
    exact = gaussian_blur(images.double(), sigmas)
    assert exact.dtype == torch.float64
    for dtype, error in ((torch.float16, 0.01), (torch.bfloat16, 0.05)):
        out = gaussian_blur(images.to(dtype), sigmas)
        assert out.dtype == dtype
        assert torch.allclose(out.double(), exact, atol=error)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(gaussian_blur(images, sigmas).double(), exact, atol=1e-5)


def test_widths_are_uniform_one_for_all_axes_or_one_for_each() -> None:
    transform = seed(RandGaussianBlur((0.2, 1.0)))
    drawn = np.array([transform.draw((1, 8, 8, 8))["sigma"] for _ in range(2000)])
    assert drawn.shape == (2000, 3)
    assert (drawn == drawn[:, :1]).all()
    assert 0.2 <= drawn.min() < 0.21
    assert 0.99 < drawn.max() <= 1.0
    assert drawn[:, 0].mean() == pytest.approx(0.6, abs=5 * 0.8 / math.sqrt(12 * 2000))
    each = seed(RandGaussianBlur((0.2, 1.0), isotropic=False))
    drawn = np.array([each.draw((1, 8, 8))["sigma"] for _ in range(500)])
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 5 / math.sqrt(500)


def test_millimetres_are_voxels_at_the_spacing() -> None:
    assert RandGaussianBlur((2.0, 2.0), [1.0, 2.0, 5.0]).draw((1, 8, 8, 8))["sigma"] == pytest.approx([2.0, 1.0, 0.4])
    assert RandGaussianBlur((2.0, 2.0), 4.0).draw((1, 8, 8))["sigma"] == pytest.approx([0.5, 0.5])
    with pytest.raises(ValueError, match="`spacing` must be one number or one for each of 2 axes, got"):
        RandGaussianBlur(spacing=[1.0, 1.0, 5.0])(torch.zeros(1, 8, 8))


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("shape", [(8, 12, 6), (14, 9)])
def test_a_batch_is_its_cases_one_by_one(shape: tuple[int, ...], isotropic: bool) -> None:
    images = volumes(5, shape=shape)
    whole, single = (seed(RandGaussianBlur((0.1, 2.0), isotropic=isotropic, prob=0.7)) for _ in range(2))
    for _ in (0, 1):
        out = whole.batch(images)
        for number, image in enumerate(images):
            assert torch.allclose(out[number], single(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 6, 5), (14, 9)])
def test_the_batteries_hold(shape: tuple[int, ...]) -> None:
    check_transform(RandGaussianBlur, RandGaussianBlurd, volumes(1, 2, shape)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": (-1.0, 1.0)}, r"`sigma` must be two numbers from 0, the least first, got \(-1.0, 1.0\)"),
        ({"sigma": (2.0, 1.0)}, "`sigma` must be"),
        ({"sigma": (1.0,)}, "`sigma` must be"),
        ({"spacing": [1.0, 0.0, 1.0]}, r"`spacing` must be above 0 mm, got \[1.0, 0.0, 1.0\]"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandGaussianBlur(**arguments)
