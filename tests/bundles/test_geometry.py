"""Predictions lie on the voxels they belong to, whatever the scan's orientation, spacing, obliqueness and size.

A network of one voxel-wise threshold stands in for a trained one, so that the right answer is known in every grid.
"""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tests.bundles.helpers import read_json, run_bundle, write_nifti

SPACING = 1.5


def oblique(degrees):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    return turn @ tilt


def affine(codes="RAS", spacing=(SPACING,) * 3, rotation=None):
    """From voxels to RAS millimetres, with an origin far from zero."""
    matrix = np.zeros((3, 3))
    for axis, code in enumerate(codes):
        row, sign = next(
            (row, 1 if code == pair[0] else -1) for row, pair in enumerate(("RL", "AP", "SI")) if code in pair
        )
        matrix[row, axis] = sign * spacing[axis]
    result = np.eye(4)
    result[:3, :3] = (np.eye(3) if rotation is None else rotation) @ matrix
    result[:3, 3] = (-93.25, 41.5, 1207.75)
    return result


# name: shape, affine, whether the model's grid is the scan's own, so that not a voxel may differ
CASES = {
    "ras": ((22, 18, 26), affine(), True),
    "las": ((22, 18, 26), affine("LAS"), True),
    "lps": ((22, 18, 26), affine("LPS"), True),
    "psr": ((22, 18, 26), affine("PSR"), True),
    "ila": ((22, 18, 26), affine("ILA"), True),
    "small": ((7, 9, 5), affine("LPI"), True),
    "oblique": ((22, 18, 26), affine("LPS", rotation=oblique(17)), False),
    "thick": ((40, 36, 14), affine("RAS", (0.8, 0.9, 3.0)), False),
    "thick_psr": ((36, 12, 40), affine("PSR", (0.9, 4.0, 0.8)), False),
    "thick_oblique": ((40, 36, 14), affine("LAI", (0.8, 0.9, 3.0), oblique(-12)), False),
}


def scan(shape, at_threshold, spacing):
    """A lopsided smooth body: no flip and no swap of axes maps it onto itself."""
    rng = np.random.default_rng(sum(shape))
    sizes = np.array(shape) * spacing
    grid = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij")
    distance = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, (0.4, 0.45, 0.6), (0.3, 0.35, 0.28), strict=True))
    image = 1.2 - np.sqrt(distance)
    image += 0.15 * gaussian_filter(rng.standard_normal(shape), 6 / np.array(spacing)) * sizes.mean()
    return (at_threshold + 100 * (image - 0.2)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Weights of ``foreground where x > 0``, as training would leave them, for a CT window of 0 to 200 HU."""
    folder = tmp_path_factory.mktemp("model")
    weight = torch.tensor([-5.0, 5.0]).reshape(2, 1, 1, 1, 1)
    torch.save({"weight": weight, "bias": torch.zeros(2)}, folder / "model.pt")
    preprocessing = {
        "modality": "CT",
        "orientation": "RAS",
        "spacing": [SPACING] * 3,
        "intensity_range": [0.0, 200.0],
        "patch_size": [16, 16, 16],
        "in_channels": 1,
        "class_names": ["background", "body"],
        "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
    }
    (folder / "preprocessing.json").write_text(json.dumps(preprocessing))
    return folder / "model.pt"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    cases = []
    for name, (shape, to_mm, _) in CASES.items():
        image = scan(shape, 100.0, np.linalg.norm(to_mm[:3, :3], axis=0))
        entry = {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}
        write_nifti(folder / entry["image"], image, to_mm)
        write_nifti(folder / entry["label"], (image > 100).astype(np.uint8), to_mm)
        cases.append(entry)
    (folder / "dataset.json").write_text(json.dumps({"training": [], "test": cases}))
    return folder


@pytest.fixture(scope="module")
def predictions(model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictions")
    run_bundle("inference.yaml", weights=str(model), image=str(data / "images"), output_dir=str(folder))
    return folder


@pytest.fixture(scope="module")
def scores(model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    run_bundle("evaluate.yaml", weights=str(model), dataset_dir=str(data), output_dir=str(folder))
    return {case["image"]: case["mean"] for case in read_json(folder / "metrics.json")["cases"]}


def shift(one, other, shape):
    """The longest way between a corner of one grid and the same corner of the other, in millimetres."""
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * [*(np.array(shape) - 1), 1]
    return np.linalg.norm(corners @ (one - other).T, axis=1).max()


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("name", CASES)
def test_inference_answers_in_the_scans_own_voxels(name, data, predictions):
    image, output = nib.load(data / f"images/{name}.nii.gz"), nib.load(predictions / f"{name}_seg.nii.gz")
    assert output.shape == image.shape
    assert shift(output.affine, image.affine, image.shape) < 0.001  # the header holds float32
    assert output.get_data_dtype() == np.uint8
    expected, predicted = image.get_fdata() > 100, np.asanyarray(output.dataobj) > 0
    assert 0.03 < expected.mean() < 0.7
    flips = [np.flip(expected, axis) for axis in range(3)]
    assert max(dice(expected, flipped) for flipped in flips) < 0.95  # the scan tells its sides apart
    if CASES[name][2]:
        assert np.array_equal(predicted, expected)
    assert dice(predicted, expected) > 0.98


@pytest.mark.parametrize("name", CASES)
def test_evaluation_scores_in_the_scans_own_voxels(name, scores):
    score = scores[f"{name}.nii.gz"]
    if CASES[name][2]:
        assert score == {"dice": 1.0, "surface_dice": 1.0, "hausdorff_95": 0.0}
    assert score["dice"] > 0.98


def test_a_trained_mri_network_answers_every_geometry(trained, data, tmp_path):
    """The labels mean nothing here; the grids must fit, and normalisation must not fail."""
    run_bundle(
        "inference.yaml", weights=str(trained / "model.pt"), image=str(data / "images"), output_dir=str(tmp_path)
    )
    for name, (shape, to_mm, _) in CASES.items():
        output = nib.load(tmp_path / f"{name}_seg.nii.gz")
        assert output.shape == shape
        assert shift(output.affine, to_mm, shape) < 0.001
