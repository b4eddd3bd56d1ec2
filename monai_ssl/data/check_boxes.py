"""Boxes of a detection list against the volume that they belong to. Nothing here opens a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from monai_ssl.data.check_facts import Fault, Volume
from monai_ssl.data.check_list import Case
from monai_ssl.utils.box_grids import LEAST

__all__ = ["box_faults", "coordinate_faults"]

_FLIPS = {"RAS": (1, 1, 1), "LPS": (-1, -1, 1)}  # as in NIfTI, as in DICOM


def box_faults(
    volume: Volume, boxes: Sequence[Sequence[float]], coordinates: str | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the boxes that lie outside their volume or are larger than it, as (kind, text).

    A list does not tell whether its coordinates are RAS or LPS: what counts is the one in which more boxes of the case
    fit. A box may stick out of its volume.

    Args:
        volume: whose affine is good, see :func:`~monai_ssl.data.check_case.affine_faults`.
        boxes: by centre and size in mm.
        coordinates: of the boxes, ``RAS`` or ``LPS``, where they are known.
    """
    if not boxes or len(volume.shape) < 3:
        return
    found = _by_coordinates(volume, boxes)
    for number, what in (found[coordinates] if coordinates else min(found.values(), key=len)).items():
        shown = ", ".join(f"{value:.4g}" for value in boxes[number])
        by = f" in {coordinates} (`coordinates`)" if coordinates else ""
        yield "box", f"has box {number + 1}, [{shown}] mm, which {what}{by}"


def coordinate_faults(cases: Iterable[tuple[Case, Volume]]) -> Iterator[Fault]:
    """Yield what tells that boxes are in the other coordinates: boxes are read as RAS or as LPS, all of a list alike.

    Cases whose boxes fit their images in other coordinates only than those of cases before are a fault each. Where the
    boxes of all cases fit in both, one fault says so: read in the wrong ones they are mirrored, and no one can tell.

    Args:
        cases: with their volumes, whose affines are good.
    """
    first: dict[str, Case] = {}
    either: list[Case] = []
    for case, volume in cases:
        if not case.boxes or len(volume.shape) < 3:
            continue
        fits = [name for name, wrong in _by_coordinates(volume, case.boxes).items() if not wrong]
        if len(fits) != 1:
            either += [case] * len(fits[:1])
            continue
        first.setdefault(fits[0], case)
        other = next(iter(first))  # of the first case that tells
        if other != fits[0]:
            text = f"has boxes that fit it in {fits[0]} alone, and those of {first[other].name} fit in {other} alone"
            yield Fault("box", text, case.part, case.name, case.image)
    if either and not first:
        text = "has boxes that fit it in RAS and in LPS alike, as in all cases of the list"
        yield Fault("coordinates", text, either[0].part, either[0].name, either[0].image)


def _by_coordinates(volume: Volume, boxes: Sequence[Sequence[float]]) -> dict[str, dict[int, str]]:
    rows = np.asarray(boxes, dtype=np.float64)
    return {name: _wrong(volume, rows * [*flip, 1, 1, 1]) for name, flip in _FLIPS.items()}


def _wrong(volume: Volume, boxes: np.ndarray) -> dict[int, str]:
    size, inverse = np.array(volume.shape[:3]), np.linalg.inv(np.asarray(volume.affine))
    # a voxel's centre is half a voxel from its edges, from which boxes count
    centre = boxes[:, :3] @ inverse[:3, :3].T + inverse[:3, 3] + 0.5
    half = boxes[:, 3:] @ abs(inverse[:3, :3]).T / 2
    outside = ((centre + half <= LEAST) | (centre - half >= size - LEAST)).any(1)
    large = (2 * half > size + 1).any(1)
    told = {int(number): "is larger than its image" for number in np.flatnonzero(large)}
    return dict(sorted({**told, **{int(n): "lies outside its image" for n in np.flatnonzero(outside)}}.items()))
