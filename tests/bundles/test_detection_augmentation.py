"""What a detector sees of a scan: turned and mirrored patches, whose boxes go along."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from tests.bundles.helpers import DETECTION, write_nifti

SIDES = (3, 5, 7)  # of the object, in voxels
START = (10, 9, 8)


@pytest.fixture(scope="module")
def datalist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    image = np.full((24, 24, 24), -1000, np.float32)
    image[tuple(slice(first, first + side) for first, side in zip(START, SIDES, strict=True))] = 400
    write_nifti(folder / "a.nii.gz", image, np.eye(4))
    box = [first + (side - 1) / 2 for first, side in zip(START, SIDES, strict=True)] + list(SIDES)
    labeled = {"image": "a.nii.gz", "box": [box], "label": [0], "patient": "a"}
    content = {"labels": {"0": "nodule"}, "training": [labeled], "unlabeled": [{"image": "a.nii.gz"}]}
    path = folder / "list.json"
    path.write_text(json.dumps(content))
    return path


def patches(datalist, part, count=64, **settings):
    parser = ConfigParser()
    parser.read_config(DETECTION / "configs/train.yaml")
    parser.update({"datalist": str(datalist), "p_object": 1.0, "visible": 1.0, "patch_size": [16] * 3, **settings})
    transform = parser.get_parsed_content(f"train#{part}")
    transform.set_random_state(0)
    (entry,) = json.loads(datalist.read_text())["training"]
    case = {"image": str(datalist.parent / entry["image"])}
    if part == "preprocessing":
        case |= {"box": np.array(entry["box"], np.float32), "label": np.array(entry["label"])}
    return [transform(dict(case)) for _ in range(count)]


def extent(image):
    """Of what is bright, its lower and upper edges."""
    places = (torch.as_tensor(image)[0] > -0.1).nonzero()
    return torch.cat([places.min(0).values, places.max(0).values + 1]).float()


@pytest.mark.parametrize(
    ("settings", "orders"),
    [
        ({}, {(3, 5, 7), (3, 7, 5), (5, 3, 7), (5, 7, 3), (7, 3, 5), (7, 5, 3)}),
        ({"patch_size": [16, 16, 24]}, {(3, 5, 7), (5, 3, 7)}),
        ({"patch_size": [24, 16, 8]}, {(3, 5, 7)}),
        ({"right_angles": False}, {(3, 5, 7)}),
        ({"spacing": [1.5, 1.0, 1.0]}, {(2, 5, 7), (2, 7, 5)}),
    ],
)
def test_patches_turn_in_planes_that_have_one_spacing_and_one_side_and_boxes_with_them(settings, orders, datalist):
    seen = set()
    for patch in patches(datalist, "preprocessing", **settings):
        assert list(patch["image"].shape[1:]) == settings.get("patch_size", [16] * 3)
        box = torch.as_tensor(patch["box"][0])
        seen.add(tuple((box[3:] - box[:3]).round().int().tolist()))
        if "spacing" not in settings:  # else the object's ends lie within voxels
            torch.testing.assert_close(box, extent(patch["image"]), atol=1e-3, rtol=0)
    assert seen == orders


def test_unlabelled_patches_turn_as_labelled_ones_do(datalist):
    seen = set()
    for patch in patches(datalist, "unlabeled_preprocessing", patch_size=[24] * 3):
        edges = extent(patch["image"])
        seen.add(tuple((edges[3:] - edges[:3]).int().tolist()))
    assert len(seen) == 6
