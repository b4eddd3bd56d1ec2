"""Volumes of few thick slices, and volumes that are smaller than the patch: trained on, scored, segmented."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from tests.bundles.helpers import pretrain, read_json, run_bundle, train, write_nifti

# as a scan of 320 x 320 x 12 voxels of 0.5 x 0.5 x 6 mm, at a quarter of the matrix
THICK = ((80, 72, 12), (2.0, 2.0, 6.0))
# name: shape and spacing of the scans, and a run's settings
GRIDS = {
    "thick": (*THICK, {"spacing": [2.0, 2.0, 6.0], "patch_size": [32, 32, 8]}),
    "thick, seen with cubes": (*THICK, {"spacing": [3.0, 3.0, 3.0], "patch_size": [16, 16, 16]}),
    "fewer slices than the patch": (
        (40, 36, 5),
        (1.0, 1.0, 6.0),
        {"spacing": [1.0, 1.0, 6.0], "patch_size": [16, 16, 8]},
    ),
    "narrower than the patch": (
        (12, 40, 36),
        (1.0, 1.0, 1.0),
        {"spacing": [1.0, 1.0, 1.0], "patch_size": [16, 24, 16]},
    ),
    "smaller than the patch": ((9, 11, 7), (1.0, 1.5, 2.0), {"spacing": [1.0, 1.5, 2.0], "patch_size": [16, 16, 16]}),
    "smaller, at another spacing": ((9, 11, 7), (1.0, 1.5, 2.0), {"spacing": [1.5] * 3, "patch_size": [16, 16, 16]}),
}


def write_case(folder, number, shape, spacing):
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    body = ((grid - 0.05 * number) ** 2).sum(0) < 0.5
    image = np.random.default_rng(number).normal(100, 10, shape) + 300 * body
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-12.5, 30.25, 7)
    entry = {"image": f"images/case{number}.nii.gz", "label": f"labels/case{number}.nii.gz"}
    write_nifti(folder / entry["image"], image.astype(np.float32), affine)
    write_nifti(folder / entry["label"], body.astype(np.uint8), affine)
    return entry


def write_cases(folder, shape, spacing):
    entries = [write_case(folder, number, shape, spacing) for number in range(6)]
    parts = {"training": entries[:2], "validation": entries[2:3], "test": entries[3:4]}
    parts["unlabeled"] = [{"image": entry["image"]} for entry in entries[4:]]
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "body"}, **parts}))
    return folder


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, "mean_teacher") for name in GRIDS),
        ("thick", "pseudo_label"),
        ("smaller than the patch", "pseudo_label"),
    ],
)
def test_a_network_is_trained_and_answers_in_the_scans_own_voxels(name, method, tmp_path):
    shape, spacing, settings = GRIDS[name]
    data = write_cases(tmp_path / "data", shape, spacing)
    train(method, dataset_dir=str(data), output_dir=str(tmp_path / "run"), **settings)
    weights = str(tmp_path / "run" / "model.pt")
    run_bundle("evaluate.yaml", weights=weights, dataset_dir=str(data), output_dir=str(tmp_path / "eval"))
    assert [case["image"] for case in read_json(tmp_path / "eval" / "metrics.json")["cases"]] == ["case3.nii.gz"]
    run_bundle("inference.yaml", weights=weights, image=str(data / "images"), output_dir=str(tmp_path / "out"))
    for number in range(6):
        image = nib.load(data / "images" / f"case{number}.nii.gz")
        output = nib.load(tmp_path / "out" / f"case{number}_seg.nii.gz")
        assert output.shape == image.shape == shape
        assert abs(output.affine - image.affine).max() < 1e-3
        assert set(np.unique(np.asanyarray(output.dataobj))) <= {0, 1}


@pytest.mark.parametrize("name", ["thick", "fewer slices than the patch", "smaller than the patch"])
def test_a_pretraining_takes_them_too(name, tmp_path):
    shape, spacing, settings = GRIDS[name]
    data = write_cases(tmp_path / "data", shape, spacing)
    pretrain(dataset_dir=str(data), output_dir=str(tmp_path / "run"), **settings)
    assert (tmp_path / "run" / "model.pt").is_file()


def test_a_network_learns_thick_slices(tmp_path):
    data = write_cases(tmp_path / "data", *THICK)
    settings = {**GRIDS["thick"][2], "max_steps": 60, "epoch_length": 20, "val_interval": 60, "learning_rate": 0.01}
    train("supervised", dataset_dir=str(data), output_dir=str(tmp_path / "run"), warmup_steps=5, **settings)
    run_bundle(
        "evaluate.yaml",
        **{
            "weights": str(tmp_path / "run" / "model.pt"),
            "dataset_dir": str(data),
            "output_dir": str(tmp_path / "eval"),
        },
    )
    assert read_json(tmp_path / "eval" / "metrics.json")["mean"]["dice"] > 0.9
