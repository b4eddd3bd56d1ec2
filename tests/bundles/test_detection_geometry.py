"""Boxes lie in the world where the object is, whatever the scan's orientation, spacing, obliqueness and size.

A detector without weights that matter, which finds every bright voxel as a box of its own, stands in for a trained one:
so the right answer is known in every grid.
"""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_ssl.data.box_files import read_boxes
from tests.bundles.helpers import DETECTION, read_json, run_bundle, write_nifti
from tests.bundles.test_geometry import SPACING, affine, oblique

# name: shape, affine, whether the model's grid is the scan's own, so that no box may be off
CASES = {
    "ras": ((22, 18, 26), affine(), True),
    "las": ((22, 18, 26), affine("LAS"), True),
    "rpi": ((22, 18, 26), affine("RPI"), True),
    "psr": ((22, 18, 26), affine("PSR"), True),
    "small": ((9, 10, 8), affine("ILA"), True),
    "oblique": ((22, 18, 26), affine("LPS", rotation=oblique(17)), False),
    "thick": ((40, 36, 14), affine("RAS", (0.8, 0.9, 3.0)), False),
    "thick_psr": ((36, 12, 40), affine("PSR", (0.9, 4.0, 0.8)), False),
}
DEFINITION = {
    "_target_": "tests.networks.test_sliding_detector.BrightCells",
    "backbone": {
        **{"_target_": "monai.networks.nets.ResNet", "block": "basic", "layers": [1, 1, 1, 1]},
        **{"block_inplanes": [4, 4, 4, 4], "spatial_dims": 3, "n_input_channels": 1, "conv1_t_size": 3},
        **{"conv1_t_stride": 1, "no_max_pool": True, "feed_forward": False},
    },
    "levels": [1],
    "anchor_shapes": [[1, 1, 1]],
    "channels": 8,
}
# a class of nobody's package counts only where the user names it, too
TRUSTED = {"network_def#_target_": DEFINITION["_target_"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Weights as training would leave them, for a CT window in which a voxel above 95 HU is found."""
    folder = tmp_path_factory.mktemp("model")
    detector = ConfigParser({"network_def": DEFINITION}).get_parsed_content("network_def")
    torch.save(dict(detector.state_dict()), folder / "model.pt")
    preprocessing = {
        **{"modality": "CT", "orientation": "RAS", "spacing": [SPACING] * 3, "intensity_range": [0.0, 100.0]},
        **{"patch_size": [16, 16, 16], "in_channels": 1, "class_names": ["voxel"], "network_def": DEFINITION},
    }
    (folder / "preprocessing.json").write_text(json.dumps(preprocessing))
    return folder / "model.pt"


def bright(shape):
    """A lopsided cuboid of about 7 x 5 x 4 voxels, more where voxels are many."""
    places = tuple(slice(round(n * low), round(n * high)) for n, low, high in zip(shape, *LIMITS, strict=True))
    found = np.zeros(shape, bool)
    found[places] = True
    return found


LIMITS = (0.2, 0.45, 0.55), (0.5, 0.75, 0.8)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for name, (shape, to_mm, _) in CASES.items():
        write_nifti(folder / f"{name}.nii.gz", 190 * bright(shape).astype(np.float32), to_mm)
    return folder


@pytest.fixture(scope="module")
def predictions(model, scans, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictions")
    settings = {"weights": str(model), "image": str(scans), "output_dir": str(folder), "max_boxes": 2000}
    settings |= {**TRUSTED, "score_threshold": 0.5, "overlap_threshold": 0.5, "device": "cpu"}
    run_bundle("inference.yaml", bundle=DETECTION, **settings)
    return folder


def centres(name, scans):
    """Of the bright voxels, in the world."""
    image = nib.load(scans / f"{name}.nii.gz")
    return nib.affines.apply_affine(image.affine, np.argwhere(image.get_fdata() > 95))


def hull(boxes):
    return np.array([(boxes[:, :3] - boxes[:, 3:] / 2).min(0), (boxes[:, :3] + boxes[:, 3:] / 2).max(0)])


@pytest.mark.parametrize("name", [name for name, (_, _, own) in CASES.items() if own])
def test_every_voxel_is_found_where_it_is(name, scans, predictions):
    boxes = read_boxes(predictions / f"{name}_boxes.json")["box"]
    wanted = centres(name, scans)
    assert len(wanted) > 10
    found = boxes[np.lexsort(boxes[:, :3].round(2).T), :3]
    np.testing.assert_allclose(found, wanted[np.lexsort(wanted.round(2).T)], atol=1e-3)
    np.testing.assert_allclose(boxes[:, 3:], SPACING, atol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_boxes_cover_the_object_to_less_than_a_voxel(name, scans, predictions):
    boxes = read_boxes(predictions / f"{name}_boxes.json")["box"]
    shape, to_mm, _ = CASES[name]
    voxel = np.abs(to_mm[:3, :3]).sum(1)  # of the scan, upright in the world
    wanted = centres(name, scans)
    wanted = np.array([wanted.min(0) - voxel / 2, wanted.max(0) + voxel / 2])
    assert np.abs(hull(boxes) - wanted).max() < SPACING
    middle = nib.affines.apply_affine(to_mm, (np.array(shape) - 1) / 2)
    mirrored = 2 * middle - wanted[::-1]
    assert all(np.abs(hull(boxes) - mirrored).max(0) > SPACING)  # the object tells the scan's sides apart


@pytest.mark.parametrize("name", ["las", "thick"])
def test_markups_have_the_same_boxes_in_slicers_frame(name, predictions):
    content = read_boxes(predictions / f"{name}_boxes.json")
    regions = read_json(predictions / f"{name}_boxes.mrk.json")["markups"]
    assert {region["coordinateSystem"] for region in regions} == {"LPS"}
    shown = content["box"][content["score"] >= 0.5]
    np.testing.assert_allclose([region["center"] for region in regions], shown[:, :3] * [-1, -1, 1], atol=1e-4)
    np.testing.assert_allclose([region["size"] for region in regions], shown[:, 3:], atol=1e-4)


def evaluate(model, scans, cases, folder, **more):
    (folder / "list.json").write_text(json.dumps({"labels": {"0": "voxel"}, "test": cases}))
    settings = {"weights": str(model), "dataset_dir": str(scans), "datalist": str(folder / "list.json")}
    settings |= {"score_threshold": 0.5, "overlap_threshold": 0.5, "max_boxes": 2000, "resamples": 0}
    settings |= {**TRUSTED, "output_dir": str(folder), "device": "cpu", **more}
    run_bundle("evaluate.yaml", bundle=DETECTION, **settings)
    return read_json(folder / "metrics.json")["cases"]


def test_in_an_oblique_scan_a_hit_is_what_training_calls_an_object(model, scans, tmp_path):
    """The box of a list, as the network is taught it, is found by a box that is just this one, and not by the next."""
    image = nib.load(scans / "oblique.nii.gz")
    voxel = 5, 9, 15  # a bright one
    found = np.abs(np.linalg.inv(image.affine)[:3, :3])
    # the world box whose hull in the grid is that voxel
    size = np.linalg.solve(found, np.ones(3))
    assert (size > 0).all()
    box = [*nib.affines.apply_affine(image.affine, voxel), *size]
    cases = [{"image": "oblique.nii.gz", "box": [[float(x) for x in box]], "label": [0]}]
    (case,) = evaluate(model, scans, cases, tmp_path, iou_threshold=0.9)
    assert len(case["classes"]["voxel"]["hit_scores"]) == 1


def test_boxes_of_inference_are_a_list_that_evaluation_agrees_with(model, scans, predictions, tmp_path):
    """What was found, taken for the truth, is found wholly, in every geometry but an oblique one.

    There an upright box around a voxel is larger than it, and the voxels around that box are larger again.
    """
    cases = []
    for name in CASES.keys() - {"oblique"}:
        content = read_json(predictions / f"{name}_boxes.json")
        cases.append({"image": f"{name}.nii.gz", "box": content["box"], "label": content["label"]})
    scored = evaluate(model, scans, cases, tmp_path, iou_threshold=0.3)
    for case, each in zip(scored, cases, strict=True):
        found = case["classes"]["voxel"]
        # as many count as may be found
        assert (len(found["hit_scores"]), len(found["false_scores"])) == (len(each["box"]), 0), case["image"]
