from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd
from scipy.ndimage import binary_dilation, label

from monai_ssl.data.cases import load_cases
from monai_ssl.data.datalist import class_names
from monai_ssl.data.leaks import check_leaks
from monai_ssl.data.nodule_phantoms import NODULE_CLASSES, nodule_phantom, write_nodule_phantoms
from monai_ssl.transforms.boxes import WorldToVoxelBoxd
from monai_ssl.utils.errors import UserError

SMALL = (40, 42, 40)


@pytest.fixture(scope="module")
def population():
    return [nodule_phantom(index, seed=3) for index in range(24)]


@pytest.fixture(scope="module")
def sick():
    return [nodule_phantom(index, seed=4, healthy=False) for index in range(12)]


def test_a_case_is_a_function_of_its_arguments():
    first = nodule_phantom(5, seed=2, size=SMALL)
    nodule_phantom(0, size=SMALL)
    for a, b in zip(first, nodule_phantom(5, seed=2, size=SMALL), strict=True):
        np.testing.assert_array_equal(a, b)
    images = [nodule_phantom(index, seed=seed, size=SMALL)[0] for index, seed in ((5, 2), (6, 2), (5, 3))]
    assert len({image.tobytes() for image in images}) == 3


def test_no_to_three_nodules(population, sick):
    counts = [len(boxes) for _, _, boxes, _ in population]
    assert set(counts) == {0, 1, 2, 3}
    assert 1 <= counts.count(0) <= 12
    assert {len(boxes) for _, _, boxes, _ in sick} == {1, 2, 3}


def test_a_healthy_chest_is_the_same_one_without_nodules(sick):
    for index, (image, mask, _, affine) in enumerate(sick[:4]):
        plain, nothing, boxes, same = nodule_phantom(index, seed=4, healthy=True)
        assert not nothing.any()
        assert boxes.shape == (0, 6)
        np.testing.assert_array_equal(affine, same)
        around = binary_dilation(mask > 0, np.ones((3, 3, 3)), iterations=4)  # as far as blur reaches
        np.testing.assert_array_equal(image[~around], plain[~around])
        assert (image != plain)[mask > 0].mean() > 0.7


def test_boxes_are_those_of_the_mask(population):
    for _, mask, boxes, affine in population:
        assert label(mask > 0, np.ones((3, 3, 3)))[1] == mask.max() == len(boxes)
        for number, box in enumerate(boxes, 1):
            voxels = np.argwhere(mask == number)
            corners = [voxel + np.array(shift) for voxel in voxels for shift in ((-0.5,) * 3, (0.5,) * 3)]
            world = nib.affines.apply_affine(affine, corners)
            np.testing.assert_allclose(box[:3] - box[3:] / 2, world.min(0), atol=1e-4)
            np.testing.assert_allclose(box[:3] + box[3:] / 2, world.max(0), atol=1e-4)


def test_nodules_have_their_size(sick):
    sides = np.concatenate([boxes[:, 3:] for _, _, boxes, _ in sick])
    # up to a voxel more than the ellipsoid, whose shortest axis is three quarters of its longest
    assert (sides > 4 * 0.75 - 1.4).all()
    assert (sides < 12 + 1.4).all()
    assert sides.max(1).max() - sides.max(1).min() > 3


def test_every_size_has_room_for_three():
    for index in range(12):
        *_, boxes, _ = nodule_phantom(index, seed=1, healthy=False, size=(40, 40, 40))
        assert (boxes[:, 3:] > 2).all()


def test_geometry_varies_and_the_image_is_a_ct(population):
    affines = [affine for *_, affine in population]
    assert len({"".join(nib.aff2axcodes(affine)) for affine in affines}) > 2
    assert len({tuple(affine[:3, 3]) for affine in affines}) == len(affines)
    assert len({image.shape for image, *_ in population}) > 10
    for image, mask, _, affine in population:
        spacing = nib.affines.voxel_sizes(affine)
        np.testing.assert_allclose(spacing, spacing[0] * np.array([1, 1, 1.2]), rtol=1e-6)
        assert (image.dtype, mask.dtype, image.shape) == (np.float32, np.uint8, mask.shape)
        np.testing.assert_array_equal(image, np.rint(image))
        assert image.min() >= -1024
        if mask.any():
            assert -250 < np.median(image[mask > 0]) < 80


