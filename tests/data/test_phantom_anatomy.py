from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline
from scipy.ndimage import binary_dilation

from monai_ssl.data import phantom_anatomy as anatomy
from monai_ssl.data.phantom_anatomy import draw_anatomy, smooth_field

SHAPE = (24, 30, 26)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_smooth_field_is_the_spline_of_its_coefficients() -> None:
    knots, size = 4, 9
    coefficients = rng().standard_normal(knots + 3)
    basis = np.array(
        [BSpline(np.arange(-3.0, knots + 4), one, 3)(np.linspace(0, knots, size)) for one in np.eye(knots + 3)]
    ).T
    expected = basis @ coefficients / np.sqrt((basis**2).sum(1))
    np.testing.assert_allclose(smooth_field(rng(), (size,), knots), expected, atol=1e-12)


def test_smooth_field_is_standard_normal_at_every_voxel() -> None:
    source = rng()
    draws = np.stack([smooth_field(source, (5, 6, 7), 2) for _ in range(2000)])
    assert draws.shape == (2000, 5, 6, 7)
    np.testing.assert_allclose(draws.mean(0), 0, atol=5 / np.sqrt(2000))
    np.testing.assert_allclose(draws.std(0), 1, atol=5 / np.sqrt(4000))


def test_smooth_field_with_fewer_knots_is_smoother() -> None:
    def roughness(knots: int) -> float:
        return float(np.abs(np.diff(smooth_field(rng(1), (40, 40, 40), knots), axis=0)).mean())

    assert roughness(1) < roughness(3) < roughness(9)


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_organs_and_have_look_alikes(seed: int) -> None:
    tissue, label = draw_anatomy(rng(seed), SHAPE)
    assert tissue.shape == label.shape == SHAPE
    assert tissue.dtype == label.dtype == np.uint8
    for value, kind in enumerate((anatomy.LOBE, anatomy.GLAND, anatomy.NODE), start=1):
        assert set(np.unique(tissue[label == value])) == {kind}
    # the twin of the lobe, at least, looks like an organ and is none, on the other side of the body
    alike = (tissue == anatomy.LOBE) & (label == 0)
    assert alike.any()
    assert np.argwhere(label == 1)[:, 0].mean() > np.argwhere(alike)[:, 0].mean()


@pytest.mark.parametrize("seed", range(5))
def test_no_look_alike_touches_an_organ_of_its_tissue(seed: int) -> None:
    tissue, label = draw_anatomy(rng(seed), (48, 56, 40))
    for value, kind in enumerate((anatomy.LOBE, anatomy.GLAND, anatomy.NODE), start=1):
        assert not (binary_dilation(label == value) & (tissue == kind) & (label == 0)).any()


def test_lobe_and_gland_are_neighbours_in_most_cases() -> None:
    touching = []
    for seed in range(20):
        _, label = draw_anatomy(rng(seed), (48, 56, 40))
        touching.append((binary_dilation(label == 1) & (label == 2)).any())
    assert np.mean(touching) > 0.8
