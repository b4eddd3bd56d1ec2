"""A scan with its label and the predictions of both methods, cut to what matters and small enough for a page."""

from __future__ import annotations

import base64
import gzip
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

__all__ = ["Scan", "is_scan", "read_classes", "read_image", "read_scan", "region_around", "thin", "volume_text"]

_MARGIN_MM = 20.0
_LONGEST_SIDE = 112  # voxels of a volume in a page


@dataclass(frozen=True)
class Scan:
    """A case in the voxels of its own file.

    Attributes:
        image: grey values, ``(H, W, D)``.
        label: reference classes.
        predictions: by method its classes.
        affine: from voxels to RAS millimetres.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    predictions: Mapping[str, NDArray[np.uint8]]
    affine: NDArray[np.float64]

    def focus(self) -> list[float]:
        """Where to look first, in RAS millimetres: the labelled slice across each axis that has most of the label."""
        shown = self.label > 0 if (self.label > 0).any() else next(iter(self.predictions.values())) > 0
        voxel = [int(shown.sum(axis=tuple(a for a in range(3) if a != axis)).argmax()) for axis in range(3)]
        return [float(x) for x in self.affine[:3, :3] @ voxel + self.affine[:3, 3]]

    def cut(self) -> Scan:
        """What is labelled or predicted and 20 mm around, thinned to at most 112 voxels a side."""
        shown = np.any([self.label > 0, *(part > 0 for part in self.predictions.values())], axis=0)
        there = [np.flatnonzero(shown.any(axis=tuple(b for b in range(3) if b != axis))) for axis in range(3)]
        ends = [(part[0], part[-1] + 1) if len(part) else None for part in there]
        where = region_around(ends, shown.shape, self.affine)
        image, affine, factors = thin(self.image, self.affine, where)
        return Scan(
            image,
            _thinned(self.label[where], factors),
            {name: _thinned(part[where], factors) for name, part in self.predictions.items()},
            affine,
        )


def region_around(
    ends: Sequence[tuple[float, float] | None], shape: Sequence[int], affine: NDArray[np.float64]
) -> tuple[slice, ...]:
    """The part of a volume from some voxels to others and 20 mm around.

    Args:
        ends: of each axis the first voxel and the one behind the last; None takes the whole axis.
        shape: of the volume.
        affine: from voxels to RAS millimetres.
    """
    region = []
    for pair, length, step in zip(ends, shape, np.sqrt((affine[:3, :3] ** 2).sum(0)), strict=True):
        margin = math.ceil(_MARGIN_MM / step)
        low, high = (0, length) if pair is None else (math.floor(pair[0]) - margin, math.ceil(pair[1]) + margin)
        region.append(slice(min(max(low, 0), length - 1), max(min(high, length), 1)))
    return tuple(region)


def thin(
    image: NDArray[np.float32], affine: NDArray[np.float64], where: tuple[slice, ...], longest: int = _LONGEST_SIDE
) -> tuple[NDArray[np.float32], NDArray[np.float64], list[float]]:
    """A part of a volume with at most so many voxels a side, its affine, and the factors of its sides.

    Args:
        image: grey values.
        affine: from voxels to RAS millimetres.
        where: the part.
        longest: voxels of a side.
    """
    factors = [min(1.0, longest / (part.stop - part.start)) for part in where]
    small = zoom(image[where], factors, order=1) if min(factors) < 1 else image[where]
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [part.start for part in where]
    # what the rounding to whole voxels makes of the factors
    moved[:3, :3] /= [after / (part.stop - part.start) for after, part in zip(small.shape, where, strict=True)]
    return small, moved, factors


def is_scan(path: Path) -> bool:
    """Whether a file is there and begins as a scan does; its voxels are not read."""
    try:
        nib.load(path)
    except (OSError, EOFError, nib.filebasedimages.ImageFileError):
        return False
    return True


def read_scan(image: Path, label: Path, predictions: Mapping[str, Path]) -> Scan:
    """Read the files of a case, the first channel of its image.

    Args:
        image: NIfTI file.
        label: NIfTI file.
        predictions: NIfTI file by method.

    Raises:
        OSError: when a file cannot be read.
        ValueError: when they have not the same voxels.
    """
    grey, affine = read_image(image)
    reference = read_classes(label)
    predicted = {name: read_classes(path) for name, path in predictions.items()}
    for part in (reference, *predicted.values()):
        if part.shape != grey.shape:
            raise ValueError(f"has {part.shape} voxels where the image has {grey.shape}")
    return Scan(grey, reference, predicted, affine)


def read_image(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Grey values of a NIfTI file, of the first channel, and the affine from its voxels to RAS millimetres.

    Raises:
        OSError: when the file cannot be read.
    """
    values, affine = _read(path)
    return np.nan_to_num(np.asarray(values, dtype=np.float32)), affine


def read_classes(path: Path) -> NDArray[np.uint8]:
    """Classes of the voxels of a NIfTI file.

    Raises:
        OSError: when the file cannot be read.
    """
    return np.nan_to_num(_read(path)[0]).clip(0, 255).astype(np.uint8)


def volume_text(values: NDArray[Any], affine: NDArray[np.float64], *, grey: bool) -> str:
    """A volume as NIfTI of whole numbers from 0 to 255, compressed, in Base64.

    Args:
        values: grey values, from whose 1st to 99th percentile the numbers go, or classes.
        affine: from voxels to RAS millimetres.
        grey: whether they are grey values.
    """
    if grey:
        low, high = np.percentile(values, (1.0, 99.0))
        values = 255 * ((values - low) / max(float(high - low), 1e-12)).clip(0, 1)
    # the header's text stays empty: nothing of the scan's own header, such as a name, comes along
    volume = nib.nifti1.Nifti1Image(np.asarray(values).astype(np.uint8), affine)
    return base64.b64encode(gzip.compress(volume.to_bytes(), 9, mtime=0)).decode()


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    try:
        opened: Any = nib.load(path)
        values = np.asarray(opened.dataobj)
    except (nib.filebasedimages.ImageFileError, EOFError, zlib.error) as error:
        raise OSError(f"{path.name}: {error}") from error
    values = values[..., 0] if values.ndim == 4 else values
    if values.ndim != 3:
        raise OSError(f"{path.name}: has {values.ndim} axes")
    return values, np.asarray(opened.affine, dtype=np.float64)


def _thinned(classes: NDArray[np.uint8], factors: list[float]) -> NDArray[np.uint8]:
    if min(factors) >= 1:
        return classes
    return np.asarray(zoom(classes, factors, order=0))
