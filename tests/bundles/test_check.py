"""A training reads its scans once before the first step, names a fault in one line, and has touched nothing by then."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from monai_ssl.data import check_training
from tests.bundles.helpers import BUNDLE, DETECTION, PRETRAINING, numbers, pretrain, read_json, spoil, train


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.fixture
def data(mri, tmp_path):
    """A copy of the list's folder to spoil."""
    return shutil.copytree(mri, tmp_path / "data")


@pytest.fixture
def checked(monkeypatch):
    """The parts that were checked, a dictionary of counts for each check."""
    calls = []

    def check(listing, **more):
        parts = [case.part for case in listing.cases]
        calls.append({part: parts.count(part) for part in dict.fromkeys(parts)})
        return check_listing(listing, **more)

    check_listing = check_training.check_listing
    monkeypatch.setattr(check_training, "check_listing", check)
    return calls


@pytest.mark.parametrize(
    ("file", "part"),
    [("imagesUn/phantom_006", "unlabeled"), ("labelsTr/phantom_001", "training"), ("imagesTr/phantom_002", "val")],
)
def test_a_broken_file_of_any_part_ends_the_run_before_it_begins(mistake, data, tmp_path, file, part):
    cut(data / f"{file}.nii.gz")
    line = mistake("train.yaml", dataset_dir=str(data))
    told = r"is cut off: .*\. Copy or export the file again from its source\. `monai-ssl check \S+/data` lists all\."
    assert re.fullmatch(rf"Error: \S+/data/{file}.nii.gz: {told}", line)
    assert not (tmp_path / "run").exists()


def test_a_run_without_unlabelled_scans_asks_nothing_of_them(mistake, data, tmp_path, checked):
    cut(data / "imagesUn" / "phantom_006.nii.gz")
    train("supervised", dataset_dir=str(data), output_dir=str(tmp_path / "run"))
    assert checked == [{"training": 2, "validation": 1}]


def test_the_check_changes_nothing_and_is_not_made_twice(mri, trained, tmp_path, checked):
    run = tmp_path / "run"
    settings = {"dataset_dir": str(mri), "output_dir": str(run)}
    train("mean_teacher", **settings, check="false")
    assert checked == []
    assert numbers(run) == numbers(trained)
    prints = [read_json(folder / "run_manifest.json")["fingerprint"] for folder in (run, trained)]
    assert prints[0] == prints[1]
    train("mean_teacher", **settings, resume="true")  # a checkpoint of a run that was not checked
    assert checked == []
    train("mean_teacher", **settings, overwrite="true")
    assert checked == [{"training": 2, "unlabeled": 3, "validation": 1}]


def test_warnings_are_told_and_the_run_goes_on(data, tmp_path, capsys):
    shutil.copy(data / "imagesUn" / "phantom_006.nii.gz", data / "imagesUn" / "copy.nii.gz")
    spoil(data, lambda content: content["unlabeled"].append({"image": "imagesUn/copy.nii.gz"}))
    train("mean_teacher", dataset_dir=str(data), output_dir=str(tmp_path / "run"))
    told = [line for line in capsys.readouterr().out.splitlines() if "WARNING" in line and "copy" in line]
    assert len(told) == 1
    line = re.search(r"copy.nii.gz: has the voxels of \S+/phantom_006.nii.gz\. List it once\.$", told[0])
    assert line
    assert (tmp_path / "run" / "log.txt").read_text().count(line[0]) == 1


def test_a_pretraining_on_a_folder_is_checked(mistake, data, tmp_path, checked):
    scans = data / "imagesUn"
    pretrain(dataset_dir=str(scans), output_dir=str(tmp_path / "good"))
    assert checked == [{"unlabeled": 3}]
    cut(scans / "phantom_007.nii.gz")
    line = mistake("train.yaml", bundle=PRETRAINING, dataset_dir=str(scans), val_interval=None)
    assert re.fullmatch(r"Error: \S+/phantom_007.nii.gz: is cut off: .* from its source\.", line)


def test_a_pretraining_reads_no_label(data, tmp_path):
    for path in (data / "labelsTr").iterdir():
        path.unlink()
        os.mkfifo(path)
    pretrain(dataset_dir=str(data), output_dir=str(tmp_path / "run"))
    assert (tmp_path / "run" / "model.pt").is_file()


def test_a_box_outside_its_image_ends_a_detection(mistake, chests, tmp_path):
    data = shutil.copytree(chests, tmp_path / "data")
    spoil(data, lambda content: content["training"][0]["box"][0].__setitem__(0, 500.0))
    line = mistake("train.yaml", bundle=DETECTION, dataset_dir=str(data))
    assert re.match(r"Error: \S+/chest_001.nii.gz: has box 1, \[500, .* lies outside its image", line)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("bundle", [BUNDLE, DETECTION, PRETRAINING], ids=lambda bundle: bundle.name)
def test_a_switch_that_is_none(mistake, bundle):
    settings = {"val_interval": None} if bundle == PRETRAINING else {}
    assert "got 'fals'" in mistake("train.yaml", bundle=bundle, check="fals", **settings)


def test_cases_are_left_out_by_name_and_the_run_is_known_by_it(mistake, data, tmp_path, checked):
    cut(data / "imagesUn" / "phantom_006.nii.gz")
    held_out = {"image": "imagesUn/phantom_006.nii.gz", "label": "labelsTr/phantom_000.nii.gz"}
    spoil(data, lambda content: content.setdefault("test", []).append(held_out))
    line = mistake("train.yaml", dataset_dir=str(data), exclude="phantom_000")
    assert "phantom_006.nii.gz is in `unlabeled` and in `test`" in line  # and no leak where it is not used:
    run = {"dataset_dir": str(data), "output_dir": str(tmp_path / "run")}
    train("mean_teacher", **run, exclude="[phantom_006,phantom_000]")
    assert checked == [{"training": 1, "unlabeled": 2, "validation": 1}]
    fingerprint = read_json(tmp_path / "run" / "run_manifest.json")["fingerprint"]
    assert "phantom_006" in fingerprint["exclude"]
    assert fingerprint["unlabelled cases"].startswith("2 (")
    assert re.search(
        "exclude", mistake("train.yaml", "mean_teacher", **run, resume="true", check="false", exclude="phantom_006")
    )
    line = mistake("train.yaml", dataset_dir=str(data), exclude="phantom_06", output_dir=str(tmp_path / "other"))
    assert "`exclude` has 'phantom_06', and no case to train on has this name; did you mean 'phantom_006'?" in line
    scans = {"dataset_dir": str(data / "imagesUn"), "output_dir": str(tmp_path / "first")}
    pretrain(**scans, exclude=["phantom_006"])
    assert checked[-1] == {"unlabeled": 2}
