from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monai_ssl.transforms.monotone_intensity import (
    RandMonotoneIntensity,
    RandMonotoneIntensityd,
    bezier_table,
    monotone_intensity,
)
from tests.helpers import check_transform, seed


def volumes(count: int = 3, channels: int = 2, shape: tuple[int, ...] = (8, 6, 5)) -> Tensor:
    return torch.rand(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def inner(count: int, margin: float = 0.0) -> Tensor:
    return margin + (1 - 2 * margin) * torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(1))


def on_the_curve(value: float, points: list[list[float]]) -> float:
    """The curve at a value, by bisection for the parameter whose first coordinate it is."""

    def coordinate(t: float, axis: int) -> float:
        return 3 * (1 - t) ** 2 * t * points[0][axis] + 3 * (1 - t) * t**2 * points[1][axis] + t**3

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if coordinate(middle, 0) < value else (low, middle)
    return coordinate(low, 1)


@pytest.mark.parametrize("shape", [(8, 6, 5), (14, 9)])
def test_the_curve_voxel_by_voxel(shape: tuple[int, ...]) -> None:
    images, points = volumes(4, 2, shape), inner(4, margin=0.1)
    inverted = torch.tensor([False, True, False, True])
    out = monotone_intensity(images, points, inverted)
    for case in range(4):
        for value, got in zip(images[case].flatten().tolist(), out[case].flatten().tolist(), strict=True):
            expected = on_the_curve(value, points[case].tolist())
            assert got == pytest.approx(1 - expected if inverted[case] else expected, abs=2e-4)


def test_a_finer_table_is_nearer_to_the_curve() -> None:
    points = inner(5, margin=0.1)
    errors = []
    for size in (9, 33, 129):
        table = bezier_table(points, size)
        at = torch.linspace(0, 1, 2 * size - 1, dtype=torch.float64)[1::2].tolist()
        middle = (table[:, 1:] + table[:, :-1]) / 2
        exact = [[on_the_curve(value, inner_points) for value in at] for inner_points in points.tolist()]
        errors.append(float((middle - torch.tensor(exact, dtype=torch.float64)).abs().max()))
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


def test_inner_points_on_the_diagonal_are_the_identity_or_its_mirror() -> None:
    images = volumes()
    points = torch.tensor([[1 / 3, 2 / 3], [0.9, 0.1], [0.2, 0.2]])[..., None].expand(3, 2, 2)
    half = 0.5 / 65_535 + 1e-6  # of a table's step
    assert torch.allclose(monotone_intensity(images, points, torch.tensor([False] * 3)), images, 0, half)
    assert torch.allclose(monotone_intensity(images, points, torch.tensor([True] * 3)), 1 - images, 0, half)


@pytest.mark.parametrize("size", [100, 65_536])
def test_the_error_is_the_growth_of_the_curve_over_a_step(size: int) -> None:
    values = torch.cat([torch.rand(60, generator=torch.Generator().manual_seed(2)), torch.logspace(-6, -1, 20)])
    points, half = inner(20), 0.5 / (size - 1)
    out = monotone_intensity(values.expand(20, 1, 1, -1), points, torch.tensor([False] * 20), size=size)
    errors = []
    for case, curve in enumerate(points.tolist()):
        for value, got in zip(values.tolist(), out[case].flatten().tolist(), strict=True):
            low, high = (on_the_curve(min(max(value + step, 0.0), 1.0), curve) for step in (-half, half))
            assert low - 1e-5 <= got <= high + 1e-5
            errors.append(abs(got - on_the_curve(value, curve)))
    assert max(errors) > 2e-4 if size == 100 else max(errors) < 2e-3


def test_each_value_of_a_16_bit_scan_has_a_place_of_its_own() -> None:
    scan = torch.arange(-32_768.0, 32_768.0).view(1, 1, 256, 256)
    diagonal = torch.tensor([[[1 / 3, 1 / 3], [2 / 3, 2 / 3]]])
    out = monotone_intensity(scan, diagonal, torch.tensor([False]), None)
    assert len(out.unique()) == 65_536
    assert torch.allclose(out, scan, 0, 0.01)


@pytest.mark.parametrize("range", [(0.0, 1.0), (-1000.0, 1000.0), None])
def test_order_is_kept_or_turned_round(range: Any) -> None:
    low, high = range or (-3.0, 5.0)
    ramp = torch.linspace(low, high, 20_000, dtype=torch.float32).expand(200, 1, 1, -1)
    points = inner(200)
    points[0] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # the steepest that there is
    points[1] = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # the flattest
    inverted = torch.arange(200) % 2 == 1
    steps = monotone_intensity(ramp, points, inverted, range).diff(dim=-1)
    assert (steps[~inverted] >= 0).all()
    assert (steps[inverted] <= 0).all()
    table = bezier_table(points, 1024)
    assert (table.diff(dim=1) > 0).all()


@pytest.mark.parametrize("size", [2, 3, 1024])
def test_the_ends_are_kept_or_swapped(size: int) -> None:
    images = torch.tensor([0.0, 0.5, 1.0]).expand(100, 1, 1, 3)
    inverted = torch.arange(100) % 2 == 1
    out = monotone_intensity(images, inner(100), inverted, size=size)
    assert torch.equal(out[..., 0].flatten(), inverted.float())
    assert torch.equal(out[..., 2].flatten(), 1 - inverted.float())
    scaled = monotone_intensity(images * 7 - 3, inner(100), inverted, None, size)
    assert torch.allclose(scaled[..., 0].flatten(), inverted * 7.0 - 3)


