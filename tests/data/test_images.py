from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.data.images import images_to_learn_from, images_to_predict, prediction_path
from monai_ssl.utils.errors import UserError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_folders_scans_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = touch(tmp_path / "in", "b.nii.gz", "a.nii", "c.d.nii.gz", "notes.txt", "deeper/e.nii.gz", "f.nii.gz.tmp")
    cases = images_to_predict(folder, tmp_path / "out")
    assert cases == [{"image": str(folder / name)} for name in ("a.nii", "b.nii.gz", "c.d.nii.gz")]
    assert not (tmp_path / "out").exists()


def test_hidden_files_and_folders_are_no_scans(tmp_path: Path) -> None:
    # the archives of the Medical Segmentation Decathlon carry a ._<name> beside every scan
    folder = touch(tmp_path / "in", "a.nii.gz", "._a.nii.gz", ".b.nii", "c.nii/inner.txt")
    assert images_to_predict(folder, tmp_path) == [{"image": str(folder / "a.nii.gz")}]


def test_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/a.nii.gz", "in/b.nii.gz")
    monkeypatch.chdir(tmp_path / "in")
    assert images_to_predict("a.nii.gz", "out") == [{"image": str(tmp_path / "in/a.nii.gz")}]


def test_a_prediction_that_is_there_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    folder = touch(tmp_path, "in/a.nii.gz", "out/a_seg.nii.gz") / "in"
    with pytest.raises(UserError, match=r"a_seg\.nii\.gz: is there already\. Give --overwrite true"):
        images_to_predict(folder, tmp_path / "out")
    assert len(images_to_predict(folder, tmp_path / "out", overwrite=True)) == 1
    assert len(images_to_predict(folder, tmp_path / "out", postfix="pred")) == 1


@pytest.mark.parametrize("name", ["a.b.nii.gz", "a.b.nii", "deeper/a.b.nii.gz"])
def test_a_prediction_has_the_scans_stem_a_postfix_and_an_ending(name: str, tmp_path: Path) -> None:
    assert prediction_path(name, tmp_path, "seg") == tmp_path / "a.b_seg.nii.gz"
    assert prediction_path(tmp_path / name, tmp_path, "boxes", ".mrk.json") == tmp_path / "a.b_boxes.mrk.json"


def test_a_prediction_with_another_ending_is_not_there(tmp_path: Path) -> None:
    folder = touch(tmp_path, "in/a.nii.gz", "out/a_boxes.nii.gz") / "in"
    assert len(images_to_predict(folder, tmp_path / "out", "boxes", endings=[".json"])) == 1
    touch(tmp_path, "out/a_boxes.json")
    with pytest.raises(UserError, match=r"a_boxes\.json: is there already\. Give --overwrite true"):
        images_to_predict(folder, tmp_path / "out", "boxes", endings=[".json"])
    assert len(images_to_predict(folder, tmp_path / "out", "boxes", overwrite=True, endings=[".json"])) == 1


def test_every_file_of_a_prediction_is_kept(tmp_path: Path) -> None:
    folder = touch(tmp_path, "in/a.nii.gz", "out/a_boxes.mrk.json") / "in"
    both = [".json", ".mrk.json"]
    with pytest.raises(UserError, match=r"a_boxes\.mrk\.json: is there already\. Give --overwrite true"):
        images_to_predict(folder, tmp_path / "out", "boxes", endings=both)
    assert len(images_to_predict(folder, tmp_path / "out", "boxes", overwrite=True, endings=both)) == 1


