from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from monai_ssl.data.check_alike import alike_pairs, sketch


def scan(seed: int, shape: tuple[int, int, int] = (60, 52, 44)) -> np.ndarray:
    """A smooth volume with structures of a few voxels, as anatomy has."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    return (1000 * ndimage.gaussian_filter(noise, 3)).astype(np.float32)


def test_a_sketch_is_what_a_slow_mean_over_boxes_gives() -> None:
    volume = np.random.default_rng(0).random((32, 48, 16)).astype(np.float32)
    slow = np.array(
        [
            [[volume[2 * i : 2 * i + 2, 3 * j : 3 * j + 3, k].mean() for k in range(16)] for j in range(16)]
            for i in range(16)
        ]
    )
    ranks = slow.ravel().argsort().argsort().reshape(slow.shape).astype(np.float64)
    expected = ranks - ndimage.gaussian_filter(ranks, 2.0, mode="nearest")
    expected -= expected.mean()
    expected /= np.linalg.norm(expected)
    found = sketch(volume)
    assert found.shape == (16, 16, 16)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert float((found * expected).sum()) > 0.999


@pytest.mark.parametrize(
    "change",
    [
        lambda volume: volume[::-1],
        lambda volume: volume[:, ::-1, ::-1],
        lambda volume: 3.5 * volume - 1000,
        lambda volume: np.exp(volume / 500),
        lambda volume: ndimage.zoom(volume, (0.6, 1.3, 0.8), order=1),
        lambda volume: volume + np.random.default_rng(1).normal(0, 0.2 * volume.std(), volume.shape),
        lambda volume: volume[1:-1, 1:, :-1],
    ],
    ids=["mirrored", "turned", "scaled", "another contrast", "resampled", "noisy", "cropped"],
)
def test_a_changed_copy_is_known_among_others(change: Callable[[np.ndarray], np.ndarray]) -> None:
    scans = [scan(seed) for seed in range(25)]
    pairs = alike_pairs([sketch(volume) for volume in [*scans, change(scans[7])]])
    assert [pair[:2] for pair in pairs] == [(7, 25)]


def test_others_are_not_called_copies() -> None:
    anatomy = scan(99)
    for share in (0.0, 0.5, 1.0):  # of what all scans have in common
        assert alike_pairs([sketch(scan(seed) + share * anatomy) for seed in range(40)]) == []


def test_pairs_come_most_alike_first_and_by_a_threshold_of_ones_own() -> None:
    first = scan(0)
    noisy = first + np.random.default_rng(1).normal(0, first.std(), first.shape)
    pairs = alike_pairs([sketch(volume) for volume in (first, scan(1), noisy, first)], 0.3)
    assert [pair[:2] for pair in pairs] == [(0, 3), (0, 2), (2, 3)]
    assert pairs[0][2] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 200, 5), (16, 16, 16), (65, 64, 63)])
def test_any_size_and_a_blank_volume(shape: tuple[int, int, int]) -> None:
    assert np.isfinite(sketch(np.random.default_rng(0).random(shape).astype(np.float32))).all()
    assert not sketch(np.full(shape, 7.0, np.float32)).any()
    assert alike_pairs([]) == alike_pairs([sketch(np.zeros(shape))] * 2) == []
