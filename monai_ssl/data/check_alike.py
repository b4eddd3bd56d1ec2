"""Scans that are one scan again, resampled, mirrored, rescaled or noisy: small sketches, compared pair by pair."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["ALIKE", "alike_pairs", "sketch"]

ALIKE = 0.9
"""Correlation of two sketches from which on they are told, however alike all scans are."""

_LEAST = 0.6  # where scans differ much
_ENOUGH = 20  # scans, to tell how much they differ
_APART = 10.0  # robust standard deviations above the usual nearest neighbour
_SIDE = 16
_SMOOTH = 2.0  # of a sketch's voxels; what is smoother is in every scan of one anatomy
_FLIPS = tuple(itertools.product((1, -1), repeat=3))


def sketch(volume: np.ndarray) -> np.ndarray:
    """Return a small picture of a volume that depends neither on its size nor on the scale of its intensities.

    The mean intensities of 16 x 16 x 16 equal boxes are replaced by their ranks, from which their surroundings are
    subtracted.

    Args:
        volume: its axes in one order for all, such as RAS; finite.

    Returns:
        Float32, with a sum of squares of 1; of a blank volume all zeros.

    Shape:
        - volume: ``(H, W, D)``
        - Output: ``(16, 16, 16)``
    """
    small = volume
    for axis in range(3):
        small = _means(small, axis)
    _, ranks = np.unique(small.astype(np.float32), return_inverse=True)
    ranks = ranks.reshape(small.shape).astype(np.float32)
    apart = ranks - ndimage.gaussian_filter(ranks, _SMOOTH, mode="nearest")
    apart -= apart.mean()
    norm = float(np.linalg.norm(apart))
    return apart / norm if norm > 1e-3 else np.zeros_like(apart)  # type: ignore[no-any-return]


def alike_pairs(sketches: Sequence[np.ndarray], threshold: float | None = None) -> list[tuple[int, int, float]]:
    """Return the pairs whose sketches correlate, whatever axes of one are mirrored, the most alike first.

    Args:
        sketches: of :func:`sketch`.
        threshold: least correlation; by default :data:`ALIKE`, or less where 20 or more scans differ so much that a
            pair stands out.

    Returns:
        ``(first, second, correlation)``, the first with the lower number.
    """
    if len(sketches) < 2:
        return []
    stack = np.stack(sketches)
    flat, best = stack.reshape(len(stack), -1), np.full((len(stack), len(stack)), -1.0, np.float32)
    for x, y, z in _FLIPS:
        np.maximum(best, flat @ stack[:, ::x, ::y, ::z].reshape(len(stack), -1).T, out=best)
    if threshold is None:
        threshold = _threshold(best)
    first, second = np.nonzero(np.triu(best >= threshold, 1))
    pairs = [(int(i), int(j), float(best[i, j])) for i, j in zip(first, second, strict=True)]
    return sorted(pairs, key=lambda pair: -pair[2])


def _threshold(best: np.ndarray) -> float:
    if len(best) < _ENOUGH:
        return ALIKE
    nearest = np.max(best - 2 * np.eye(len(best), dtype=best.dtype), axis=1)
    usual = float(np.median(nearest))
    spread = 1.4826 * float(np.median(abs(nearest - usual)))
    return min(max(usual + _APART * spread, _LEAST), ALIKE)


def _means(volume: np.ndarray, axis: int) -> np.ndarray:
    """Average boxes of equal length along an axis; an edge within a voxel takes its share of it."""
    length = volume.shape[axis]
    if length >= 4 * _SIDE:  # in whole voxels first, for speed
        edges = np.linspace(0, length, 2 * _SIDE + 1).astype(int)
        widths = np.diff(edges).reshape([-1 if n == axis else 1 for n in range(3)])
        volume = np.add.reduceat(volume, edges[:-1], axis=axis, dtype=np.float64) / widths
        length = 2 * _SIDE
    edges = np.linspace(0, length, _SIDE + 1)
    whole = np.minimum(edges.astype(int), length - 1)
    part = (edges - whole).reshape([-1 if n == axis else 1 for n in range(3)])
    sums = np.cumsum(volume, axis=axis, dtype=np.float64)
    before = np.concatenate([np.zeros_like(np.take(sums, [0], axis)), sums], axis)
    until = np.take(before, whole, axis) + np.take(volume, whole, axis) * part
    return np.diff(until, axis=axis) * (_SIDE / length)
