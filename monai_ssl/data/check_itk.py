"""One NRRD or MetaImage file, DICOM file or series read once: what is wrong with it, and its voxels in numbers."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

from monai_ssl.data.check_facts import Volume
from monai_ssl.data.check_header import Layout
from monai_ssl.data.check_stream import DEFLATE_RATIO, BrokenFileError
from monai_ssl.data.check_tally import Tally
from monai_ssl.data.dicom_series import series_files
from monai_ssl.data.meta_image import check_meta_image, packed_voxels
from monai_ssl.utils.errors import UserError

__all__ = ["read_with_itk"]

_BLOCK = 1 << 20  # voxels
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_with_itk(path: str, size: int, is_label: bool, max_bytes: int, sampled: bool = False) -> Volume:
    """Read a file or series, and sum up its voxels.

    The volume is in memory as a whole, so that ``max_bytes`` bounds it; that of a compressed MetaImage of one channel
    block by block alone, as it is not left to ITK, which takes what is broken for voxels. One of several channels is
    decompressed once more for that.

    Args:
        path: absolute.
        size: of the file or files, in bytes.
        is_label: whether its values are counted one by one.
        max_bytes: of its voxels; a header that claims more is refused before any voxel is read.
        sampled: whether some of its voxels are kept.

    Raises:
        BrokenFileError: when it is cut off, corrupt or too large, or a series holds no volume.
    """
    if os.path.isdir(path):
        return _volume(_read_series(path, max_bytes), is_label, sampled)
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise BrokenFileError("not_an_image", f"cannot be read as an image ({_told(error)})") from error
    claim = math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * _item_size(reader)
    is_meta = path.lower().endswith((".mha", ".mhd"))
    # of a MetaImage the bytes are counted, and DICOM's ways of compression have no such limit
    _check_claim(reader.GetSize(), claim, size if path.lower().endswith(".nrrd") else None, max_bytes)
    try:
        if is_meta and (packed := packed_voxels(path)) is not None:
            return _packed_volume(reader, *packed, is_label, sampled)
        if is_meta:
            check_meta_image(path)
        return _volume(reader.Execute(), is_label, sampled)
    except UserError as error:
        raise BrokenFileError("corrupt", _fact(path, error)) from error
    except RuntimeError as error:
        raise BrokenFileError("corrupt", f"is cut off or corrupt ({_told(error)})") from error


def _read_series(path: str, max_bytes: int) -> sitk.Image:
    try:
        files = series_files(path)
    except UserError as error:
        raise BrokenFileError("series", _fact(path, error)) from error
    reader = sitk.ImageFileReader()
    reader.SetFileName(files[0])
    reader.ReadImageInformation()
    shape = (*reader.GetSize()[:2], len(files)) if len(files) > 1 else reader.GetSize()
    _check_claim(shape, 4 * math.prod(shape), None, max_bytes)
    # float32, as in training
    try:
        return sitk.ReadImage(files if len(files) > 1 else files[0], sitk.sitkFloat32)
    except RuntimeError as error:
        raise BrokenFileError("corrupt", f"is cut off or corrupt ({_told(error)})") from error


def _check_claim(shape: tuple[int, ...], claim: int, size: int | None, max_bytes: int) -> None:
    words = f"has a header that claims {' x '.join(map(str, shape))} voxels, {claim / 1e9:.3g} GB"
    if claim > max_bytes:
        raise BrokenFileError("too_large", f"{words}; the limit is {max_bytes / 1e9:g} GB")
    if size is not None and claim > size * DEFLATE_RATIO:
        raise BrokenFileError("short", f"{words}; its {size} bytes cannot hold them")


def _volume(image: sitk.Image, is_label: bool, sampled: bool) -> Volume:
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind not in "iuf":
        raise BrokenFileError("voxel_type", f"has {array.dtype.name} as voxels")
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)  # as NIfTI has them, so that copies are known
    layout = Layout(_trimmed(array.shape[::-1]), array.dtype, 0, 1.0, 0.0, _affine(image))
    tally, flat = Tally(layout, is_label, sampled), np.ascontiguousarray(array).reshape(-1)
    for place in range(0, flat.size, _BLOCK):
        tally.add(flat[place : place + _BLOCK].tobytes())
    return tally.volume()


def _packed_volume(
    reader: sitk.ImageFileReader, dtype: np.dtype[Any], blocks: Iterator[bytes], is_label: bool, sampled: bool
) -> Volume:
    tally = Tally(Layout(_trimmed(reader.GetSize()), dtype, 0, 1.0, 0.0, _affine(reader)), is_label, sampled)
    for block in blocks:
        tally.add(block)
    return tally.volume()


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without further axes of length 1 after the third."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _affine(image: sitk.Image | sitk.ImageFileReader) -> np.ndarray:
    affine, axes = np.eye(4), min(image.GetDimension(), 3)
    direction = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:axes, :axes]
    affine[:axes, :axes] = direction * np.array(image.GetSpacing())[:axes]
    affine[:axes, 3] = image.GetOrigin()[:axes]
    return _TO_RAS @ affine


def _item_size(reader: sitk.ImageFileReader) -> int:
    bits = re.search(r"(\d+)-bit", sitk.GetPixelIDValueAsString(reader.GetPixelID()))
    return int(bits[1]) // 8 if bits else 8


def _fact(path: str, error: UserError) -> str:
    """What a message says beyond the path and the remedy."""
    told = str(error)
    for prefix in (f"{path}: ", f"{path}{os.sep}", f"{os.path.dirname(path)}{os.sep}"):
        told = told.removeprefix(prefix)
    return re.split(r"\. (?=[A-Z])", told)[0]


def _told(error: RuntimeError) -> str:
    return " ".join(str(error).split()).rpartition("ERROR: ")[2][-150:]
