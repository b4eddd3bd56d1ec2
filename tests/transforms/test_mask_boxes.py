from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, Orientationd, Spacingd, SpatialPadd

from monai_ssl.transforms.boxes import VoxelToWorldBoxd
from monai_ssl.transforms.mask_boxes import MaskToBoxesD, MaskToBoxesd, mask_to_boxes
from monai_ssl.utils.errors import UserError


def flooded(mask):
    """The same, voxel by voxel."""
    found, seen = [], np.zeros(mask.shape, bool)
    for start in map(tuple, np.argwhere(mask > 0)):
        if seen[start]:
            continue
        seen[start], stack, voxels = True, [start], []
        while stack:
            voxel = stack.pop()
            voxels.append(voxel)
            for step in itertools.product((-1, 0, 1), repeat=3):
                near = tuple(np.add(voxel, step))
                inside = all(0 <= place < length for place, length in zip(near, mask.shape, strict=True))
                if inside and not seen[near] and mask[near] == mask[start]:
                    seen[near] = True
                    stack.append(near)
        found.append((int(mask[start]) - 1, *np.min(voxels, 0), *(np.max(voxels, 0) + 1)))
    return sorted(found)


@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_those_of_a_flood_fill(seed):
    rng = np.random.default_rng(seed)
    mask = rng.choice(3, (9, 8, 7), p=(0.94, 0.03, 0.03)).astype(np.int32)
    boxes, classes = mask_to_boxes(mask)
    rows = [(int(label), *map(int, box)) for label, box in zip(classes, boxes, strict=True)]
    assert sorted(rows) == flooded(mask)
    assert len(rows) > 4
    assert classes.tolist() == sorted(classes.tolist())
    assert (boxes.dtype, classes.dtype) == (torch.float32, torch.int64)


def test_edges_are_those_of_the_voxels():
    mask = np.zeros((6, 7, 8), np.int32)
    mask[0:2, 3:7, 5] = 1
    boxes, classes = mask_to_boxes(mask)
    assert boxes.tolist() == [[0, 3, 5, 2, 7, 6]]
    assert classes.tolist() == [0]


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_an_empty_mask_has_no_boxes(kind):
    mask = MetaTensor(torch.zeros(1, 4, 5, 6, dtype=kind))
    out = MaskToBoxesd()({"image": 1, "label": mask})
    assert out["box"].shape == (0, 6)
    assert out["label"].shape == (0,)
    assert (out["box"].dtype, out["label"].dtype) == (torch.float32, torch.int64)


def test_keys_and_the_input_stay():
    mask = torch.zeros(1, 4, 5, 6)
    mask[0, 1, 2, 3] = 2
    data = {"mask": mask.clone(), "other": 1}
    out = MaskToBoxesd("mask", "boxes", "classes", classes=2)(data)
    assert torch.equal(data["mask"], mask)
    assert set(data) == {"mask", "other"}
    assert torch.equal(out["mask"], mask)
    assert out["boxes"].tolist() == [[1, 2, 3, 2, 3, 4]]
    assert out["classes"].tolist() == [1]
    assert MaskToBoxesD is MaskToBoxesd


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, r"m\.nii: has the value 0\.5; .*whole numbers from 0 to 2"),
        (3, "has the value 3"),
        (-1, "has the value -1"),
        (float("nan"), "has the value nan"),
    ],
)
def test_wrong_values_name_the_file(value, message):
    mask = MetaTensor(torch.full((1, 2, 2, 2), float(value)), meta={"filename_or_obj": "m.nii"})
    with pytest.raises(UserError, match=message):
        MaskToBoxesd(classes=2)({"label": mask})


def test_one_channel():
    with pytest.raises(ValueError, match=r"`label` must be a mask of one channel, got shape \(2, 3, 3, 3\)"):
        MaskToBoxesd()({"label": torch.zeros(2, 3, 3, 3)})


def test_a_mask_lies_on_the_grid_of_its_image():
    matrix = torch.diag(torch.tensor([2.0, 2, 3, 1]).double())
    image = MetaTensor(torch.zeros(1, 8, 8, 6), affine=matrix)
    mask = torch.zeros(1, 8, 8, 6)
    mask[0, 2:4, 3:5, 1:3] = 1
    near, far, flipped = matrix.clone(), matrix.clone(), matrix.clone()
    near[0, 3], far[0, 3] = 0.9, 1.1
    flipped[0, 0], flipped[0, 3] = -2, 14
    transform = MaskToBoxesd()
    for good in (mask, MetaTensor(mask, affine=matrix), MetaTensor(mask, affine=near)):
        assert transform({"image": image, "label": good})["box"].tolist() == [[2, 3, 1, 4, 5, 3]]
    assert len(transform({"label": MetaTensor(mask, affine=far)})["box"]) == 1
    named = {"filename_or_obj": "m.nii"}
    for wrong in (
        MetaTensor(mask, affine=far, meta=dict(named)),
        MetaTensor(mask, affine=flipped, meta=dict(named)),
        MetaTensor(mask[:, 1:], affine=matrix, meta=dict(named)),
    ):
        with pytest.raises(UserError, match=r"m\.nii: lies on another grid than its image\. Resample it"):
            transform({"image": image, "label": wrong})


@pytest.mark.parametrize("seed", range(4))
def test_boxes_follow_an_image_that_was_turned_resampled_and_padded(seed, tmp_path):
    generator = np.random.default_rng(seed)
    turned = np.eye(4)[[1, 2, 0, 3]] * [-1, 1, -1, 1] if seed % 2 else np.eye(4)
    affine = turned @ np.diag([0.5, 1.5, 0.8, 1])
    affine[:3, 3] = generator.uniform(-50, 50, 3)
    mask = np.zeros((40, 24, 30), np.uint8)
    places = [(3, 4, 5), (10, 11, 12), (12, 11, 12), (30, 20, 25), (39, 23, 29)]  # of single voxels, two of them near
    for place in places:
        mask[place] = 1
    for name, voxels in (("image", mask.astype(np.float32)), ("label", mask)):
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / f"{name}.nii.gz")
    prepare = Compose(
        [
            LoadImaged(["image", "label"], ensure_channel_first=True),
            Orientationd("image", "RAS", labels=None),
            Spacingd("image", (1.0, 1.0, 1.0)),
            SpatialPadd("image", (48, 48, 48)),
            MaskToBoxesd(classes=1),
            VoxelToWorldBoxd("box"),
        ]
    )
    out = prepare({name: str(tmp_path / f"{name}.nii.gz") for name in ("image", "label")})
    assert out["label"].tolist() == [0] * 5
    centres = sorted((affine @ [*place, 1])[:3].tolist() for place in places[:4])
    size = abs(affine[:3, :3]) @ [1, 1, 1]
    found = sorted(box.tolist() for box in out["box"])
    inside = [box for box in found if np.allclose(box[3:], size, atol=1e-4)]
    assert len(inside) >= 4  # the last voxel of a file may be cut off in half by resampling
    assert all(min(np.abs(np.array(box[:3]) - centre).max() for box in found) < 1e-4 for centre in centres)
