from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_ssl.transforms.low_resolution import RandLowResolution, RandLowResolutiond, low_resolution
from tests.helpers import check_transform, seed


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (8, 12, 6)) -> Tensor:
    return torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def coarse(line: np.ndarray, zoom: float) -> np.ndarray:
    """A line of voxels at a lower resolution and back; voxels are as wide as the line is long over their number."""
    length, size = len(line), max(1, round(len(line) * zoom))
    step = length / size
    centres = [(number + 0.5) * step for number in range(size)]
    nearest = [line[min(range(length), key=lambda voxel: (abs(voxel + 0.5 - centre), -voxel))] for centre in centres]
    return np.interp(np.arange(length) + 0.5, centres, nearest)


@pytest.mark.parametrize("shape", [(8, 12, 6), (14, 9)])
def test_along_each_axis_line_by_line(shape: tuple[int, ...]) -> None:
    images = volumes(6, 2, shape)
    zooms = 0.2 + 0.8 * torch.rand(6, len(shape), generator=torch.Generator().manual_seed(1))
    zooms[3] = zooms[0]  # a group of two that are no neighbours
    zooms[5] = 0.01  # a single voxel is left
    out = low_resolution(images, zooms)
    for case in range(6):
        expected = images[case].double().numpy()
        for axis, zoom in enumerate(zooms[case].tolist(), start=1):
            expected = np.apply_along_axis(coarse, axis, expected, zoom)
        assert np.allclose(out[case], expected, atol=1e-5)


def test_zoom_one_is_the_identity_along_its_axis_and_constants_stay() -> None:
    images = volumes()
    assert torch.equal(low_resolution(images, torch.ones(3, 3)), images)
    halved = low_resolution(images, torch.tensor([[0.5, 1.0, 1.0]] * 3))
    assert torch.allclose(
        halved[:, :, :, 4], low_resolution(images[:, :, :, 4:5], torch.tensor([[0.5, 1, 1]] * 3))[:, :, :, 0]
    )
    assert not torch.allclose(halved, images, atol=0.1)
    constant = torch.full((2, 1, 7, 7, 7), 2.5)
    assert torch.equal(low_resolution(constant, torch.tensor([[0.5] * 3, [0.7] * 3])), constant)


def test_no_value_leaves_the_range_and_a_ramp_loses_half_a_coarse_voxel_at_most() -> None:
    images = volumes()
    out = low_resolution(images, torch.full((3, 3), 0.6))
    assert out.max() <= images.max()
    assert out.min() >= images.min()
    ramp = torch.arange(12.0).view(1, 1, 12, 1, 1).expand(1, 1, 12, 4, 4)
    assert (low_resolution(ramp, torch.tensor([[0.5, 1.0, 1.0]])) - ramp).abs().max() <= 1


def test_dtypes_are_kept() -> None:
    zooms = torch.tensor([[0.5] * 3, [0.7] * 3, [1.0] * 3])
    exact = low_resolution(volumes().double(), zooms)
    assert exact.dtype == torch.float64
    for dtype, error in ((torch.float16, 0.01), (torch.bfloat16, 0.05)):
        out = low_resolution(volumes().to(dtype), zooms)
        assert out.dtype == dtype
        assert torch.allclose(out.double(), exact, atol=error)


def test_fractions_are_uniform_and_axes_may_be_left_out() -> None:
    transform = seed(RandLowResolution((0.3, 0.9)))
    drawn = np.array([transform.draw((1, 8, 8, 8))["zoom"] for _ in range(2000)])
    assert (drawn == drawn[:, :1]).all()
    assert 0.3 <= drawn.min() < 0.305
    assert 0.895 < drawn.max() <= 0.9
    assert drawn[:, 0].mean() == pytest.approx(0.6, abs=5 * 0.6 / math.sqrt(12 * 2000))
    assert RandLowResolution((0.5, 0.5), axes=[0, 2]).draw((1, 8, 8, 8))["zoom"] == [0.5, 1.0, 0.5]
    with pytest.raises(ValueError, match=r"`axes` must be below 2 for volumes of \(8, 8\), got \(2,\)"):
        RandLowResolution(axes=[2])(torch.zeros(1, 8, 8))


@pytest.mark.parametrize("shape", [(8, 12, 6), (14, 9)])
def test_a_batch_is_its_cases_one_by_one(shape: tuple[int, ...]) -> None:
    images = volumes(8, shape=shape)
    whole, single = (seed(RandLowResolution(prob=0.7)) for _ in range(2))
    for _ in (0, 1):
        out = whole.batch(images)
        for number, image in enumerate(images):
            assert torch.equal(out[number], single(image))


@pytest.mark.parametrize("shape", [(8, 6, 5), (14, 9)])
def test_the_batteries_hold(shape: tuple[int, ...]) -> None:
    check_transform(RandLowResolution, RandLowResolutiond, volumes(1, 2, shape)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"zoom": (0.0, 1.0)}, r"`zoom` must be two numbers in \(0, 1\], the least first, got \(0.0, 1.0\)"),
        ({"zoom": (0.5, 1.5)}, "`zoom` must be"),
        ({"zoom": (0.8, 0.5)}, "`zoom` must be"),
        ({"zoom": (0.5,)}, "`zoom` must be"),
        ({"axes": [0, 3]}, r"`axes` must be some of 0, 1 and 2, or None, got \[0, 3\]"),
        ({"axes": []}, "`axes` must be"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandLowResolution(**arguments)
