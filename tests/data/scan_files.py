"""One volume in every format that is read, with the same place in space."""

from __future__ import annotations

import locale
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813

SHAPE = (12, 14, 9)
FILES = ("scan.nii.gz", "scan.nii", "scan.nrrd", "packed.nrrd", "scan.mha", "packed.mha", "scan.mhd")
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def oblique_affine(spacing: tuple[float, float, float] = (0.7, 0.8, 3.0)) -> np.ndarray:
    """RAS millimetres, turned around every axis."""
    a, b, c = np.deg2rad([10, -20, 35])
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = z @ y @ x @ np.diag(spacing)
    affine[:3, 3] = (50.5, -20.25, 700.0)
    return affine


def voxels(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(-200, 900, shape).astype(np.int16)


def itk_image(array: np.ndarray, affine: np.ndarray, is_vector: bool = False) -> sitk.Image:
    """SimpleITK's image of an array in the order of the voxel axes."""
    axes = range(array.ndim)
    order = [2, 1, 0, 3] if is_vector else list(axes)[::-1]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(order)), isVector=is_vector)
    lps = _LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def write_scan(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    """In the format of the ending; a name that begins with ``packed`` is compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".nii" in path.name:
        nib.save(nib.Nifti1Image(array, affine), path)
    else:
        sitk.WriteImage(itk_image(array, affine), str(path), useCompression=path.name.startswith("packed"))
    return path


def write_series(
    folder: Path,
    array: np.ndarray,
    affine: np.ndarray,
    uid: str = "1.2.826.0.1.3680043.2.1125.7",
    name: str = "{:03d}.dcm",
    **tags: Any,
) -> Path:
    """A DICOM series, whose files do not lie in the order of their slices."""
    folder.mkdir(parents=True, exist_ok=True)
    image = itk_image(array, affine)
    writer, axes = sitk.ImageFileWriter(), np.array(image.GetDirection()).reshape(3, 3)
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    depth = array.shape[2]
    for number in range(depth):
        one = image[:, :, number]
        header = {
            "0008|0060": "MR",
            "0020|000d": f"{uid}.1",
            "0020|000e": uid,
            "0008|0018": f"{uid}.9.{number}",
            "0020|0013": str(number),
            "0020|0032": "\\".join(map(str, image.TransformIndexToPhysicalPoint((0, 0, number)))),
            "0020|0037": "\\".join(map(str, axes[:, :2].T.ravel())),
            **tags,
        }
        for tag, value in header.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(folder / name.format(number * 5 % depth if depth % 5 else depth - 1 - number)))
        write_dicom(writer, one)
    return folder


def write_dicom(writer: sitk.ImageFileWriter, image: sitk.Image) -> None:
    """Write a slice and put the locale back: GDCM leaves the process in "C", where text files are ASCII."""
    spoken = locale.setlocale(locale.LC_ALL)
    writer.Execute(image)
    locale.setlocale(locale.LC_ALL, spoken)
