"""Whether a MetaImage (.mha, .mhd) holds the bytes that its header claims.

ITK fills what is missing with zeros, or with what the memory held, where the data is compressed.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from monai_ssl.utils.errors import UserError

__all__ = ["check_meta_image", "packed_voxels"]

_LONGEST = 1 << 16  # bytes of a header that are read at most
_READ = 1 << 18
_BLOCK = 1 << 20
_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_FLOAT": "f4"},
    **{"MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_DOUBLE": "f8"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
}
# with these a voxel may be another number than is stored
_CHANGED = ("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset")


class _Data(NamedTuple):
    """Where the data of a file lies, and how many bytes it must have."""

    fields: dict[str, str]
    file: str
    skip: int
    claim: int

    @property
    def is_packed(self) -> bool:
        return _is_true(self.fields, "CompressedData")


def check_meta_image(path: str | os.PathLike[str]) -> None:
    """Refuse a file whose data is shorter than its header claims, or cannot be decompressed.

    Compressed data is decompressed block by block and compared with its checksum. A header that spreads the data over
    several files, or whose type of voxels is unknown, is left to the reader.

    Args:
        path: of the header, with or without the data.

    Raises:
        UserError: naming the file that is broken.
    """
    data = _data(os.fspath(path))
    if data is None:
        return
    if data.is_packed:
        for _ in _decompressed(data):
            pass
    else:
        _check_length(data, os.path.getsize(data.file) - data.skip)


def packed_voxels(path: str | os.PathLike[str]) -> tuple[np.dtype[Any], Iterator[bytes]] | None:
    """Return the type of the voxels of a compressed file, and their bytes block by block, checked as they come.

    Args:
        path: as in :func:`check_meta_image`.

    Returns:
        None where a voxel is not the number, and one alone, that is stored, or the data is not compressed.

    Raises:
        UserError: naming the file that is broken, as late as the fault is reached.
    """
    data = _data(os.fspath(path))
    if data is None or not data.is_packed or any(name in data.fields for name in _CHANGED):
        return None
    if data.fields.get("ElementNumberOfChannels", "1") != "1":
        return None
    is_big = any(_is_true(data.fields, name) for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    return np.dtype((">" if is_big else "<") + _TYPES[data.fields["ElementType"]]), _decompressed(data)


def _data(path: str) -> _Data | None:
    with open(path, "rb") as stream:
        head = stream.read(_LONGEST)
    fields, start = _fields(path, head)
    data, claim = fields["ElementDataFile"], _claim(fields)
    if claim is None or data.upper().startswith("LIST") or "%" in data:
        return None
    file = path if data.upper() == "LOCAL" else os.path.join(os.path.dirname(path), data)
    if not os.path.isfile(file):
        raise UserError(f"{path}: its data, {data}, is missing. Put it beside the header.")
    return _Data(fields, file, start if file == path else max(int(fields.get("HeaderSize", "0")), 0), claim)


def _is_true(fields: Mapping[str, str], name: str) -> bool:
    return fields.get(name, "").lower() == "true"


def _check_length(data: _Data, found: int) -> None:
    if found < data.claim:
        raise UserError(
            f"{data.file}: holds {found} of the {data.claim} bytes that its header claims. Copy or export it again."
        )


def _fields(path: str, head: bytes) -> tuple[dict[str, str], int]:
    """Return the entries of a header, and the byte behind it."""
    fields: dict[str, str] = {}
    place = 0
    while (end := head.find(b"\n", place)) >= 0:
        name, _, value = head[place:end].decode("latin-1").partition("=")
        fields[name.strip()], place = value.strip(), end + 1
        if name.strip() == "ElementDataFile":
            return fields, place
    raise UserError(f"{path}: is not a MetaImage: its header has no end. Copy or export it again.")


def _claim(fields: Mapping[str, str]) -> int | None:
    try:
        shape = [int(length) for length in fields["DimSize"].split()]
        return (
            math.prod(shape)
            * np.dtype(_TYPES[fields["ElementType"]]).itemsize
            * int(fields.get("ElementNumberOfChannels", "1"))
        )
    except (KeyError, ValueError):
        return None


def _decompressed(data: _Data) -> Iterator[bytes]:
    stream, packed, found = zlib.decompressobj(zlib.MAX_WBITS | 32), b"", 0
    with open(data.file, "rb") as source:
        source.seek(data.skip)
        try:
            while not stream.eof and (packed := packed or source.read(_READ)):
                block = stream.decompress(packed, _BLOCK)
                found += len(block)
                yield block
                packed = stream.unconsumed_tail
        except zlib.error as error:
            told = "is corrupt: its data cannot be decompressed"
            raise UserError(f"{data.file}: {told}. Copy or export it again.") from error
    _check_length(data, found)
