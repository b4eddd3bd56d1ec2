"""The NIfTI header of a file: what its voxels will be, before any is read."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from monai_ssl.data.check_stream import BrokenFileError

__all__ = ["HEADER_BYTES", "Layout", "read_layout"]

HEADER_BYTES = 540
"""Bytes of the longest header, NIfTI-2's."""

_SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_NO_AFFINE = np.full((4, 4), np.nan)


class Layout(NamedTuple):
    """How the voxels lie in a NIfTI file.

    Attributes:
        shape: without further axes of length 1 after the third.
        dtype: of a stored voxel.
        start: byte of the first voxel.
        slope: a stored voxel times this
        inter: and plus this is its value.
        affine: 4 x 4, voxel to millimetres; NaN where the header gives none.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int
    slope: float
    inter: float
    affine: np.ndarray

    @property
    def end(self) -> int:
        """Byte after the last voxel."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def read_layout(head: bytes) -> Layout:
    """Read a NIfTI-1 or NIfTI-2 header.

    Args:
        head: the first :data:`HEADER_BYTES` of the file, or all where it has less.

    Raises:
        BrokenFileError: if it is no NIfTI header of a single file, or its voxels cannot be described.
    """
    header = _parsed(head)
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise BrokenFileError(
            "header", f"has a header without a known type of voxels ({header['datatype']})"
        ) from error
    if dtype.kind not in "iuf":
        raise BrokenFileError("voxel_type", f"has {'colours' if dtype.names else dtype.name} as voxels")
    start = float(header["vox_offset"])
    if not (math.isfinite(start) and start >= len(header.binaryblock) and start == int(start)):
        raise BrokenFileError("header", f"has a header that places its voxels at byte {start:g} (`vox_offset`)")
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isnan(slope) or slope == 0:  # by the standard and by custom, no scaling
        slope, inter = 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise BrokenFileError("header", f"has a header that scales its voxels by {slope:g} and adds {inter:g}")
    shape = _shape(header)
    return Layout(shape, dtype, int(start), slope, inter, _affine(header))


def _parsed(head: bytes) -> nib.Nifti1Header:
    for order in ("little", "big"):
        size = int.from_bytes(head[:4], order)  # type: ignore[arg-type]
        if size in _SIZES:
            if len(head) < size:
                raise BrokenFileError("short", f"is cut off within its header, at byte {len(head)} of {size}")
            header = _SIZES[size](head[:size], endianness="<" if order == "little" else ">", check=False)
            break
    else:
        raise BrokenFileError("not_an_image", "is not a NIfTI image")
    magic = header["magic"].item()
    if magic[:3] in (b"ni1", b"ni2"):
        raise BrokenFileError("not_an_image", "is the header of a .hdr and .img pair, without voxels")
    if magic[:3] not in (b"n+1", b"n+2"):
        raise BrokenFileError("not_an_image", f"is not a NIfTI image (its mark is {magic!r})")
    return header


def _shape(header: nib.Nifti1Header) -> tuple[int, ...]:
    dim = [int(length) for length in header["dim"]]
    shape = tuple(dim[1 : dim[0] + 1])
    if not 1 <= dim[0] <= 7 or min(shape) < 1:
        raise BrokenFileError("header", f"has a header with impossible dimensions ({' '.join(map(str, dim))})")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _affine(header: nib.Nifti1Header) -> np.ndarray:
    try:
        # a quaternion may be none, and numbers may be too large
        with np.errstate(all="ignore"):
            return np.asarray(header.get_best_affine(), dtype=np.float64)
    except (ValueError, HeaderDataError):
        return _NO_AFFINE
