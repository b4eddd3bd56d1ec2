from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from monai_ssl.data.check_facts import ScanFacts
from monai_ssl.data.check_scan import read_facts
from tests.data.scan_files import itk_image, oblique_affine, voxels, write_scan, write_series

LIMIT = 10**9
FILES = ("scan.nrrd", "packed.nrrd", "scan.mha", "packed.mha", "scan.mhd")


def read(path: Path, is_label: bool = False, limit: int = LIMIT) -> ScanFacts:
    return read_facts(str(path), is_label, limit)


def problem(path: Path, limit: int = LIMIT) -> tuple[str, str]:
    found = read(path, limit=limit)
    assert found.problem is not None
    assert found.volume is None
    assert "\n" not in found.problem.text
    return found.problem


@pytest.mark.parametrize("is_label", [False, True])
def test_a_volume_has_the_same_numbers_in_every_format(is_label: bool, tmp_path: Path) -> None:
    array = abs(voxels()) % 5 if is_label else voxels()
    expected = read(write_scan(tmp_path / "scan.nii.gz", array, oblique_affine()), is_label).volume
    assert expected is not None
    paths = [write_scan(tmp_path / name, array, oblique_affine()) for name in FILES]
    for path in [*paths, write_series(tmp_path / "series", array, oblique_affine())]:
        found = read(path, is_label)
        assert found.problem is None
        assert found.volume is not None
        np.testing.assert_allclose(found.volume.affine, expected.affine, atol=1e-4)
        same = {name: value for name, value in vars(expected).items() if name != "affine"}
        assert {name: getattr(found.volume, name) for name in same} == same
        assert found.size > 0


def test_channels_of_one_file_have_the_numbers_of_nifti(tmp_path: Path) -> None:
    both = np.stack([voxels(0), voxels(1)], -1)
    sitk.WriteImage(itk_image(both, oblique_affine(), is_vector=True), str(tmp_path / "a.nrrd"))
    found, expected = (
        read(path).volume for path in (tmp_path / "a.nrrd", write_scan(tmp_path / "a.nii", both, oblique_affine()))
    )
    assert found is not None
    assert expected is not None
    assert (found.shape, found.digest, found.mean) == (expected.shape, expected.digest, expected.mean)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_a_packed_metaimage_is_decompressed_once(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = (abs(voxels()) % 100).astype(dtype)
    paths = [write_scan(tmp_path / name, array, oblique_affine()) for name in ("scan.nrrd", "packed.mha", "packed.mhd")]
    expected = read(paths[0]).volume
    assert expected is not None
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", None)
    for path in paths[1:]:
        assert b"CompressedData = True" in path.read_bytes()
        found = read(path).volume
        assert found is not None
        assert (found.digest, found.mean, found.std) == (expected.digest, expected.mean, expected.std)
        np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)


def test_what_a_packed_metaimage_means_is_left_to_itk_where_it_is_not_plain(tmp_path: Path) -> None:
    both = np.stack([voxels(0), voxels(1)], -1)
    image = itk_image(both, oblique_affine(), is_vector=True)
    sitk.WriteImage(image, str(tmp_path / "a.mha"), useCompression=True)
    expected = read(write_scan(tmp_path / "a.nii", both, oblique_affine())).volume
    found = read(tmp_path / "a.mha").volume
    assert found is not None
    assert expected is not None
    assert (found.shape, found.digest) == (expected.shape, expected.digest)


def test_a_packed_metaimage_of_big_numbers_first_is_read_as_itk_reads_it(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "packed.mha", voxels(), oblique_affine())
    before = read(path).volume
    path.write_bytes(path.read_bytes().replace(b"ByteOrderMSB = False", b"ByteOrderMSB = True"))
    found, array = read(path).volume, sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert found is not None
    assert before is not None
    assert (found.minimum, found.maximum) == (array.min(), array.max())
    assert found.digest != before.digest


def test_nan_is_counted_where_the_format_has_it(tmp_path: Path) -> None:
    array = voxels().astype(np.float32)
    array[1, 2, 3] = np.nan
    for name in FILES:
        volume = read(write_scan(tmp_path / name, array, oblique_affine())).volume
        assert volume is not None
        assert volume.non_finite == 1


def cut(content: bytes) -> bytes:
    return content[:-500]


def flip(content: bytes) -> bytes:
    return content[:-300] + bytes([content[-300] ^ 8]) + content[-299:]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("scan.nrrd", cut, "is cut off or corrupt"),
        ("packed.nrrd", cut, "is cut off or corrupt"),
        ("packed.nrrd", flip, "is cut off or corrupt"),
        ("scan.mha", cut, "holds 2524 of the 3024 bytes that its header claims"),
        ("packed.mha", cut, "of the 3024 bytes that its header claims"),
        ("packed.mha", flip, "is corrupt: its data cannot be decompressed"),
        ("scan.mhd", cut, "scan.raw: holds 2524 of the 3024 bytes that its header claims"),
    ],
)
def test_broken_files(name: str, change: Callable[[bytes], bytes], words: str, tmp_path: Path) -> None:
    path = write_scan(tmp_path / name, voxels(), oblique_affine())
    data = path.with_suffix(".raw") if name.endswith(".mhd") else path
    data.write_bytes(change(data.read_bytes()))
    kind, text = problem(path)
    assert kind == "corrupt"
    assert words in text
    assert str(tmp_path) not in text


def test_a_header_that_claims_too_much_is_refused_before_voxels_are_read(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "a.nrrd", voxels(), oblique_affine())
    path.write_bytes(path.read_bytes().replace(b"sizes: 12 14 9", b"sizes: 3000 3000 3000"))
    assert problem(path)[0] == "too_large"
    kind, text = problem(path, limit=10**12)
    assert kind == "short"
    assert "claims 3000 x 3000 x 3000 voxels, 54 GB; its " in text
    series = write_series(tmp_path / "series", voxels(), oblique_affine())
    assert problem(series, limit=1000) == (
        "too_large",
        "has a header that claims 12 x 14 x 9 voxels, 6.05e-06 GB; the limit is 1e-06 GB",
    )


def test_faults_of_a_series(tmp_path: Path) -> None:
    series = write_series(tmp_path / "series", voxels(), oblique_affine())
    (series / "006.dcm").unlink()
    kind, text = problem(series)
    assert kind == "series"
    assert text.startswith("between 001.dcm and 002.dcm are 6 mm")
    assert text.endswith("or they are uneven")
    (series / "004.dcm").write_bytes(b"")
    assert problem(series) == ("series", "004.dcm: is cut off, or no DICOM image")


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_text("hello")
    assert problem(tmp_path / "a.nrrd")[0] == "not_an_image"
    (tmp_path / "a.mgz").write_text("hello")
    assert problem(tmp_path / "a.mgz")[0] == "unchecked"
    (tmp_path / "folder").mkdir()
    assert problem(tmp_path / "folder") == ("series", "is a folder without DICOM files")


def test_one_slice_is_two_dimensional(tmp_path: Path) -> None:
    volume = read(write_series(tmp_path / "series", voxels(), oblique_affine()) / "003.dcm").volume
    assert volume is not None
    assert volume.shape == (12, 14, 1)
