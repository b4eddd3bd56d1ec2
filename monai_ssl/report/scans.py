"""A scan with its label and the predictions of both methods, cut to what matters and small enough for a page."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

__all__ = ["Scan", "is_scan", "read_scan", "volume_text"]

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
        steps = np.sqrt((self.affine[:3, :3] ** 2).sum(0))
        box = []
        for axis in range(3):
            there = np.flatnonzero(shown.any(axis=tuple(other for other in range(3) if other != axis)))
            margin = int(np.ceil(_MARGIN_MM / steps[axis]))
            low, high = (there[0] - margin, there[-1] + margin + 1) if len(there) else (0, shown.shape[axis])
            box.append(slice(max(int(low), 0), min(int(high), shown.shape[axis])))
        factors = [min(1.0, _LONGEST_SIDE / (part.stop - part.start)) for part in box]
        where = tuple(box)
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
        image = zoom(self.image[where], factors, order=1) if min(factors) < 1 else self.image[where]
        # what the rounding to whole voxels makes of the factors
        real = [after / (part.stop - part.start) for after, part in zip(image.shape, box, strict=True)]
        affine[:3, :3] /= real
        return Scan(
            image,
            _thinned(self.label[where], factors),
            {name: _thinned(part[where], factors) for name, part in self.predictions.items()},
            affine,
        )


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
    try:
        opened = nib.load(image)
        grey = np.asarray(opened.dataobj, dtype=np.float32)  # type: ignore[attr-defined]
        grey = np.nan_to_num(grey[..., 0] if grey.ndim == 4 else grey)
        reference = _classes(label)
        predicted = {name: _classes(path) for name, path in predictions.items()}
    except nib.filebasedimages.ImageFileError as error:
        raise OSError(str(error)) from error
    for part in (reference, *predicted.values()):
        if part.shape != grey.shape:
            raise ValueError(f"has {part.shape} voxels where the image has {grey.shape}")
    return Scan(grey, reference, predicted, np.asarray(opened.affine, dtype=np.float64))  # type: ignore[attr-defined]


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


def _classes(path: Path) -> NDArray[np.uint8]:
    values = np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
    values = values[..., 0] if values.ndim == 4 else values
    return np.nan_to_num(values).clip(0, 255).astype(np.uint8)


def _thinned(classes: NDArray[np.uint8], factors: list[float]) -> NDArray[np.uint8]:
    if min(factors) >= 1:
        return classes
    return np.asarray(zoom(classes, factors, order=0))
