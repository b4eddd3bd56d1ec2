"""One file read once, by blocks: container, header, voxels. The part of the check that runs in other processes."""

from __future__ import annotations

import os
import stat
from typing import IO

from monai_ssl.data.check_facts import Problem, ScanFacts, Volume
from monai_ssl.data.check_header import HEADER_BYTES, Layout, read_layout
from monai_ssl.data.check_itk import read_with_itk
from monai_ssl.data.check_stream import DEFLATE_RATIO, GZIP_MAGIC, BrokenFileError, decompressed, plain
from monai_ssl.data.check_tally import Tally
from monai_ssl.data.formats import VOLUME_ENDINGS, ending_of, is_dicom

__all__ = ["read_facts", "size_of"]

_NIFTI = (".nii", ".nii.gz")
_SPARE = 1 << 20  # bytes behind the voxels that are read on, to reach the checksum


def read_facts(path: str, is_label: bool, max_bytes: int, sampled: bool = False) -> ScanFacts:
    """Read a file once, and tell what is in it or what is wrong with it.

    Args:
        path: absolute.
        is_label: whether its values are counted one by one.
        max_bytes: of its voxels; a header that claims more is refused before any voxel is read.
        sampled: whether some of its voxels are kept, see :class:`~monai_ssl.data.check_facts.Volume`.
    """
    size = 0
    try:
        size = _checked_size(path)
        if os.path.isdir(path) or ending_of(path).lower() in VOLUME_ENDINGS[2:] or is_dicom(path):
            return ScanFacts(path, size, read_with_itk(path, size, is_label, max_bytes, sampled))
        with open(path, "rb") as stream:
            return ScanFacts(path, size, _read_volume(stream, path, size, is_label, max_bytes, sampled))
    except BrokenFileError as error:
        return ScanFacts(path, size, problem=error.problem)
    except OSError as error:
        return ScanFacts(path, size, problem=Problem("unreadable", f"cannot be read: {error.strerror or error}"))
    except MemoryError:
        return ScanFacts(path, size, problem=Problem("unreadable", "cannot be read: there is not enough memory"))
    except Exception as error:  # a file must never end the check of the others
        told = " ".join(f"{type(error).__name__}: {error}".split())
        return ScanFacts(path, size, problem=Problem("unreadable", f"cannot be read ({told[:200]})"))


def _checked_size(path: str) -> int:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BrokenFileError("missing", f"is missing: there is no {path}") from error
    if stat.S_ISDIR(found.st_mode):
        return size_of(path)
    if not stat.S_ISREG(found.st_mode):
        raise BrokenFileError("not_a_file", "is not a file")
    if not found.st_size:
        raise BrokenFileError("empty", "is empty")
    return found.st_size


def size_of(path: str) -> int:
    """Return the bytes of a file, or of the files of a folder.

    Args:
        path: must exist.
    """
    if not os.path.isdir(path):
        return os.stat(path).st_size
    files = (os.path.join(path, name) for name in os.listdir(path))
    return sum(os.stat(file).st_size for file in files if os.path.isfile(file))


def _read_volume(stream: IO[bytes], path: str, size: int, is_label: bool, max_bytes: int, sampled: bool) -> Volume:
    start = stream.read(4)
    stream.seek(0)
    blocks = decompressed(stream) if start.startswith(GZIP_MAGIC) else plain(stream)
    _check_name(path, start)
    head = b""
    for block in blocks:
        head += block
        if len(head) >= HEADER_BYTES:
            break
    layout = read_layout(head)
    _check_claim(layout, size, start.startswith(GZIP_MAGIC), max_bytes)
    tally = Tally(layout, is_label, sampled)
    end = tally.add(head)
    for block in blocks:
        end = tally.add(block)
        if end > layout.end + _SPARE:
            break
    if end < layout.end:
        raise BrokenFileError("short", f"holds {end} of the {layout.end} bytes that its header claims")
    if end > layout.end:
        more = "at least " if end > layout.end + _SPARE else ""
        raise BrokenFileError("surplus", f"holds {more}{end - layout.end} bytes more than its header tells of")
    return tally.volume()


def _check_name(path: str, start: bytes) -> None:
    name, is_gzip = path.lower(), start.startswith(GZIP_MAGIC)
    if not name.endswith(_NIFTI):
        raise BrokenFileError("unchecked", "is of a format that is not checked")
    # readers go by the name
    if is_gzip != name.endswith(".gz"):
        is_not = "is gzip, and its name does not end in .gz" if is_gzip else "is not gzip, though its name ends in .gz"
        raise BrokenFileError("not_an_image", is_not)


def _check_claim(layout: Layout, size: int, is_gzip: bool, max_bytes: int) -> None:
    claim = layout.end - layout.start
    words = f"has a header that claims {' x '.join(map(str, layout.shape))} voxels, {claim / 1e9:.3g} GB"
    if claim > max_bytes:
        raise BrokenFileError("too_large", f"{words}; the limit is {max_bytes / 1e9:g} GB")
    if layout.end > size * (DEFLATE_RATIO if is_gzip else 1):
        raise BrokenFileError("short", f"{words}; its {size} bytes cannot hold them")
