"""The voxels of a file in numbers, summed up block by block as they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from monai_ssl.data.check_facts import Volume
from monai_ssl.data.check_header import Layout

__all__ = ["MAX_SAMPLES", "MAX_VALUES", "Tally"]

MAX_VALUES = 300
"""Values of a label that are kept; a file with more is no label."""

MAX_SAMPLES = 128
"""Voxels along an axis that are kept at most, where some are wanted."""

_CHUNK = 1 << 16  # voxels that are summed up together, from the processor's cache
_WIDE = 1e12  # squares of such differences would leave float32


class Tally:
    """Sums up the voxels of a file, given to it block by block from the file's first byte on.

    Args:
        layout: of the file.
        is_label: whether its values are counted one by one.
        sampled: whether some of the voxels are kept.
    """

    def __init__(self, layout: Layout, is_label: bool, sampled: bool = False) -> None:
        self.layout = layout
        self.is_label = is_label
        self.position = 0
        self.rest = b""
        self.hash = hashlib.sha256()
        self.count = self.non_finite = 0
        self.first = self.sum = self.squares = 0.0
        self.minimum, self.maximum = np.inf, -np.inf
        self.values: dict[float, int] = {}
        # float32 holds these types exactly
        small = layout.dtype.itemsize <= (4 if layout.dtype.kind == "f" else 2)
        self.dtype = np.float32 if small else np.float64
        self.scaled = (layout.slope, layout.inter) != (1.0, 0.0)
        self.seen = 0
        self.samples = _Samples(layout.shape[:3]) if sampled and len(layout.shape) > 2 else None

    def add(self, block: bytes) -> int:
        """Take the next block; return the number of bytes seen so far."""
        begin, self.position = self.position, self.position + len(block)
        lower, upper = max(self.layout.start - begin, 0), max(self.layout.end - begin, 0)
        data = self.rest + block[lower:upper] if self.rest else memoryview(block)[lower:upper]
        size = self.layout.dtype.itemsize
        whole = len(data) - len(data) % size
        with np.errstate(all="ignore"):
            for place in range(0, whole, _CHUNK * size):
                self._count(np.frombuffer(data[place : min(place + _CHUNK * size, whole)], self.layout.dtype))
        self.rest = bytes(data[whole:])
        return self.position

    def _count(self, stored: np.ndarray) -> None:
        values = stored.astype(np.float64) * self.layout.slope + self.layout.inter if self.scaled else stored
        if self.samples is not None:
            self.samples.take(values, self.seen)
        self.seen += values.size
        if not self.is_label:
            self.hash.update(np.ascontiguousarray(values, dtype="<f4").data)
        values = values.astype(self.dtype, copy=False)
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(high - low):
            finite = values[np.isfinite(values)]
            self.non_finite += values.size - finite.size
            if not finite.size:
                return
            values, low, high = finite, float(finite.min()), float(finite.max())
        if not self.count:
            self.first = low  # sums around it stay exact for a far-off mean
        wide = max(high - self.first, self.first - low) > _WIDE
        apart = (values.astype(np.float64) if wide else values) - (self.first if wide else self.dtype(self.first))
        self.count += values.size
        self.sum += float(apart.sum())
        self.squares += float(apart @ apart)
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        if self.is_label and len(self.values) < MAX_VALUES:
            for value, number in zip(*_counted(values, low, high), strict=True):
                self.values[value] = self.values.get(value, 0) + number

    def volume(self) -> Volume:
        """What has been summed up."""
        nan, n = float("nan"), self.count
        mean = self.sum / n if n else nan
        return Volume(
            shape=self.layout.shape,
            affine=tuple(tuple(map(float, row)) for row in self.layout.affine),
            digest="" if self.is_label else self.hash.hexdigest(),
            minimum=self.minimum if n else nan,
            maximum=self.maximum if n else nan,
            mean=self.first + mean,
            std=max(self.squares / n - mean * mean, 0.0) ** 0.5 if n else nan,
            non_finite=self.non_finite,
            values=dict(sorted(self.values.items())[:MAX_VALUES]),
            voxels=None if self.samples is None else self.samples.voxels,
        )


class _Samples:
    """Every n-th voxel along each axis, those left out being as many at both ends, so that a mirror image fits."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        x, y, z = (np.arange((n - 1) % step // 2, n, step) for n, step in ((n, -(-n // MAX_SAMPLES)) for n in shape))
        # by their number in the file, where x goes fastest
        self.places = (x + shape[0] * (y[:, None] + shape[1] * z[:, None, None])).ravel()
        self.kept = np.zeros((len(z), len(y), len(x)), np.float32)

    def take(self, values: np.ndarray, begin: int) -> None:
        first, end = np.searchsorted(self.places, (begin, begin + values.size))
        self.kept.reshape(-1)[first:end] = values[self.places[first:end] - begin]

    @property
    def voxels(self) -> np.ndarray:
        return self.kept.T


def _counted(values: np.ndarray, low: float, high: float) -> Iterator[list[float]]:
    if low >= 0 and high < MAX_VALUES and (values == np.rint(values)).all():
        counts = np.bincount(values.astype(np.intp))
        found = np.flatnonzero(counts)
        return iter((found.astype(float).tolist(), counts[found].tolist()))
    found, counts = np.unique(values, return_counts=True)
    return iter((found[:MAX_VALUES].tolist(), counts[:MAX_VALUES].tolist()))