def test_scans_of_every_format_and_series_have_a_prediction(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.nrrd", "b.mha", "c.mhd", "c.raw", "d.NII.GZ", "source/1.dcm")
    found = images_to_predict(tmp_path / "in", tmp_path / "out")
    assert names(found) == ["a.nrrd", "b.mha", "c.mhd", "d.NII.GZ"]
    touch(tmp_path / "studies", "1.2.840.1/1.dcm", "1.2.840.2/1.dcm")
    assert names(images_to_predict(tmp_path / "studies", tmp_path / "out")) == ["1.2.840.1", "1.2.840.2"]
    assert names(images_to_predict(tmp_path / "studies/1.2.840.1", tmp_path / "out")) == ["1.2.840.1"]
    assert names(images_to_predict(tmp_path / "studies/1.2.840.1/1.dcm", tmp_path / "out")) == ["1.dcm"]
    assert names(images_to_learn_from(None, tmp_path / "studies")) == ["1.2.840.1", "1.2.840.2"]
    touch(tmp_path / "out", "1.2.840.2_seg.nii.gz")
    with pytest.raises(UserError, match=r"1\.2\.840\.2_seg\.nii\.gz: is there already"):
        images_to_predict(tmp_path / "studies", tmp_path / "out")


def test_a_case_of_several_files_has_one_prediction(tmp_path: Path) -> None:
    touch(tmp_path / "in", *(f"{case}_000{number}.nii.gz" for case in "ab" for number in (0, 1)))
    assert names(images_to_predict(tmp_path / "in", tmp_path, channels=2)) == ["a_0000.nii.gz", "b_0000.nii.gz"]
    assert names(images_to_learn_from(None, tmp_path / "in", 2)) == ["a_0000.nii.gz", "b_0000.nii.gz"]
    assert len(images_to_predict(tmp_path / "in", tmp_path)) == 4
    touch(tmp_path, "a_seg.nii.gz", "in/a.nii.gz")
    with pytest.raises(UserError, match=r"a_seg\.nii\.gz: is there already"):
        images_to_predict(tmp_path / "in", tmp_path, channels=2)
    with pytest.raises(UserError, match=r"a_0000\.nii\.gz: its prediction would overwrite that of a\.nii\.gz"):
        images_to_predict(tmp_path / "in", tmp_path, channels=2, overwrite=True)


def test_two_scans_of_one_stem_are_refused(tmp_path: Path) -> None:
    folder = touch(tmp_path / "in", "a.nii", "a.nii.gz")
    with pytest.raises(UserError, match=r"a\.nii\.gz: its prediction would overwrite that of a\.nii\. Rename one\."):
        images_to_predict(folder, tmp_path / "out", overwrite=True)


def test_what_is_no_scan_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "empty/readme")
    with pytest.raises(UserError, match=r"image: give --image FILE"):
        images_to_predict(None, tmp_path)
    for name in ("notes.txt", "missing.nii.gz"):
        with pytest.raises(UserError, match=rf"{name}: is neither a scan \(\.nii, .*\.dcm\) nor a folder"):
            images_to_predict(tmp_path / name, tmp_path)
    with pytest.raises(UserError, match=r"empty: holds no scan \(NIfTI, NRRD, MetaImage or DICOM\)"):
        images_to_predict(tmp_path / "empty", tmp_path)


def test_predictions_do_not_lie_among_the_scans(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(UserError, match="would lie among the scans"):
        images_to_predict(tmp_path, tmp_path / "." / "", overwrite=True)


def names(cases: list[dict[str, str]]) -> list[str]:
    assert all(list(case) == ["image"] for case in cases)
    return [Path(case["image"]).name for case in cases]


def test_a_pretraining_learns_from_training_and_unlabelled_scans_and_never_from_held_out_ones(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}.nii.gz" for name in "abcde"))
    training = [{"image": "a.nii.gz", "label": "gone.nii.gz"}, {"image": "b.nii.gz"}]
    content: dict[str, Any] = {"training": training, "unlabeled": ["c.nii.gz"], "test": ["d.nii.gz"]}
    content["validation"] = [{"image": "e.nii.gz", "label": "gone.nii.gz"}]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert names(images_to_learn_from(None, tmp_path)) == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    (tmp_path / "other.json").write_text(json.dumps({**content, "unlabeled": ["d.nii.gz"]}))
    with pytest.raises(UserError, match=r"d\.nii\.gz is in `unlabeled` and in `test`"):
        images_to_learn_from(tmp_path / "other.json", tmp_path)


def test_a_pretraining_learns_from_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "a.nii", "._a.nii", "notes.txt", "below/c.nii.gz")
    assert names(images_to_learn_from(None, tmp_path)) == ["a.nii", "b.nii.gz"]
    with pytest.raises(UserError, match=r"holds neither dataset.json nor a scan .* Give another --dataset_dir"):
        images_to_learn_from(None, (touch(tmp_path, "empty/readme") / "empty"))
    with pytest.raises(UserError, match="`dataset_dir` must be an existing folder"):
        images_to_learn_from(None, tmp_path / "gone")
    with pytest.raises(UserError, match="must be given"):
        images_to_learn_from(None, None)
