"""One reader for every format of a scan, which never tries another one in its place."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from typing import Any

import itk
import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.config import PathLike
from monai.data import ImageReader, ITKReader, NibabelReader
from monai.utils import MetaKeys, ensure_tuple

from monai_ssl.data.check_header import read_layout
from monai_ssl.data.check_stream import DEFLATE_RATIO, GZIP_MAGIC, BrokenFileError
from monai_ssl.data.dicom_series import series_files
from monai_ssl.data.formats import VOLUME_ENDINGS, channel_files, ending_of, is_dicom
from monai_ssl.data.meta_image import check_meta_image
from monai_ssl.utils.errors import UserError

__all__ = ["ScanReader"]

# of a file's metadata; the rest differs from format to format, so that cases make no batch, and may name a patient
_KEPT = (
    *(MetaKeys.AFFINE, MetaKeys.ORIGINAL_AFFINE, MetaKeys.SPACE, MetaKeys.SPATIAL_SHAPE),
    MetaKeys.ORIGINAL_CHANNEL_DIM,
)
_APART = 1e-3  # mm
_START = 4096  # bytes in which a NIfTI header is found, compressed or not
_MOST_VECTOR = 4  # components of a vector that ITK's Python is built for


class ScanReader(ImageReader):
    """Reads a scan in the format that its path names, with the affine in RAS millimetres whatever the format.

    NIfTI is read through MONAI's ``NibabelReader``; ``.nrrd``, ``.mha``, ``.mhd``, ``.dcm`` and a folder that holds one
    DICOM series through its ``ITKReader``. ``LoadImage`` goes on to its other readers where ``read`` fails, and some of
    them fill a cut file with zeros; so the file is opened in :meth:`get_data`, whose errors stay errors.

    Args:
        channels: files of a case, ``<case>_0000``, ``<case>_0001``, .., that are stacked as channels where the first of
            them is named, see :func:`~monai_ssl.data.formats.channel_files`; 1 reads the one file.

    Raises:
        UserError: on reading, where a file is broken or 2D, a DICOM series has no volume in it, or channels are
            missing, too many or differ in geometry.
        ValueError: when ``channels`` is below 1.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"`channels` must be 1 or more, got {channels}.")
        self.channels = channels

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[str, ...]:
        """Return the paths as they are; nothing is opened.

        Args:
            data: path of a scan, or of several that are its channels.
            kwargs: none is used.
        """
        return tuple(os.fspath(path) for path in ensure_tuple(data))

    def get_data(self, img: Sequence[str]) -> tuple[np.ndarray, dict[Any, Any]]:
        """Read what :meth:`read` returned; several channels come first.

        Args:
            img: path of a scan, or of several that are its channels.
        """
        files = list(img) if len(img) > 1 else channel_files(img[0], self.channels)
        array, meta = _read_one(files[0])
        if len(files) == 1:
            return array, meta
        arrays = [array]
        for file in files[1:]:
            other, found = _read_one(file)
            _check_same_grid(files[0], array, meta, file, other, found)
            arrays.append(other)
        return np.stack(arrays), {**meta, MetaKeys.ORIGINAL_CHANNEL_DIM: 0}


def _read_one(path: str) -> tuple[np.ndarray, dict[Any, Any]]:
    array, meta = _read_any(path)
    of_space = array.ndim - int(not np.isnan(np.float64(meta[MetaKeys.ORIGINAL_CHANNEL_DIM])))
    if of_space < 3:
        raise UserError(f"{path}: is {of_space}D ({_by(array.shape)} voxels), and scans are 3D. Leave the case out.")
    return array, meta


def _read_any(path: str) -> tuple[np.ndarray, dict[Any, Any]]:
    ending = ending_of(path).lower()
    if not os.path.exists(path):
        raise UserError(f"{path}: is missing. Correct the path, or leave the case out.")
    if os.path.isdir(path):
        return _from_itk(path, series_files(path))
    if not os.path.isfile(path):  # who opens a pipe waits for ever
        raise UserError(f"{path}: is neither a file nor a folder. Correct the path, or leave the case out.")
    if ending in VOLUME_ENDINGS[2:] or is_dicom(path):
        if ending in (".mha", ".mhd"):
            check_meta_image(path)
        return _from_itk(path, [path])
    _check_claim(path)
    reader = NibabelReader()
    return reader.get_data(reader.read(path))


def _check_claim(path: str) -> None:
    """Refuse a NIfTI file whose header claims more than it can hold, for which memory would be asked first."""
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        head = stream.read(_START)
    try:
        is_gzip = head.startswith(GZIP_MAGIC)
        layout = read_layout(zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, _START) if is_gzip else head)
    except (zlib.error, BrokenFileError):
        return  # the reader tells what it is
    if layout.end > size * (DEFLATE_RATIO if is_gzip else 1):
        raise UserError(
            f"{path}: has a header that claims {_by(layout.shape)} voxels, which its {size} bytes cannot hold. Copy or "
            "export it again."
        )


def _from_itk(path: str, files: Sequence[str]) -> tuple[np.ndarray, dict[Any, Any]]:
    try:
        # float32, as everything becomes: ITK's Python is not built for every type, and of slices that are scaled each
        # on its own it would take the first one's
        image = itk.imread(files if len(files) > 1 else files[0], pixel_type=_float_type(path, files[0]))
        array, meta = ITKReader().get_data(image)
    except RuntimeError as error:
        told = " ".join(str(error).split()).rpartition("ITK ERROR: ")[2][-200:]
        raise UserError(
            f"{path}: cannot be read ({told}). Where it is cut off, copy or export it again; else convert it to NIfTI."
        ) from error
    # a view would live on ITK's memory
    return np.array(array), {key: meta[key] for key in _KEPT if key in meta}


def _float_type(path: str, file: str) -> Any:
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    channels = reader.GetNumberOfComponents()
    if channels > _MOST_VECTOR:
        raise UserError(
            f"{path}: has {channels} channels, and ITK reads up to {_MOST_VECTOR} in one file of this format. Convert "
            "it to NIfTI, or to a file a channel (<case>_0000, <case>_0001, ..)."
        )
    return itk.Vector[itk.F, channels] if channels > 1 else itk.F


def _check_same_grid(
    first: str, array: np.ndarray, meta: dict[Any, Any], file: str, other: np.ndarray, found: dict[Any, Any]
) -> None:
    for name, voxels, said in ((first, array, meta), (file, other, found)):
        if not np.isnan(np.float64(said[MetaKeys.ORIGINAL_CHANNEL_DIM])):
            raise UserError(
                f"{name}: has {voxels.shape[-1]} channels of its own, and there are files of further channels beside "
                "it. Name a file of all channels otherwise than <case>_0000."
            )
    if array.shape != other.shape:
        what = f"is {_by(other.shape)} voxels, its first channel {_by(array.shape)}"
    elif not np.allclose(meta[MetaKeys.AFFINE], found[MetaKeys.AFFINE], atol=_APART, rtol=0):
        what = "lies elsewhere in space than its first channel (another affine)"
    else:
        return
    raise UserError(f"{file}: {what}, {os.path.basename(first)}. Resample it to that grid.")


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
