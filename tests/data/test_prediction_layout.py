from __future__ import annotations

from pathlib import Path

from monai_ssl.data.images import prediction_path
from monai_ssl.data.prediction_layout import PredictionLayout


def test_a_file_is_named_after_its_scan(tmp_path: Path) -> None:
    layout = PredictionLayout(tmp_path / "out", "seg")
    for scan in ("/in/a.b.nii.gz", "/in/a.nrrd", "/in/1.2.840.113", "/in/a_0000.mha"):
        assert layout.filename(subject=scan, idx=None) == prediction_path(scan, tmp_path / "out", "seg")
    assert layout.filename(subject="/in/1.2.840.113") == tmp_path / "out" / "1.2.840.113_seg.nii.gz"
    assert (tmp_path / "out").is_dir()


def test_a_case_of_several_channels_has_one_name(tmp_path: Path) -> None:
    layout = PredictionLayout(tmp_path, "seg", channels=2)
    assert layout.filename(subject="/in/a_0000.nii.gz") == tmp_path / "a_seg.nii.gz"


def test_folders_of_scans_are_made_again(tmp_path: Path) -> None:
    layout = PredictionLayout(tmp_path / "out", "masked", data_root_dir="/in")
    assert layout.filename(subject="/in/one/a.nii.gz") == tmp_path / "out/one/a_masked.nii.gz"
    assert (tmp_path / "out/one").is_dir()
