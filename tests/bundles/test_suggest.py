"""``suggest.yaml``: which scans to label next."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from monai_ssl.metrics.acquisition import STRATEGIES
from tests.bundles.helpers import CONFIGS, check_suggestions, load, read_json, run_bundle, uncertainties


def suggest(trained, mri, folder, **settings):
    given = {"weights": str(trained / "model.pt"), "dataset_dir": str(mri), "device": "cpu", "count": 2}
    run_bundle("suggest.yaml", **{**given, "output_dir": str(folder), **settings})
    return read_json(folder / "suggestions.json")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_of_the_unlabelled_scans_are_named(strategy, trained, mri, tmp_path):
    content = suggest(trained, mri, tmp_path, strategy=strategy)
    check_suggestions(content, mri, strategy)


def test_where_student_and_teacher_disagree_counts(trained, mri, tmp_path):
    teacher, student = load(trained / "model.pt"), load(trained / "resume.pt")["objective"]
    assert any(not torch.equal(value, student[f"network.{name}"]) for name, value in teacher.items())
    alone = suggest(trained, mri, tmp_path / "a", strategy="uncertainty")
    both = suggest(trained, mri, tmp_path / "b", strategy="uncertainty", student=str(trained / "resume.pt"))
    assert uncertainties(alone) != uncertainties(both)


def test_no_label_is_opened_and_no_other_part_is_read(trained, mri, tmp_path):
    data = json.loads((mri / "dataset.json").read_text())
    folder = tmp_path / "data"
    shutil.copytree(mri, folder)
    kept = {str(Path(case["image"])) for part in ("training", "unlabeled") for case in data[part]}
    for path in [path for path in folder.rglob("*.nii.gz") if str(path.relative_to(folder)) not in kept]:
        path.write_bytes(b"no scan")
    assert suggest(trained, folder, tmp_path / "out")["suggested"]


def test_mistakes_are_one_line(trained, mri, tmp_path, mistake):
    weights = {"weights": str(trained / "model.pt"), "device": "cpu"}
    assert "strategy must be one of" in mistake("suggest.yaml", strategy="uncertain", **weights)
    path = tmp_path / "none.json"
    path.write_text(json.dumps({"training": json.loads((mri / "dataset.json").read_text())["training"]}))
    assert "the list's part `unlabeled` is empty" in mistake("suggest.yaml", datalist=str(path), **weights)
    data = {"unlabeled": [{"image": "broken.nii.gz"}], "training": []}
    path.write_text(json.dumps(data))
    nib.save(nib.Nifti1Image(np.full((24, 24, 24), np.nan, np.float32), np.eye(4)), tmp_path / "broken.nii.gz")
    line = mistake("suggest.yaml", datalist=str(path), dataset_dir=str(tmp_path), **weights)
    assert "none of 1 scans can be used" in line
    assert "broken.nii.gz: has voxels that are not finite" in line


def test_a_scan_is_prepared_as_for_segmenting():
    suggesting, infer = (yaml.safe_load((CONFIGS / name).read_text()) for name in ("suggest.yaml", "inference.yaml"))
    steps = [step for step in infer["preprocessing"]["transforms"] if "Text" not in step["_target_"]]
    assert suggesting["preprocessing"]["transforms"] == steps
    assert {name: suggesting[name] for name in ("network_def", "class_names", "patch_size", "spacing")} == {
        name: infer[name] for name in ("network_def", "class_names", "patch_size", "spacing")
    }
