from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.apps.detection.transforms.dictionary import RandFlipBoxd, RandRotateBox90d
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, SelectItemsd, Spacingd, SpatialPadd

from monai_ssl.transforms.boxes import (
    PadBoxesD,
    PadBoxesd,
    VoxelToWorldBoxD,
    VoxelToWorldBoxd,
    WorldToVoxelBoxD,
    WorldToVoxelBoxd,
)
from monai_ssl.utils.box_grids import voxel_to_world_boxes
from monai_ssl.utils.errors import UserError
from tests.utils.test_box_grids import UPRIGHT, affine


def hull(image):
    """Edges of the voxels above a half, by looking at every axis."""
    inside = np.argwhere(np.asarray(image)[0] > 0.5)
    return np.concatenate([inside.min(0), inside.max(0) + 1]).astype(float)


def scan(shape=(20, 24, 28), matrix=None, box=None, **meta):
    image = torch.zeros(1, *shape)
    if box is not None:
        image[0, box[0] : box[3], box[1] : box[4], box[2] : box[5]] = 1
    return MetaTensor(image, affine=affine(np.eye(3), (1, 1, 1), (0, 0, 0)) if matrix is None else matrix, meta=meta)


@pytest.mark.parametrize("resampled", [False, True])
@pytest.mark.parametrize("rotation", [UPRIGHT[0], UPRIGHT[5], UPRIGHT[22]])
def test_boxes_follow_the_image_as_it_is_by_then(tmp_path, rotation, resampled):
    matrix = affine(rotation, (1.5, 0.8, 2.0), (30.0, -45.5, 12.0)).numpy()
    array = np.zeros((16, 18, 14), np.float32)
    array[5:9, 3:10, 6:11] = 1
    nib.save(nib.Nifti1Image(array, matrix), tmp_path / "a.nii.gz")
    ends = nib.affines.apply_affine(matrix, [[4.5, 2.5, 5.5], [8.5, 9.5, 10.5]])
    box = [*ends.mean(0).tolist(), *np.abs(ends[1] - ends[0]).tolist()]
    steps = [LoadImaged("image"), EnsureChannelFirstd("image"), Orientationd("image", axcodes="LPS", labels=None)]
    steps += [Spacingd("image", pixdim=(1.0, 1.0, 1.0), mode="nearest")] if resampled else []
    steps += [SpatialPadd("image", (40, 41, 42)), WorldToVoxelBoxd("box", "image")]
    out = Compose(steps)({"image": str(tmp_path / "a.nii.gz"), "box": [box]})
    # padding at both ends has moved the box
    np.testing.assert_allclose(out["box"][0], hull(out["image"]), atol=1.01 if resampled else 1e-4)
    back = VoxelToWorldBoxd("box", "image")(out)["box"]
    np.testing.assert_allclose(back, [box], atol=1e-4)


def test_lps_is_ras_with_two_axes_turned():
    image, turned = scan(matrix=affine(UPRIGHT[5], (1, 1, 1), (5.0, 6.0, 7.0))), torch.tensor([-1, -1, 1, 1, 1, 1])
    middle = voxel_to_world_boxes(torch.tensor([[4.0, 5, 6, 9, 11, 8]]), image.affine)
    for coordinates, given in (("RAS", middle), ("LPS", middle * turned)):
        data = {"image": image, "box": given.tolist()}
        voxels = WorldToVoxelBoxd("box", "image", coordinates)(data)
        np.testing.assert_allclose(voxels["box"], [[4, 5, 6, 9, 11, 8]], atol=1e-4)
        np.testing.assert_allclose(VoxelToWorldBoxd("box", "image", coordinates)(voxels)["box"], given, atol=1e-4)
    # a reader that leaves its affine in LPS says so
    flipped = torch.diag(torch.tensor([-1.0, -1, 1, 1]).double()) @ image.affine
    lps = MetaTensor(image.as_tensor(), affine=flipped, meta={"space": "LPS"})
    voxels = WorldToVoxelBoxd("box", "image", "RAS")({"image": lps, "box": middle})
    np.testing.assert_allclose(voxels["box"], [[4, 5, 6, 9, 11, 8]], atol=1e-4)


