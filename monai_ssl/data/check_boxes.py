"""Boxes of a detection list against the volume that they belong to. Nothing here opens a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from monai_ssl.data.check_facts import Volume
from monai_ssl.transforms.boxes import LEAST

__all__ = ["box_faults"]

_FLIPS = ((1, 1, 1), (-1, -1, 1))  # RAS as in NIfTI, LPS as in DICOM


def box_faults(volume: Volume, boxes: Sequence[Sequence[float]]) -> Iterator[tuple[str, str]]:
    """Yield the boxes that lie outside their volume or are larger than it, as (kind, text).

    A list does not tell whether its coordinates are RAS or LPS: what counts is the one in which more boxes of the case
    fit. A box may stick out of its volume.

    Args:
        volume: whose affine is good, see :func:`~monai_ssl.data.check_case.affine_faults`.
        boxes: by centre and size in mm.
    """
    if not boxes or len(volume.shape) < 3:
        return
    found = [_wrong(volume, np.asarray(boxes, dtype=np.float64) * [*flip, 1, 1, 1]) for flip in _FLIPS]
    for number, what in min(found, key=len).items():
        shown = ", ".join(f"{value:.4g}" for value in boxes[number])
        yield "box", f"has box {number + 1}, [{shown}] mm, which {what}"


def _wrong(volume: Volume, boxes: np.ndarray) -> dict[int, str]:
    size, inverse = np.array(volume.shape[:3]), np.linalg.inv(np.asarray(volume.affine))
    # a voxel's centre is half a voxel from its edges, from which boxes count
    centre = boxes[:, :3] @ inverse[:3, :3].T + inverse[:3, 3] + 0.5
    half = boxes[:, 3:] @ abs(inverse[:3, :3]).T / 2
    outside = ((centre + half <= LEAST) | (centre - half >= size - LEAST)).any(1)
    large = (2 * half > size + 1).any(1)
    told = {int(number): "is larger than its image" for number in np.flatnonzero(large)}
    return dict(sorted({**told, **{int(n): "lies outside its image" for n in np.flatnonzero(outside)}}.items()))
