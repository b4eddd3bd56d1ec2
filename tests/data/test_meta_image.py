from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from monai_ssl.data.meta_image import check_meta_image
from monai_ssl.utils.errors import UserError
from tests.data.scan_files import oblique_affine, voxels, write_scan

NAMES = ("scan.mha", "packed.mha", "scan.mhd", "packed.mhd")


def data_of(path: Path) -> Path:
    found = [path.with_suffix(ending) for ending in (".raw", ".zraw") if path.with_suffix(ending).exists()]
    return found[0] if found else path


def change(path: Path, by: Callable[[bytes], bytes]) -> None:
    path.write_bytes(by(path.read_bytes()))


@pytest.fixture(params=NAMES)
def scan(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_scan(tmp_path / request.param, voxels(), oblique_affine())


def test_a_whole_file_passes(scan: Path) -> None:
    check_meta_image(scan)


def test_a_cut_file_is_told(scan: Path) -> None:
    data = data_of(scan)
    change(data, lambda content: content[:-20])
    with pytest.raises(UserError, match=rf"{data.name}: holds \d+ of the 3024 bytes that its header claims"):
        check_meta_image(scan)


def test_a_header_that_claims_more_is_told(scan: Path) -> None:
    change(scan, lambda content: content.replace(b"DimSize = 12 14 9", b"DimSize = 12 14 18"))
    with pytest.raises(UserError, match=r"holds 3024 of the 6048 bytes that its header claims"):
        check_meta_image(scan)


@pytest.mark.parametrize("name", ["packed.mha", "packed.mhd"])
def test_a_flipped_bit_in_compressed_data_is_told(name: str, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / name, voxels(), oblique_affine())
    data = data_of(scan)
    change(data, lambda content: content[:-300] + bytes([content[-300] ^ 8]) + content[-299:])
    with pytest.raises(UserError, match=rf"{data.name}: is corrupt: its data cannot be decompressed"):
        check_meta_image(scan)


def test_data_that_is_gone_is_told(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.mhd", voxels(), oblique_affine())
    (tmp_path / "scan.raw").unlink()
    with pytest.raises(UserError, match=r"scan\.mhd: its data, scan\.raw, is missing"):
        check_meta_image(scan)


def test_a_text_is_no_meta_image(tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_text("hello\n")
    with pytest.raises(UserError, match=r"a\.mha: is not a MetaImage: its header has no end"):
        check_meta_image(tmp_path / "a.mha")


def test_what_cannot_be_told_is_left_to_the_reader(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.mha", voxels(), oblique_affine())
    change(scan, lambda content: content.replace(b"MET_SHORT", b"MET_OTHER")[:-20])
    check_meta_image(scan)
    change(scan, lambda content: content.replace(b"ElementDataFile = LOCAL", b"ElementDataFile = LIST"))
    check_meta_image(scan)