@pytest.mark.parametrize("empty", [[], np.zeros((0, 6)), torch.zeros(0), torch.zeros(0, 6)])
def test_a_healthy_scan_has_an_empty_tensor(empty):
    for transform in (WorldToVoxelBoxd("box"), VoxelToWorldBoxd("box")):
        out = transform({"image": scan(), "box": empty})["box"]
        assert out.shape == (0, 6)
        assert out.dtype == torch.float32


def test_missing_boxes_are_left_out_where_that_is_allowed():
    data = {"image": scan()}
    for transform in (WorldToVoxelBoxd, VoxelToWorldBoxd):
        assert set(transform("box", allow_missing_keys=True)(data)) == {"image"}
        with pytest.raises(KeyError):
            transform("box")(data)


def test_the_input_stays():
    boxes = [[5.0, 6, 7, 4, 4, 4]]
    data = {"image": scan(), "box": boxes, "label": [0]}
    for transform in (WorldToVoxelBoxd("box"), PadBoxesd(3)):
        transform(data)
        assert data["box"] is boxes
        assert boxes == [[5.0, 6, 7, 4, 4, 4]]
        assert data["label"] == [0]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([-40, 5, 5, 4, 4, 4], r"a\.nii: box 2, \[-40, 5, 5, 4, 4, 4\] mm, lies outside its image: in voxels it is "),
        ([-2.4999, 5, 5, 4, 4, 4], r"lies outside its image"),  # but for a ten thousandth of a voxel
        ([5, 5, 40, 4, 4, 4], r"the image has \(20, 24, 28\).* it is in RAS \(`coordinates`\)"),
        ([5, 5, 5, 30, 4, 4], r"box 2, .* larger than its image.* centre and size \(cccwhd\), not two corners"),
    ],
)
def test_a_box_that_cannot_be_the_images_is_named(box, message):
    data = {"image": scan(filename_or_obj="a.nii"), "box": [[5, 5, 5, 4, 4, 4], box]}
    with pytest.raises(UserError, match=message) as raised:
        WorldToVoxelBoxd("box")(data)
    assert "\n" not in str(raised.value)


def test_what_sticks_out_of_an_image_is_cut_off():
    out = WorldToVoxelBoxd("box")({"image": scan(), "box": [[0, 5, 5, 4, 4, 4], [5, 5, 27, 4, 4, 4]]})
    assert out["box"].tolist() == [[0, 3.5, 3.5, 2.5, 7.5, 7.5], [3.5, 3.5, 25.5, 7.5, 7.5, 28]]


def thick_slices(path):
    """Four slices of 5 mm, which are 16 mm between the centres of the first and the last one and a voxel."""
    nib.save(nib.Nifti1Image(np.zeros((30, 30, 4), np.float32), np.diag([1.0, 1, 5, 1])), path)
    return Compose([LoadImaged("image"), EnsureChannelFirstd("image"), Spacingd("image", (1, 1, 1), mode="bilinear")])


def test_a_box_of_a_file_fits_its_thick_slices(tmp_path):
    read = thick_slices(tmp_path / "a.nii.gz")({"image": tmp_path / "a.nii.gz"})
    assert read["image"].shape[1:] == (30, 30, 16)
    whole, last, first = [15, 15, 7.5, 4, 4, 20], [15, 15, 16.75, 4, 4, 1.5], [15, 15, -1.75, 4, 4, 1.5]
    boxes = WorldToVoxelBoxd("box")({**read, "box": [whole, last, first]})["box"]
    assert boxes[:, [2, 5]].tolist() == [[0, 16], [15, 16], [0, 1]]
    assert boxes[:, [0, 3]].tolist() == [[13.5, 17.5]] * 3
    with pytest.raises(UserError, match=r"a\.nii\.gz: box 1, .* lies outside its image: .* has \(30, 30, 4\)"):
        WorldToVoxelBoxd("box")({**read, "box": [[15, 15, 19, 4, 4, 2]]})
    with pytest.raises(UserError, match=r"box 1, .* is larger than its image"):
        WorldToVoxelBoxd("box")({**read, "box": [[15, 15, 7.5, 4, 4, 26]]})


