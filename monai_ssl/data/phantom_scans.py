"""From drawn tissue to a scan in a file: what phantoms of every kind share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from monai_ssl.utils.errors import UserError

__all__ = ["check_counts", "ct_scan", "empty_folder", "placed", "save_scan"]


def check_counts(size: Sequence[int], smallest: int, **counts: int) -> None:
    """Refuse what no phantom can be drawn with.

    Raises:
        ValueError: if one of ``counts`` is negative, or ``size`` is not three numbers of at least ``smallest``.
    """
    for name, value in counts.items():
        if value < 0:
            raise ValueError(f"`{name}` must not be negative, got {value}.")
    if len(size) != 3 or min(size) < smallest:
        raise ValueError(f"`size` must be three numbers of at least {smallest} voxels, got {tuple(size)}.")


def ct_scan(rng: np.random.Generator, intensity: np.ndarray, body: np.ndarray, blur: tuple[float, float]) -> np.ndarray:
    """What a CT scanner makes of tissue: texture, blur, noise that neighbours share, whole Hounsfield units.

    Args:
        rng: of texture, blur and noise.
        intensity: Hounsfield units of the tissue, ``(H, W, D)``.
        body: where there is texture, ``(H, W, D)``, bool.
        blur: least and greatest deviation of the blur, in voxels.
    """
    image = intensity + 25 * gaussian_filter(rng.standard_normal(intensity.shape), 1.0) * body
    image = gaussian_filter(image, rng.uniform(*blur))
    # reconstruction leaves noise that is correlated between neighbours
    image += 1.5 * rng.uniform(8, 18) * gaussian_filter(rng.standard_normal(intensity.shape), 0.5)
    return np.asarray(np.rint(np.clip(image, -1024, 3071)))


def placed(
    rng: np.random.Generator, shape: Sequence[int], spacing: np.ndarray, orientations: Sequence[str]
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Draw origin and orientation; return the flips that bring RAS voxels there, and the affine.

    Args:
        rng: of both.
        shape: voxels along each axis.
        spacing: of a voxel along each axis, in mm.
        orientations: axis codes to choose from, of the axes in the order of RAS.
    """
    origin = rng.uniform(-60, 60, 3) - spacing * shape / 2
    flipped = [have != want for have, want in zip(rng.choice(orientations), "RAS", strict=True)]
    affine = np.diag([*np.where(flipped, -spacing, spacing), 1.0])
    affine[:3, 3] = np.where(flipped, origin + spacing * (np.array(shape) - 1), origin)
    # NIfTI keeps float32: with such values a file gives back exactly this affine
    return tuple(slice(None, None, -1 if flip else 1) for flip in flipped), affine.astype(np.float32).astype(float)


def empty_folder(folder: str | os.PathLike[str], parts: Sequence[str]) -> Path:
    """Create a folder and its parts.

    Raises:
        UserError: if ``folder`` holds anything or is a file.
    """
    root = Path(folder)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root}: phantoms are written to a new or empty folder: remove it or name another one.")
    for name in parts:
        (root / name).mkdir(parents=True)
    return root


def save_scan(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write an array as NIfTI, in millimetres."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
