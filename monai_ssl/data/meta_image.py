"""Whether a MetaImage (.mha, .mhd) holds the bytes that its header claims.

ITK fills what is missing with zeros, or with what the memory held, where the data is compressed.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Mapping

from monai_ssl.utils.errors import UserError

__all__ = ["check_meta_image"]

_LONGEST = 1 << 16  # bytes of a header that are read at most
_READ = 1 << 18
_BLOCK = 1 << 20
_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}


def check_meta_image(path: str | os.PathLike[str]) -> None:
    """Refuse a file whose data is shorter than its header claims, or cannot be decompressed.

    Compressed data is decompressed block by block and compared with its checksum. A header that spreads the data over
    several files, or whose type of voxels is unknown, is left to the reader.

    Args:
        path: of the header, with or without the data.

    Raises:
        UserError: naming the file that is broken.
    """
    path = os.fspath(path)
    with open(path, "rb") as stream:
        head = stream.read(_LONGEST)
    fields, start = _fields(path, head)
    data, claim = fields["ElementDataFile"], _claim(fields)
    if claim is None or data.upper().startswith("LIST") or "%" in data:
        return
    file = path if data.upper() == "LOCAL" else os.path.join(os.path.dirname(path), data)
    if not os.path.isfile(file):
        raise UserError(f"{path}: its data, {data}, is missing. Put it beside the header.")
    skip = start if file == path else max(int(fields.get("HeaderSize", "0")), 0)
    if fields.get("CompressedData", "").lower() == "true":
        found = _decompressed_bytes(file, skip)
    else:
        found = os.path.getsize(file) - skip
    if found < claim:
        raise UserError(f"{file}: holds {found} of the {claim} bytes that its header claims. Copy or export it again.")


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
        return math.prod(shape) * _BYTES[fields["ElementType"]] * int(fields.get("ElementNumberOfChannels", "1"))
    except (KeyError, ValueError):
        return None


def _decompressed_bytes(file: str, skip: int) -> int:
    stream, data, found = zlib.decompressobj(zlib.MAX_WBITS | 32), b"", 0
    with open(file, "rb") as source:
        source.seek(skip)
        try:
            while not stream.eof and (data := data or source.read(_READ)):
                found += len(stream.decompress(data, _BLOCK))
                data = stream.unconsumed_tail
        except zlib.error as error:
            raise UserError(f"{file}: is corrupt: its data cannot be decompressed. Copy or export it again.") from error
    return found
