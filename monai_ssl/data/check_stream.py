"""The bytes of a file block by block, decompressed where it is gzip, with every fault of the container told.

Readers of images check neither the checksum nor the end of a gzip file; zlib does, if it is read to its end. Memory is
one block, however much a file claims to hold or expands to.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO

from monai_ssl.data.check_facts import Problem

__all__ = ["DEFLATE_RATIO", "GZIP_MAGIC", "BrokenFileError", "decompressed", "plain"]

GZIP_MAGIC = b"\x1f\x8b"
DEFLATE_RATIO = 1032
"""Bytes that one byte of a deflate stream can stand for at most."""

_READ = 1 << 18
_BLOCK = 1 << 20


class BrokenFileError(Exception):
    """A file that cannot be used.

    Args:
        kind: one of :data:`~monai_ssl.data.check_facts.KINDS`.
        text: what is wrong.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(kind, text)


def plain(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a file.

    Args:
        stream: at its beginning.
    """
    while block := stream.read(_BLOCK):
        yield block


def decompressed(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what a gzip file holds, one or several members, each compared with its checksum and length.

    Zeros after the last member are padding and no fault, as for gzip itself. A flipped bit in the time, the name or the
    system that the gzip header carries changes no data and is under no checksum: it is not seen.

    Args:
        stream: at its beginning.

    Raises:
        BrokenFileError: once the fault is reached; what came before has been yielded.
    """
    member, data = zlib.decompressobj(zlib.MAX_WBITS | 16), b""
    while data := data or stream.read(_READ):
        try:
            block = member.decompress(data, _BLOCK)
        except zlib.error as error:
            raise BrokenFileError("corrupt", f"is corrupt: {_told(error)}") from error
        if block:
            yield block
        data = member.unconsumed_tail
        if member.eof:
            data = _next_member(member.unused_data, stream)
            if not data:
                return
            member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    raise BrokenFileError("truncated", "is cut off: its gzip stream has no end")


def _next_member(rest: bytes, stream: IO[bytes]) -> bytes:
    while not (rest := rest.lstrip(b"\0")):
        rest = stream.read(_READ)
        if not rest:
            return b""
    rest += stream.read(_READ) if len(rest) < len(GZIP_MAGIC) else b""
    if not rest.startswith(GZIP_MAGIC):
        raise BrokenFileError("trailing", "has bytes after the end of its gzip stream that do not belong to it")
    return rest


def _told(error: zlib.error) -> str:
    words = str(error).rpartition(": ")[2]
    known = {
        "incorrect data check": "the checksum of its gzip stream does not fit its content",
        "incorrect length check": "the length that its gzip stream ends with is not that of its content",
    }
    return known.get(words, f"its gzip stream cannot be decompressed ({words})")