def test_arguments_are_checked():
    for transform in (WorldToVoxelBoxd, VoxelToWorldBoxd):
        with pytest.raises(ValueError, match="`coordinates` must be RAS or LPS, got 'ras'"):
            transform("box", coordinates="ras")
        with pytest.raises(
            ValueError, match="`image` must be an image with an affine, as LoadImaged reads it, got Tensor"
        ):
            transform("box")({"image": torch.zeros(1, 4, 4, 4), "box": []})
        with pytest.raises(ValueError, match=r"`box` must be boxes of six numbers, \(N, 6\), got shape \(6,\)"):
            transform("box")({"image": scan(), "box": [5, 5, 5, 1, 1, 1]})


def test_every_case_gets_the_same_rows():
    boxes = [[1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 7]]
    out = PadBoxesd(3)({"image": scan(), "box": boxes, "label": [1, 0]})
    assert out["box"][:2].tolist() == boxes
    assert out["box"][2].isnan().all()
    assert out["label"].tolist() == [1, 0, -1]
    assert (out["box"].dtype, out["label"].dtype) == (torch.float32, torch.int64)
    healthy = PadBoxesd(3)({"box": [], "label": []})
    assert healthy["box"].isnan().all()
    assert healthy["box"].shape == (3, 6)
    assert healthy["label"].tolist() == [-1] * 3


def test_too_many_boxes_name_the_file_and_the_setting():
    data = {"image": scan(filename_or_obj="a.nii"), "box": [[1, 2, 3, 4, 5, 6]] * 3, "label": [0] * 3}
    with pytest.raises(
        UserError, match=r"a\.nii: has 3 boxes, but there is room for 2: raise `count` \(in bundles `max_boxes`\) to 3"
    ):
        PadBoxesd(2)(data)
    with pytest.raises(ValueError, match="`label` must be one class a box: 3 boxes, got 2"):
        PadBoxesd(5)({**data, "label": [0, 0]})
    with pytest.raises(ValueError, match="`count` must be a whole number from 1, got 0"):
        PadBoxesd(0)


def test_aliases():
    assert WorldToVoxelBoxD is WorldToVoxelBoxd
    assert VoxelToWorldBoxD is VoxelToWorldBoxd
    assert PadBoxesD is PadBoxesd


# --- MONAI's flips and rotations, which trainings use on these boxes ------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_monais_rotations_keep_edge_coordinates(axes, seed):
    image = scan(box=[3, 4, 5, 9, 6, 15])
    rotate = RandRotateBox90d("image", "box", "image", prob=1.0, spatial_axes=axes).set_random_state(seed)
    out = rotate({"image": image, "box": torch.tensor([[3.0, 4, 5, 9, 6, 15], [torch.nan] * 6])})
    np.testing.assert_array_equal(out["box"][0], hull(out["image"]))
    assert out["box"][1].isnan().all()
    assert rotate({"image": image, "box": torch.zeros(0, 6)})["box"].shape == (0, 6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_monais_flips_keep_edge_coordinates(axis):
    image = scan(box=[3, 4, 5, 9, 6, 15])
    flip = RandFlipBoxd("image", "box", "image", prob=1.0, spatial_axis=axis)
    out = flip({"image": image, "box": torch.tensor([[3.0, 4, 5, 9, 6, 15], [torch.nan] * 6])})
    np.testing.assert_array_equal(out["box"][0], hull(out["image"]))
    assert out["box"][0].tolist() != [3.0, 4, 5, 9, 6, 15]
    assert out["box"][1].isnan().all()
    assert flip({"image": image, "box": torch.zeros(0, 6)})["box"].shape == (0, 6)
    # they leave a record behind that no batch can hold
    assert set(out) == {"image", "box", "box_transforms"}
    assert set(SelectItemsd(["image", "box"])(out)) == {"image", "box"}
