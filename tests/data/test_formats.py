from __future__ import annotations

from pathlib import Path

import pytest

from monai_ssl.data.formats import channel_files, ending_of, is_dicom, is_series, scans_of, stem_of
from monai_ssl.utils.errors import UserError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(folder: Path, channels: int = 1) -> list[str]:
    return [str(scan.relative_to(folder)) for scan in scans_of(folder, channels)]


@pytest.mark.parametrize(
    ("path", "ending", "stem"),
    [
        ("in/a.nii.gz", ".nii.gz", "a"),
        ("a.b.nii", ".nii", "a.b"),
        ("A.NRRD", ".NRRD", "A"),
        ("a.mha", ".mha", "a"),
        ("a.mhd", ".mhd", "a"),
        ("a.dcm", ".dcm", "a"),
        ("series/1.2.840.113", "", "1.2.840.113"),
        ("notes.txt", "", "notes.txt"),
        ("a.gz", "", "a.gz"),
        (".nii", ".nii", ".nii"),
    ],
)
def test_a_name_has_an_ending_of_a_scan_and_a_stem(path: str, ending: str, stem: str) -> None:
    assert (ending_of(path), stem_of(path)) == (ending, stem)


def test_the_first_channels_number_is_no_part_of_a_cases_name() -> None:
    assert stem_of("in/liver_0000.nii.gz", channels=2) == "liver"
    assert stem_of("in/liver_0000.nii.gz") == "liver_0000"
    assert stem_of("in/liver_0001.nii.gz", channels=2) == "liver_0001"


def test_dicom_is_known_by_its_ending_or_its_mark(tmp_path: Path) -> None:
    touch(tmp_path, "a.DCM", "._a.dcm", "short", "a.nii")
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM..")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM..")
    found = [name for name in ("a.DCM", "._a.dcm", "short", "a.nii", "IM0001", "DICOMDIR") if is_dicom(tmp_path / name)]
    assert found == ["a.DCM", "IM0001"]
    assert is_series(tmp_path)
    assert not is_series(touch(tmp_path / "plain", "a.nii", "notes"))
    assert not is_series(tmp_path / "gone")
    (tmp_path / "folders" / "a.dcm").mkdir(parents=True)
    assert not is_series(tmp_path / "folders")


def test_a_folders_scans(tmp_path: Path) -> None:
    volumes = touch(tmp_path / "volumes", "b.mha", "a.nrrd", "c.mhd", "c.raw", "._a.nrrd", "d.dcm", "source/1.dcm")
    assert names(volumes) == ["a.nrrd", "b.mha", "c.mhd"]
    series = touch(tmp_path / "series", "1.dcm", "2.dcm", "below/3.dcm")
    assert names(series) == ["."]
    assert names(touch(tmp_path / "several", "b/1.dcm", "a/1.dcm", "empty/notes.txt", "c/d/1.dcm")) == ["a", "b"]
    assert names(touch(tmp_path / "none", "notes.txt")) == []


def test_further_channels_are_no_scans_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii", "b_0001.nrrd", "c_0002.nii.gz", "d.nii")
    assert names(tmp_path, channels=2) == ["a_0000.nii.gz", "b_0000.nii", "b_0001.nrrd", "c_0002.nii.gz", "d.nii"]
    assert len(names(tmp_path)) == 6


def test_channels_of_a_case(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a+_{number:04d}.nii.gz" for number in (2, 0, 1)), "aa_0003.nii.gz", "b_0000.nii.gz", "c.nii")
    first = str(tmp_path / "a+_0000.nii.gz")
    assert channel_files(first, 3) == [str(tmp_path / f"a+_000{number}.nii.gz") for number in range(3)]
    assert channel_files(first, 1) == [first]
    for alone in ("b_0000.nii.gz", "c.nii", "a+_0001.nii.gz"):
        assert channel_files(tmp_path / alone, 3) == [str(tmp_path / alone)]
    with pytest.raises(UserError, match=r"a\+_0002\.nii\.gz: is one channel more than the 2 of the network"):
        channel_files(first, 2)
    with pytest.raises(UserError, match=r"a\+_0003\.nii\.gz: is missing, and the case has 3 of 4 channels"):
        channel_files(first, 4)


def test_channels_are_found_in_the_present_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(touch(tmp_path, "a_0000.nrrd", "a_0001.nrrd"))
    assert channel_files("a_0000.nrrd", 2) == ["a_0000.nrrd", "a_0001.nrrd"]
