from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, Spacingd

from monai_ssl.utils.box_grids import (
    boxes_within,
    file_grid,
    to_world,
    voxel_to_world_boxes,
    world_to_voxel_boxes,
)

UPRIGHT = [
    np.eye(3)[list(order)] * np.array(signs)[:, None]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def affine(rotation, spacing=(0.7, 1.3, 2.5), origin=(-150.0, 80.25, -330.5)):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation @ np.diag(spacing), origin
    return torch.from_numpy(matrix)


def world_boxes(count=6, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.concatenate([rng.uniform(-400, 400, (count, 3)), rng.uniform(1, 40, (count, 3))], 1))


def oblique(seed=1):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]


@pytest.mark.parametrize("rotation", [np.eye(3), UPRIGHT[13], UPRIGHT[42], oblique()])
def test_a_box_in_voxels_is_the_hull_of_its_corners(rotation):
    boxes, matrix = world_boxes(), affine(rotation)
    got = world_to_voxel_boxes(boxes, matrix)
    assert got.dtype == torch.float32
    for box, voxels in zip(boxes.numpy(), got.numpy(), strict=True):
        corners = [box[:3] + np.array(signs) * box[3:] / 2 for signs in itertools.product((1, -1), repeat=3)]
        # voxel i has its centre at i by the affine, and at i + 0.5 between its edges
        solved = [np.linalg.solve(matrix, [*corner, 1])[:3] + 0.5 for corner in corners]
        np.testing.assert_allclose(voxels, [*np.min(solved, 0), *np.max(solved, 0)], atol=1e-4)


def test_there_and_back_for_every_upright_image():
    boxes = world_boxes(20)
    for rotation in UPRIGHT:
        matrix = affine(rotation)
        back = voxel_to_world_boxes(world_to_voxel_boxes(boxes, matrix), matrix)
        np.testing.assert_allclose(back, boxes, atol=1e-4)


def test_an_oblique_image_makes_boxes_larger_and_keeps_their_centres():
    boxes, matrix = world_boxes(), affine(oblique())
    back = voxel_to_world_boxes(world_to_voxel_boxes(boxes, matrix), matrix)
    np.testing.assert_allclose(back[:, :3], boxes[:, :3], atol=1e-4)
    assert (back[:, 3:] > boxes[:, 3:]).all()


def test_rows_without_a_box_stay_so():
    boxes = torch.cat([world_boxes(1), torch.full((2, 6), torch.nan, dtype=torch.float64)])
    voxels = world_to_voxel_boxes(boxes, affine(UPRIGHT[13]))
    assert voxels.isnan().all(1).tolist() == [False, True, True]
    assert voxel_to_world_boxes(voxels, affine(UPRIGHT[13])).isnan().all(1).tolist() == [False, True, True]


def test_what_is_left_of_a_box_is_within_the_image() -> None:
    size = (8, 10, 12)
    boxes = torch.tensor([[1.0, 2, 3, 4, 5, 6], [-3, 2, 3, 4, 20, 6], [9, 2, -5, 11, 5, -2], [8, 0, 0, 9, 1, 1]])
    assert boxes_within(boxes, size).tolist() == [
        [1, 2, 3, 4, 5, 6],
        [0, 2, 3, 4, 10, 6],
        [7, 2, 0, 8, 5, 1],  # beyond both ends: the voxel at each of them
        [7, 0, 0, 8, 1, 1],
    ]
    assert boxes_within(torch.zeros(0, 6), size).shape == (0, 6)


def test_the_grid_of_a_file_stays_that_of_the_file(tmp_path: Path) -> None:
    matrix = affine(UPRIGHT[13]).numpy()
    nib.save(nib.Nifti1Image(np.zeros((6, 7, 8), np.float32), matrix), tmp_path / "a.nii.gz")
    changes = [EnsureChannelFirstd("image"), Orientationd("image", "LPS", labels=None), Spacingd("image", (1, 1, 1))]
    image = Compose([LoadImaged("image"), *changes])({"image": tmp_path / "a.nii.gz"})["image"]
    assert image.shape[1:] != (6, 7, 8)
    found, size = file_grid(image)
    np.testing.assert_allclose(found, matrix, atol=1e-5)
    assert size.tolist() == [6, 7, 8]
    np.testing.assert_allclose(file_grid(image, "LPS")[0], np.diag([-1, -1, 1, 1]) @ matrix, atol=1e-5)


def test_an_image_without_a_file_has_the_grid_it_has() -> None:
    found, size = file_grid(MetaTensor(torch.zeros(1, 3, 4, 5), affine=affine(oblique())))
    assert torch.equal(found, affine(oblique()))
    assert size.tolist() == [3, 4, 5]


@pytest.mark.parametrize("meta", [{}, {"space": "RAS"}, {"space": "LPS"}])
def test_an_affine_is_turned_where_its_reader_had_another_world(meta: dict[str, str]) -> None:
    matrix = affine(oblique())
    turned = torch.diag(torch.tensor([-1.0, -1, 1, 1]).double()) @ matrix
    own = meta.get("space", "RAS")
    assert torch.equal(to_world(matrix, meta, own), matrix)
    assert torch.equal(to_world(matrix, meta, "LPS" if own == "RAS" else "RAS"), turned)