def test_neither_brightness_nor_standing_alone_tells_a_nodule(sick):
    """At every threshold most of what stands out in a lung, sizes of nodules allowed only, is none."""
    for threshold in (-650, -500, -350, -200):
        hits, false, missed = 0, 0, 0
        for image, mask, *_ in sick:
            parts, count = label(image > threshold)
            sizes = np.bincount(parts.ravel(), minlength=count + 1)
            inside = np.bincount(parts.ravel(), (mask > 0).ravel(), count + 1)
            sizes[0] = 0
            alone = (sizes >= 8) & (sizes < 1200) & (sizes < sizes.max())
            found = alone & (inside > 0.5 * sizes)
            hits, false = hits + found.sum(), false + (alone & ~found).sum()
            missed += mask.max() - found.sum()
        assert false > hits, f"{threshold} HU: {hits} hits and {false} false alarms"
        assert missed > 0.2 * hits, f"{threshold} HU: {hits} hits and {missed} missed"


def test_the_list_is_one_that_the_package_reads(tmp_path: Path) -> None:
    path = write_nodule_phantoms(tmp_path, cases=4, unlabeled=3, seed=2, size=SMALL)
    assert path == tmp_path / "detection.json"
    listing = json.loads(path.read_text())
    assert listing["numTraining"] == len(listing["training"]) == 4
    assert class_names(path) == list(NODULE_CLASSES)
    check_leaks(path)
    assert [set(entry) for entry in listing["unlabeled"]] == [{"image"}] * 3
    assert len(load_cases(path, "unlabeled", boxes=True)) == 3
    read = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), WorldToVoxelBoxd("box")])
    turn = Compose([Orientationd("image", axcodes="RAS", labels=None), WorldToVoxelBoxd("box")])
    for index, case in enumerate(load_cases(path, "training", boxes=True)):
        image, mask, _, affine = nodule_phantom(index, seed=2, size=SMALL)
        out = read(case)
        np.testing.assert_array_equal(out["image"][0], image)
        np.testing.assert_allclose(out["image"].affine, affine)
        assert case["label"] == [0] * mask.max()
        for number, box in enumerate(out["box"], 1):
            voxels = np.argwhere(mask == number)
            np.testing.assert_allclose(box, [*voxels.min(0), *(voxels.max(0) + 1)], atol=0.01)
        upright = nib.as_closest_canonical(nib.Nifti1Image(mask, affine)).get_fdata()
        for number, box in enumerate(turn({**case, "image": out["image"]})["box"], 1):
            voxels = np.argwhere(upright == number)
            np.testing.assert_allclose(box, [*voxels.min(0), *(voxels.max(0) + 1)], atol=0.01)


def test_the_healthy_share_of_the_unlabelled_cases_is_spread_evenly(tmp_path, monkeypatch):
    asked = []

    def recorded(index: int, *, healthy: bool | None, **settings: Any) -> Any:
        asked.append(healthy)
        return np.zeros((4, 4, 4)), None, np.zeros((0, 6)), np.eye(4)

    monkeypatch.setattr("monai_ssl.data.nodule_phantoms.nodule_phantom", recorded)
    for share, expected in ((0.0, [False] * 4), (0.5, [False, True] * 2), (1.0, [True] * 4)):
        asked.clear()
        write_nodule_phantoms(tmp_path / str(share), cases=2, unlabeled=4, healthy=share)
        assert asked == [None, None, *expected]
    asked.clear()
    write_nodule_phantoms(tmp_path / "many", cases=1, unlabeled=100, healthy=0.29)
    assert sum(asked[1:]) == 29


def test_the_list_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(index: int, **settings: Any) -> Any:
        if index == 1:
            raise KeyboardInterrupt
        return nodule_phantom(index, **settings)

    monkeypatch.setattr("monai_ssl.data.nodule_phantoms.nodule_phantom", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_nodule_phantoms(tmp_path, cases=2, size=SMALL)
    assert [file.name for file in tmp_path.rglob("*.*")] == ["chest_000.nii.gz"]
    with pytest.raises(UserError, match="new or empty folder"):
        write_nodule_phantoms(tmp_path, cases=2, size=SMALL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cases": 0}, "`cases` must be at least 1, got 0"),
        ({"unlabeled": -1}, "`unlabeled` must not be negative, got -1"),
        ({"seed": -2}, "`seed` must not be negative, got -2"),
        ({"healthy": 1.5}, r"`healthy` must be in \[0, 1\], got 1\.5"),
        ({"size": (48, 48)}, r"`size` must be three numbers of at least 40 voxels, got \(48, 48\)"),
        ({"size": (48, 48, 39)}, r"got \(48, 48, 39\)"),
    ],
)
def test_wrong_arguments_leave_no_folder(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_nodule_phantoms(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_a_case_before_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match="`index` must not be negative, got -1"):
        nodule_phantom(-1)
