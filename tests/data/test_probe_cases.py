from __future__ import annotations

import json
import os

import pytest

from monai_ssl.data.probe_cases import common_folder, find_images, label_kind, with_patients
from monai_ssl.utils.errors import UserError


def write(folder, data):
    path = folder / "dataset.json"
    path.write_text(json.dumps(data))
    return path


def entry(label):
    return {"image": "a.nii.gz", "label": label}


def test_the_kind_of_label(tmp_path):
    assert label_kind(write(tmp_path, {"training": [entry(0), entry(2)], "unlabeled": [entry("m")]})) == "class"
    assert label_kind(write(tmp_path, {"validation": [entry("mask.nii.gz")], "test": ["b.nii.gz"]})) == "mask"
    with pytest.raises(UserError, match="some labels are classes and some are masks"):
        label_kind(write(tmp_path, {"training": [entry(1)], "test": [entry("mask.nii.gz")]}))
    with pytest.raises(UserError, match="no case has a `label`"):
        label_kind(None, write(tmp_path, {"unlabeled": [entry(1)]}).parent)


def test_patients_by_the_list_an_expression_or_the_file_name():
    cases = [{"image": "/d/s1_left.nii.gz", "label": 0}, {"image": "/d/s1_right.nii.gz", "label": 1}]
    assert [case["patient"] for case in with_patients(cases)] == ["s1_left", "s1_right"]
    assert with_patients(cases, "^(.+?)_")[1] == {**cases[1], "patient": "s1"}
    assert "patient" not in cases[0]
    with pytest.raises(UserError, match="has no `patient`, but other cases have"):
        with_patients([cases[0], {**cases[1], "patient": "x"}])


def test_scans_of_a_file_a_folder_or_a_list(tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        (scans / name).touch()
    both = [{"image": f"{scans}/{name}"} for name in ("a.nii.gz", "b.nii.gz")]
    out = tmp_path / "out"
    assert find_images(None, None, scans, out, "x") == both
    listed = write(tmp_path, {"training": [{"image": "scans/b.nii.gz", "label": 1}]})
    assert find_images(None, listed, None, out, "x") == find_images(None, None, tmp_path, out, "x") == both[1:]
    assert find_images(scans / "a.nii.gz", listed, None, out, "x") == both[:1]  # the most particular goes first
    with pytest.raises(UserError, match="give --image"):
        find_images(None, None, None, out, "x")
    out.mkdir()
    (out / "a_x.nii.gz").touch()
    with pytest.raises(UserError, match=r"a_x\.nii\.gz: is there already"):
        find_images(scans, None, None, out, "x")
    assert find_images(scans, None, None, out, "x", overwrite=True) == both


def test_the_folder_below_which_paths_tell_scans_apart():
    assert common_folder([{"image": "/d/one/t1.nii"}, {"image": "/d/two/t1.nii"}]) == "/d"
    assert common_folder([{"image": "/d/one/t1.nii"}]) == "/d/one"
    assert common_folder([]) == os.curdir