def test_a_range_scales_the_curve() -> None:
    images, points, inverted = volumes(), inner(3), torch.tensor([False, True, False])
    out = monotone_intensity(images, points, inverted)
    scaled = monotone_intensity(images * 2000 - 1000, points, inverted, (-1000, 1000))
    assert torch.allclose(scaled, out * 2000 - 1000, atol=0.5)


def test_without_a_range_every_volume_and_channel_has_its_own() -> None:
    images, points, inverted = volumes(), inner(3), torch.tensor([False, True, False])
    images[:, 1] = images[:, 1] * 40 - 20
    out = monotone_intensity(images, points, inverted, None)
    for case in range(3):
        for channel in range(2):
            volume = images[case : case + 1, channel : channel + 1]
            ends = float(volume.min()), float(volume.max())
            alone = monotone_intensity(volume, points[case : case + 1], inverted[case : case + 1], ends)
            assert torch.allclose(out[case, channel], alone[0, 0], atol=1e-5)


def test_beyond_the_range_values_go_on_with_slope_one() -> None:
    images = torch.tensor([-0.5, 0.0, 1.0, 1.25]).expand(2, 1, 1, 4)
    out = monotone_intensity(images, inner(2), torch.tensor([False, True]))
    assert torch.allclose(out[0, 0, 0], torch.tensor([-0.5, 0.0, 1.0, 1.25]))
    assert torch.allclose(out[1, 0, 0], torch.tensor([1.5, 1.0, 0.0, -0.25]))


@pytest.mark.parametrize("range", [(0.0, 1.0), None])
def test_constants_stay_constant(range: Any) -> None:
    image = volumes(1)[0]
    background = image < 0.3
    image[background] = 0.0
    for _ in range_of(5):
        out = seed(RandMonotoneIntensity(range=range, prob=1.0))(image)
        assert len(out[0][background[0]].unique()) == 1
    constant = torch.full((2, 4, 4, 4), 2.5)
    transform = seed(RandMonotoneIntensity(range=None, prob=1.0))
    assert all(torch.equal(transform(constant), constant) for _ in range_of(5))


range_of = range  # a parameter above has its name


def test_nan_stays_nan_and_dtypes_are_kept() -> None:
    image = volumes(1)[0]
    image[0, 0, 0, 0] = torch.nan
    transform = seed(RandMonotoneIntensity(prob=1.0))
    assert transform(image).isnan().sum() == 1
    exact = transform(image.double(), randomize=False)
    assert exact.dtype == torch.float64
    for dtype, error in ((torch.float16, 0.01), (torch.bfloat16, 0.05)):
        out = transform(image.to(dtype), randomize=False)
        assert out.dtype == dtype
        assert torch.allclose(out.double(), exact, atol=error, equal_nan=True)


def test_half_the_curves_are_inverted_and_inner_points_fill_the_square() -> None:
    transform = seed(RandMonotoneIntensity())
    params = [transform.draw((1, 8, 8, 8)) for _ in range(2000)]
    assert sum(one["inverted"] for one in params) == pytest.approx(1000, abs=5 * 500**0.5)
    points = torch.stack([torch.as_tensor(one["points"]) for one in params])
    assert points.shape == (2000, 2, 2)
    assert torch.allclose(points.mean(0), torch.full((2, 2), 0.5).double(), atol=5 * (1 / 12 / 2000) ** 0.5)
    assert torch.allclose(points.var(0), torch.full((2, 2), 1 / 12).double(), atol=0.01)
    assert not any(RandMonotoneIntensity(0.0).draw((1, 8))["inverted"] for _ in range(50))
    assert all(RandMonotoneIntensity(1.0).draw((1, 8))["inverted"] for _ in range(50))


@pytest.mark.parametrize("range", [(0.0, 1.0), None])
def test_a_batch_is_its_cases_one_by_one(range: Any) -> None:
    images = volumes(5)
    whole, single = seed(RandMonotoneIntensity(range=range)), seed(RandMonotoneIntensity(range=range))
    for _ in (0, 1):
        out = whole.batch(images)
        for number, image in enumerate(images):
            assert torch.equal(out[number], single(image))


@pytest.mark.parametrize("shape", [(8, 6, 5), (14, 9)])
@pytest.mark.parametrize("range", [(0.0, 1.0), None])
def test_the_batteries_hold(range: Any, shape: tuple[int, ...]) -> None:
    check_transform(
        lambda prob: RandMonotoneIntensity(range=range, prob=prob),
        lambda keys, prob: RandMonotoneIntensityd(keys, range=range, prob=prob),
        volumes(1, 2, shape)[0],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inversion": 1.5}, r"`inversion` must be in \[0, 1\], got 1.5"),
        ({"range": (1, 0)}, r"`range` must be a low and a higher number, or None, got \(1, 0\)"),
        ({"range": (1,)}, "`range` must be"),
        ({"size": 1}, "`size` must be 2 at least, got 1"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandMonotoneIntensity(**arguments)
