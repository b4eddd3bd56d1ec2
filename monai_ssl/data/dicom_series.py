"""The slices of a DICOM series in their order, and everything for which they make no volume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813

from monai_ssl.data.formats import is_dicom
from monai_ssl.utils.errors import UserError

__all__ = ["series_files"]

_UNEVEN = 0.2  # of the distance of slices; positions that are rounded to 0.1 mm stay below it
_ONE_PLACE = 1e-3  # mm
_ALONG = 1e-2  # cosine; half a degree
_SHOWN = 3
_SERIES_UID = "0020|000e"


class _Slice(NamedTuple):
    """What the header of a file says; lengths in mm, LPS."""

    path: str
    series: str
    size: tuple[int, ...]
    spacing: np.ndarray
    axes: np.ndarray
    position: np.ndarray


def series_files(folder: str | os.PathLike[str]) -> list[str]:
    """Return the files of the one DICOM series in a folder, by their place along its slice axis.

    Headers alone are read. Files that are not DICOM are passed over.

    Args:
        folder: not looked into further down.

    Raises:
        UserError: when there is none, a DICOM file holds no image, there are several series, a slice is missing or
            there twice, slices differ in size, spacing or direction, or the slices are not stacked at right angles.
    """
    folder = os.fspath(folder)
    paths = (os.path.join(folder, name) for name in sorted(os.listdir(folder)))
    files = [path for path in paths if is_dicom(path)]
    if not files:
        raise UserError(f"{folder}: is a folder without DICOM files. Name a scan, or the folder of one DICOM series.")
    slices = _headers(files)
    _check_one_series(folder, slices)
    if len(slices) == 1:
        return files
    _check_alike(slices)
    normal = slices[0].axes[:, 2]
    slices = sorted(slices, key=lambda one: float(one.position @ normal))
    _check_places(folder, slices, normal)
    return [one.path for one in slices]


def _headers(files: Sequence[str]) -> list[_Slice]:
    reader, slices = sitk.ImageFileReader(), []
    reader.SetImageIO("GDCMImageIO")
    for file in files:
        reader.SetFileName(file)
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise UserError(
                f"{file}: is cut off, or no DICOM image. Copy it again, or move it out of the folder of the series."
            ) from error
        series = reader.GetMetaData(_SERIES_UID).strip() if reader.HasMetaDataKey(_SERIES_UID) else ""
        axes = np.array(reader.GetDirection()).reshape(3, 3)
        place = np.array(reader.GetOrigin())
        slices.append(_Slice(file, series, reader.GetSize(), np.array(reader.GetSpacing()), axes, place))
    return slices


def _check_one_series(folder: str, slices: Sequence[_Slice]) -> None:
    series = {one.series: one.path for one in slices}
    if len(series) > 1:
        shown = ", ".join(f"{uid} ({os.path.basename(file)}, ..)" for uid, file in list(series.items())[:_SHOWN])
        raise UserError(
            f"{folder}: holds {len(series)} DICOM series: {shown}{', ..' if len(series) > _SHOWN else ''}. Put the "
            "files of each series into a folder of its own."
        )


def _check_alike(slices: Sequence[_Slice]) -> None:
    first = slices[0]
    for one in slices[1:]:
        if one.size != first.size:
            what = f"is {_by(one.size)} pixels, and {os.path.basename(first.path)} is {_by(first.size)}"
        elif not np.allclose(one.spacing[:2], first.spacing[:2], rtol=1e-3):
            what = f"has another pixel spacing than {os.path.basename(first.path)}"
        elif not np.allclose(one.axes, first.axes, atol=1e-3):
            what = f"has another direction than {os.path.basename(first.path)}"
        else:
            continue
        raise UserError(f"{one.path}: {what}. Leave out what does not belong to the series, such as a scout.")
    if first.size[2] > 1:
        raise UserError(f"{first.path}: holds {first.size[2]} slices, as others beside it do. Name one of the files.")


def _check_places(folder: str, slices: Sequence[_Slice], normal: np.ndarray) -> None:
    places = np.array([one.position for one in slices])
    gaps = np.diff(places, axis=0)
    along = gaps @ normal
    usual = float(np.median(along))
    for number in np.flatnonzero(along < _ONE_PLACE).tolist():
        names = _pair(slices, number)
        raise UserError(
            f"{folder}: {names} lie at one place, as of several volumes (phases, echoes). Put the files of each volume "
            "into a folder of its own."
        )
    for number in np.flatnonzero(abs(along - usual) > _UNEVEN * usual).tolist():
        names = _pair(slices, number)
        raise UserError(
            f"{folder}: between {names} are {along[number]:.4g} mm, and {usual:.4g} mm between others: a slice is "
            "missing, or they are uneven. Copy the series again, or leave the case out."
        )
    whole = places[-1] - places[0]
    sideways = float(np.linalg.norm(whole - (whole @ normal) * normal) / np.linalg.norm(whole))
    if sideways > _ALONG:
        raise UserError(
            f"{folder}: its slices are stacked at a slant of {np.degrees(np.arcsin(sideways)):.1f} degrees (gantry "
            "tilt). Resample it to perpendicular axes, for example with dcm2niix."
        )


def _pair(slices: Sequence[_Slice], number: int) -> str:
    return " and ".join(os.path.basename(one.path) for one in slices[number : number + 2])


def _by(size: Sequence[int]) -> str:
    return " x ".join(str(length) for length in size[:2])
