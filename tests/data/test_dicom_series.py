from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_ssl.data.dicom_series import series_files
from monai_ssl.utils.errors import UserError
from tests.data.scan_files import oblique_affine, voxels, write_series

UID = "1.2.826.0.1.3680043.2.1125.8"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_series(tmp_path / "series", voxels(), oblique_affine())


def test_slices_come_in_the_order_of_their_places(series: Path) -> None:
    names = [Path(file).name for file in series_files(series)]
    assert names == [f"{number * 5 % 9:03d}.dcm" for number in range(9)]


def test_a_missing_slice_is_told(series: Path) -> None:
    (series / f"{4 * 5 % 9:03d}.dcm").unlink()
    with pytest.raises(UserError, match=r"between 006\.dcm and 007\.dcm are 6 mm, and 3 mm between others: a slice is"):
        series_files(series)


def test_positions_that_are_rounded_are_no_missing_slice(tmp_path: Path) -> None:
    affine = np.eye(4)
    for number, place in enumerate((0.0, 0.6, 1.3, 1.9, 2.5)):  # every 0.625 mm
        affine[2, 3] = place
        folder = write_series(tmp_path / "series", voxels(shape=(6, 5, 1)), affine, name=f"{number}.dcm")
    assert [Path(file).name for file in series_files(folder)] == [f"{number}.dcm" for number in range(5)]


def test_two_series_are_named_with_the_remedy(series: Path) -> None:
    write_series(series, voxels(), oblique_affine(), uid=UID, name="b{:03d}.dcm")
    with pytest.raises(
        UserError, match=r"holds 2 DICOM series: .*1125\.7 \(.*1125\.8 \(.* a folder of its own\."
    ) as told:
        series_files(series)
    assert "\n" not in str(told.value)


def test_a_volume_that_is_there_twice_is_told(series: Path) -> None:
    write_series(series, voxels(), oblique_affine(), name="b{:03d}.dcm")
    with pytest.raises(UserError, match=r"lie at one place, as of several volumes \(phases, echoes\)"):
        series_files(series)


def test_slices_that_do_not_belong_are_told(series: Path) -> None:
    extra = voxels(shape=(13, 14, 1))
    write_series(series, extra, oblique_affine(), name="scout.dcm")
    with pytest.raises(UserError, match=r"scout\.dcm: is 13 x 14 pixels, and 000\.dcm is 12 x 14\. Leave out"):
        series_files(series)
    write_series(series, extra[1:], oblique_affine((0.9, 0.8, 3.0)), name="scout.dcm")
    with pytest.raises(UserError, match=r"scout\.dcm: has another pixel spacing than 000\.dcm"):
        series_files(series)
    write_series(series, extra[1:], np.diag([0.7, 0.8, 3.0, 1.0]), name="scout.dcm")
    with pytest.raises(UserError, match=r"scout\.dcm: has another direction than 000\.dcm"):
        series_files(series)


def test_a_slant_is_told(tmp_path: Path) -> None:
    for number in range(4):
        affine = np.eye(4)
        affine[:3, 3] = (0, number * np.tan(np.deg2rad(15)), number)
        folder = write_series(tmp_path / "series", voxels(shape=(6, 5, 1)), affine, name=f"{number}.dcm")
    with pytest.raises(UserError, match=r"stacked at a slant of 15\.0 degrees \(gantry tilt\)"):
        series_files(folder)


def test_a_dicom_file_without_an_image_is_told(series: Path) -> None:
    (series / "report").write_bytes(bytes(128) + b"DICM" + bytes(50))
    with pytest.raises(UserError, match=r"report: is cut off, or no DICOM image\. Copy it again, or move it out"):
        series_files(series)


def test_a_folder_without_dicom_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder without DICOM files"):
        series_files(tmp_path)
