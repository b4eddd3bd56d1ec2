from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from monai_ssl.data.chest_anatomy import AIR, draw_chest, draw_nodules, draw_vessels

SHAPE, SPACING = (48, 46, 44), np.array([1.0, 1.0, 1.2])


def drawn(seed, count=3):
    rng = np.random.default_rng(seed)
    intensity, lung = draw_chest(rng, SHAPE)
    before = intensity.copy()
    vessels = draw_vessels(rng, intensity, lung, SPACING)
    with_vessels = intensity.copy()
    mask = draw_nodules(rng, intensity, lung, vessels, SPACING, count)
    return before, lung, vessels, with_vessels, mask, intensity


@pytest.fixture(scope="module")
def chests():
    return [drawn(seed) for seed in range(14)]


def test_two_dark_lungs_lie_in_a_body(chests):
    for before, lung, *_ in chests:
        sizes = sorted(np.bincount(label(lung)[0].ravel())[1:])[-2:]
        assert sum(sizes) > 0.98 * lung.sum()
        assert sizes[0] > 0.4 * sizes[1]
        assert 0.2 < lung.mean() < 0.5
        assert (before[lung] < -780).all()
        assert (before[lung] > -960).all()
        assert (before[~lung] > -200).mean() > 0.3
        # the air around the body is no lung
        assert not lung[before == AIR].any()
        assert not binary_dilation(lung)[before == AIR].any()


def test_vessels_are_drawn_into_lungs_alone(chests):
    for before, lung, vessels, after, *_ in chests:
        assert vessels.min() == 0
        assert vessels.max() <= 1
        np.testing.assert_array_equal(after != before, vessels > 0)
        assert not vessels[~lung].any()
        full = vessels == 1
        assert 0.01 < full.sum() / lung.sum() < 0.35
        assert (after[full] > -110).mean() > 0.9
        assert after[full].max() <= 50


def test_nodules_are_apart_and_wholly_in_a_lung(chests):
    on_a_vessel = []
    for _, lung, vessels, before, mask, after in chests:
        assert set(np.unique(mask)) == {0, 1, 2, 3}
        assert lung[mask > 0].all()
        assert label(mask > 0, np.ones((3, 3, 3)))[1] == 3
        # an edge is soft over a voxel
        assert not (after != before)[~binary_dilation(mask > 0, np.ones((3, 3, 3)))].any()
        on_a_vessel += [bool((vessels[mask == number] > 0.5).any()) for number in (1, 2, 3)]
    assert 0.3 < np.mean(on_a_vessel) < 0.95


def test_no_nodule_leaves_the_chest_as_it_is():
    *_, before, mask, after = drawn(0, count=0)
    assert not mask.any()
    np.testing.assert_array_equal(before, after)
