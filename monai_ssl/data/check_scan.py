"""One file read once, by blocks: container, header, voxels. The part of the check that runs in other processes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import IO

import numpy as np

from monai_ssl.data.check_facts import Problem, ScanFacts, Volume
from monai_ssl.data.check_header import HEADER_BYTES, Layout, read_layout
from monai_ssl.data.check_stream import DEFLATE_RATIO, GZIP_MAGIC, BrokenFileError, decompressed, plain

__all__ = ["MAX_VALUES", "read_facts"]

MAX_VALUES = 300
"""Values of a label that are kept; a file with more is no label."""

_ENDINGS = (".nii", ".nii.gz")
_CHUNK = 1 << 16  # voxels that are summed up together, from the processor's cache
_WIDE = 1e12  # squares of such differences would leave float32
_SPARE = 1 << 20  # bytes behind the voxels that are read on, to reach the checksum


def read_facts(path: str, is_label: bool, max_bytes: int) -> ScanFacts:
    """Read a file once, and tell what is in it or what is wrong with it.

    Args:
        path: absolute.
        is_label: whether its values are counted one by one.
        max_bytes: of its voxels; a header that claims more is refused before any voxel is read.
    """
    size = 0
    try:
        size = _checked_size(path)
        with open(path, "rb") as stream:
            return ScanFacts(path, size, _read_volume(stream, path, size, is_label, max_bytes))
    except BrokenFileError as error:
        return ScanFacts(path, size, problem=error.problem)
    except OSError as error:
        return ScanFacts(path, size, problem=Problem("unreadable", f"cannot be read: {error.strerror or error}"))
    except MemoryError:
        return ScanFacts(path, size, problem=Problem("unreadable", "cannot be read: there is not enough memory"))
    except Exception as error:  # a file must never end the check of the others
        told = " ".join(f"{type(error).__name__}: {error}".split())
        return ScanFacts(path, size, problem=Problem("unreadable", f"cannot be read ({told[:200]})"))


def _checked_size(path: str) -> int:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BrokenFileError("missing", f"is missing: there is no {path}") from error
    if stat.S_ISDIR(found.st_mode):
        raise BrokenFileError("unchecked", "is a folder, and no folders are checked")
    if not stat.S_ISREG(found.st_mode):
        raise BrokenFileError("not_a_file", "is not a file")
    if not found.st_size:
        raise BrokenFileError("empty", "is empty")
    return found.st_size


def _read_volume(stream: IO[bytes], path: str, size: int, is_label: bool, max_bytes: int) -> Volume:
    start = stream.read(4)
    stream.seek(0)
    blocks = decompressed(stream) if start.startswith(GZIP_MAGIC) else plain(stream)
    _check_name(path, start)
    head = b""
    for block in blocks:
        head += block
        if len(head) >= HEADER_BYTES:
            break
    layout = read_layout(head)
    _check_claim(layout, size, start.startswith(GZIP_MAGIC), max_bytes)
    tally = _Tally(layout, is_label)
    end = tally.add(head)
    for block in blocks:
        end = tally.add(block)
        if end > layout.end + _SPARE:
            break
    if end < layout.end:
        raise BrokenFileError("short", f"holds {end} of the {layout.end} bytes that its header claims")
    if end > layout.end:
        more = "at least " if end > layout.end + _SPARE else ""
        raise BrokenFileError("surplus", f"holds {more}{end - layout.end} bytes more than its header tells of")
    return tally.volume()


def _check_name(path: str, start: bytes) -> None:
    name, is_gzip = path.lower(), start.startswith(GZIP_MAGIC)
    if not name.endswith(_ENDINGS):
        raise BrokenFileError("unchecked", "is not a NIfTI file (.nii, .nii.gz), and no others are checked")
    # readers go by the name
    if is_gzip != name.endswith(".gz"):
        is_not = "is gzip, and its name does not end in .gz" if is_gzip else "is not gzip, though its name ends in .gz"
        raise BrokenFileError("not_an_image", is_not)


def _check_claim(layout: Layout, size: int, is_gzip: bool, max_bytes: int) -> None:
    claim = layout.end - layout.start
    words = f"has a header that claims {' x '.join(map(str, layout.shape))} voxels, {claim / 1e9:.3g} GB"
    if claim > max_bytes:
        raise BrokenFileError("too_large", f"{words}; the limit is {max_bytes / 1e9:g} GB")
    if layout.end > size * (DEFLATE_RATIO if is_gzip else 1):
        raise BrokenFileError("short", f"{words}; its {size} bytes cannot hold them")


class _Tally:
    """Sums up the voxels of a file, given to it block by block from the file's first byte on."""

    def __init__(self, layout: Layout, is_label: bool) -> None:
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
        )


def _counted(values: np.ndarray, low: float, high: float) -> Iterator[list[float]]:
    if low >= 0 and high < MAX_VALUES and (values == np.rint(values)).all():
        counts = np.bincount(values.astype(np.intp))
        found = np.flatnonzero(counts)
        return iter((found.astype(float).tolist(), counts[found].tolist()))
    found, counts = np.unique(values, return_counts=True)
    return iter((found[:MAX_VALUES].tolist(), counts[:MAX_VALUES].tolist()))
