"""Whether a label fits its image better when it is mirrored left to right, as a tool that drops the affine leaves it.

The voxels come from the one reading of each file, every n-th of them where a scan is large, and are let go as soon as
both files of a pair are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from monai_ssl.data.check_case import affine_faults, geometry_faults
from monai_ssl.data.check_facts import ScanFacts, Volume
from monai_ssl.data.check_tally import MAX_VALUES

__all__ = ["MirrorTest", "Pair", "PairReader", "mirror_test"]

Pair = tuple[str, str]
"""Paths of an image and its label."""

_MARGIN = 3  # voxels around a label that belong to its surroundings
_NEAR = 2  # of them, those in which a class is told from what is around it
_STEPS = 1 << 16  # of intensity, between its far ends
_ENOUGH = 1 << 13  # voxels that tell these


class MirrorTest(NamedTuple):
    """What speaks for a label being mirrored.

    Attributes:
        gain: how much better it fits its image mirrored; below 0 where it fits better as it is.
        faces: number of faces between voxels of two classes; fewer tell less.
        places: by class, its centre from left (-0.5) to right (0.5) of the image.
    """

    gain: float
    faces: int
    places: dict[int, float]


def mirror_test(image: Volume, label: Volume) -> MirrorTest | None:
    """Compare a label, and its mirror image along the axis nearest to left and right, with the image.

    The fit of a label is the share of the image's variance that its classes explain (eta squared), within two voxels of
    the foreground, plus twice the mean jump of the image across the faces of the classes. Both are of ranks from 0 to
    1, so that neither unit nor contrast matters. Regions that differ in the mean are told by the first, contours that
    follow edges by the second. A symmetric label has a gain of 0.

    Args:
        image: with voxels.
        label: likewise, with the same grid.

    Returns:
        None where there is nothing to compare: no voxels, no foreground, another grid.
    """
    if image.voxels is None or label.voxels is None or image.voxels.shape != label.voxels.shape:
        return None
    if any(kind == "affine" for volume in (image, label) for kind, _ in affine_faults(volume)):
        return None
    if any(geometry_faults(image, label)):
        return None
    # other values are told as faults of the label
    if not 0 < len(label.values) < MAX_VALUES or not all(value in range(MAX_VALUES) for value in label.values):
        return None
    codes = np.nan_to_num(label.voxels, posinf=0.0, neginf=0.0).astype(np.int32)
    foreground = codes != 0
    if foreground.all() or not foreground.any():
        return None
    axis, towards = _left_right(image)
    places = {value: towards * place for value, place in _places(codes, axis).items() if value}
    box = _box(foreground | np.flip(foreground, axis))
    codes, near = codes[box], ndimage.binary_dilation(foreground[box], iterations=_NEAR)
    ranks = _ranks(np.nan_to_num(image.voxels[box].astype(np.float64), posinf=0.0, neginf=0.0))
    faces = [np.diff(codes, axis=each) != 0 for each in range(3)]
    # to mirror the image within a symmetric box is to mirror the label
    right, mirrored = (_explained(r[near], codes[near]) + 2 * _jump(r, faces) for r in (ranks, np.flip(ranks, axis)))
    return MirrorTest(mirrored - right, sum(int(np.count_nonzero(where)) for where in faces), places)


class PairReader:
    """Compares labels with their images as the files come, and keeps no voxels longer than a pair needs them.

    Args:
        pairs: to compare.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self.found: dict[Pair, MirrorTest] = {}
        self._left: dict[str, set[Pair]] = {}
        for pair in pairs:
            for path in pair:
                self._left.setdefault(path, set()).add(pair)
        self._read: dict[str, Volume | None] = {}

    @property
    def files(self) -> set[str]:
        """Paths of the files whose voxels are needed still."""
        return set(self._left)

    def take(self, facts: ScanFacts) -> ScanFacts:
        """Take a file that was read; return what is known of it, without its voxels."""
        if facts.path in self._left:
            self._read[facts.path] = facts.volume
            for pair in [pair for pair in self._left[facts.path] if all(path in self._read for path in pair)]:
                self._compare(pair)
        return facts if facts.volume is None else replace(facts, volume=replace(facts.volume, voxels=None))

    def _compare(self, pair: Pair) -> None:
        image, label = (self._read[path] for path in pair)
        test = None if image is None or label is None else mirror_test(image, label)
        if test is not None:
            self.found[pair] = test
        for path in set(pair):
            self._left[path].remove(pair)
            if not self._left[path]:
                del self._left[path], self._read[path]


def _left_right(volume: Volume) -> tuple[int, float]:
    """Return the axis nearest to left and right, and 1 where it goes to the right, else -1."""
    axes = np.asarray(volume.affine)[:3, :3]
    cosines = axes[0] / np.linalg.norm(axes, axis=0)
    axis = int(abs(cosines).argmax())
    return axis, float(np.sign(cosines[axis]))


def _places(codes: np.ndarray, axis: int) -> dict[int, float]:
    """Return the mean place of each class along an axis, from -0.5 to 0.5."""
    length = codes.shape[axis]
    along = np.arange(length, dtype=np.int32).reshape([-1 if each == axis else 1 for each in range(3)])
    counts = np.bincount((codes * length + along).ravel(), minlength=(int(codes.max()) + 1) * length)
    counts = counts.reshape(-1, length)
    sums = counts @ np.linspace(-0.5, 0.5, length)
    return {int(value): float(sums[value] / counts[value].sum()) for value in np.flatnonzero(counts.any(1))}


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    return tuple(
        slice(max(found.start - _MARGIN, 0), found.stop + _MARGIN)
        for found in ndimage.find_objects(mask.astype(int))[0]
    )


def _ranks(voxels: np.ndarray) -> np.ndarray:
    """Return the share of voxels that are darker; to sort them would take most of the time."""
    low, high = np.percentile(voxels.ravel()[:: 1 + voxels.size // _ENOUGH], (0.1, 99.9))
    steps = ((voxels - low) * ((_STEPS - 1) / (high - low) if high > low else 0.0)).clip(0, _STEPS - 1).astype(np.int32)
    counts = np.bincount(steps.ravel(), minlength=_STEPS)
    darker: np.ndarray = ((np.cumsum(counts) - counts) / voxels.size)[steps]
    return darker


def _explained(values: np.ndarray, codes: np.ndarray) -> float:
    base = values.sum() ** 2 / values.size
    total = float(values @ values - base)
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    return float((sums[counts > 0] ** 2 / counts[counts > 0]).sum() - base) / total if total > 0 else 0.0


def _jump(ranks: np.ndarray, faces: Sequence[np.ndarray]) -> float:
    jumps = [abs(np.diff(ranks, axis=axis))[where] for axis, where in enumerate(faces)]
    return float(np.concatenate(jumps).mean()) if any(map(len, jumps)) else 0.0
