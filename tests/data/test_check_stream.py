from __future__ import annotations

import gzip
import io
import os
import zlib

import pytest

from monai_ssl.data.check_stream import DEFLATE_RATIO, BrokenFileError, decompressed, plain

# without the time, which would be a part of the tests' names, and two workers would collect other ones
ABC = gzip.compress(b"abc", mtime=0)
# sizes about the blocks that are read, of what compresses and of what does not
CONTENTS = [b"a", bytes(1 << 20), bytes((1 << 20) + 1), bytes(5_000_000), os.urandom(1 << 18), os.urandom(3_000_000)]


@pytest.mark.parametrize("content", CONTENTS, ids=len)
@pytest.mark.parametrize("members", [1, 2])
def test_what_comes_out_is_what_went_in(content: bytes, members: int) -> None:
    blocks = list(decompressed(io.BytesIO(gzip.compress(content) * members)))
    assert b"".join(blocks) == content * members
    assert max(map(len, blocks)) <= 1 << 20
    assert b"".join(plain(io.BytesIO(content))) == content


def test_the_magic_of_a_member_may_lie_on_the_edge_of_a_read() -> None:
    first = gzip.compress(os.urandom(1000))
    for zeros in ((1 << 18) - len(first) - 1, (1 << 18) - len(first), 0):
        stream = io.BytesIO(first + bytes(zeros) + gzip.compress(b"end"))
        assert b"".join(decompressed(stream)).endswith(b"end")


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (ABC[:-1], "truncated", "its gzip stream has no end"),
        (ABC + b"\x1f", "trailing", "bytes after the end"),
        (ABC + b"\x1f\x8b", "truncated", "no end"),
        (ABC + bytes(9) + b"x", "trailing", "do not belong to it"),
        (ABC[:-8] + bytes(8), "corrupt", "the checksum of its gzip stream"),
        (ABC[:-4] + bytes(4), "corrupt", "the length that its gzip stream ends with"),
        (ABC[:10] + b"\xff" * 20, "corrupt", r"cannot be decompressed \(invalid block type\)"),
    ],
)
def test_faults(content: bytes, kind: str, words: str) -> None:
    with pytest.raises(BrokenFileError, match=words) as caught:
        list(decompressed(io.BytesIO(content)))
    assert caught.value.problem.kind == kind


def test_no_stream_expands_by_more_than_the_ratio() -> None:
    zeros = 50_000_000
    assert zeros / DEFLATE_RATIO < len(zlib.compress(bytes(zeros), 9)) < 1.01 * zeros / DEFLATE_RATIO + 100
