from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.apps.detection.transforms.dictionary import RandFlipBoxd, RandRotateBox90d
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose, SelectItemsd
from scipy.stats import chisquare

from monai_ssl.transforms.box_crop import RandBoxCropD, RandBoxCropd, crop_boxes
from monai_ssl.transforms.boxes import PadBoxesd, VoxelToWorldBoxd, WorldToVoxelBoxd
from monai_ssl.utils.errors import UserError

IMAGE = (11, 9, 8)
SIZE = (6, 5, 4)
STARTS = list(itertools.product(*[range(length - side + 1) for length, side in zip(IMAGE, SIZE, strict=True)]))


def held(box, start, size=SIZE, image_size=IMAGE):
    """Volume of a box inside a crop, number by number."""
    volume = 1.0
    for axis in range(3):
        low = max(box[axis], start[axis], 0)
        high = min(box[axis + 3], start[axis] + size[axis], image_size[axis])
        volume *= max(0.0, high - low)
    return volume


def fitting(box, visible):
    most = max(held(box, start) for start in STARTS)
    return [start for start in STARTS if held(box, start) >= visible * most - 1e-6 * most]


def random_boxes(count=30, seed=0):
    """Small ones and such as are larger than a crop; some stick out of the image."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(0, 1, (count, 3)) * IMAGE, rng.uniform(0.5, 9, (count, 3))
    return torch.from_numpy(np.concatenate([centre - size / 2, centre + size / 2], 1))


def case(boxes, **more):
    affine = torch.diag(torch.tensor([-0.7, 1.3, 2.0, 1.0]).double())
    affine[:3, 3] = torch.tensor([30.0, -20.0, 5.0])
    image = MetaTensor(torch.rand(2, *IMAGE), affine=affine, meta={"filename_or_obj": "a.nii"})
    return {"image": image, "box": boxes, "label": list(range(len(boxes))), **more}


@pytest.mark.parametrize("visible", [0.05, 0.5, 0.8, 1.0])
def test_kept_boxes_are_those_of_a_slow_count(visible):
    boxes = random_boxes()
    kept_somewhere = 0
    for start in STARTS[::7]:
        cropped, kept = crop_boxes(boxes, start, SIZE, IMAGE, visible)
        expected = [held(box, start) >= visible * max(held(box, s) for s in STARTS) - 1e-6 for box in boxes.tolist()]
        assert kept.tolist() == expected
        for row, box in zip(cropped.tolist(), boxes[kept].tolist(), strict=True):
            low = [max(0, box[a] - start[a]) for a in range(3)]
            high = [min(SIZE[a], box[a + 3] - start[a]) for a in range(3)]
            assert row == pytest.approx(low + high, abs=1e-5)
        kept_somewhere += int(kept.sum())
    assert kept_somewhere > 0
    assert cropped.dtype == torch.float32


def test_a_whole_box_is_only_shifted_and_a_far_one_dropped():
    boxes = torch.tensor([[4.5, 3.0, 2.0, 6.0, 5.0, 4.0], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], [torch.nan] * 6])
    cropped, kept = crop_boxes(boxes, (3, 2, 1), SIZE, IMAGE, 1.0)
    assert cropped.tolist() == [[1.5, 1.0, 1.0, 3.0, 3.0, 3.0]]
    assert kept.tolist() == [True, False, False]


def test_of_a_box_larger_than_the_crop_as_much_as_can_be_is_enough():
    whole = torch.tensor([[0.0, 0.0, 0.0, *IMAGE]])
    for start in STARTS[::11]:
        cropped, kept = crop_boxes(whole, start, SIZE, IMAGE, 1.0)
        assert kept.tolist() == [True]
        assert cropped.tolist() == [[0.0, 0.0, 0.0, *SIZE]]


@pytest.mark.parametrize(
    ("box", "visible"),
    [
        ([4.2, 3.1, 2.4, 6.9, 5.0, 4.8], 0.5),
        ([4.2, 3.1, 2.4, 6.9, 5.0, 4.8], 1.0),
        ([-2.0, 1.0, 1.0, 1.5, 3.0, 3.0], 0.3),
        ([1.5, 0.0, 1.0, 10.7, 8.3, 7.9], 0.7),
        ([9.7, 8.1, 7.2, 10.9, 9.0, 8.0], 0.2),
    ],
)
def test_a_crop_around_an_object_is_uniform_over_all_that_hold_enough_of_it(box, visible):
    crop = RandBoxCropd("image", SIZE, p_object=1.0, visible=visible).set_random_state(0)
    expected = fitting(box, visible)
    counts = dict.fromkeys(expected, 0)
    for _ in range(30 * len(expected)):
        crop.randomize(np.array([box]), IMAGE)
        counts[crop.start] += 1  # a start that does not hold enough is a KeyError
        assert crop_boxes(torch.tensor([box]), crop.start, SIZE, IMAGE, visible)[1].all()
    assert len(expected) == 1 or chisquare(list(counts.values())).pvalue > 1e-3


def test_every_object_is_as_likely():
    boxes = np.array([[0.0, 0, 0, 1, 1, 1], [10.0, 8, 7, 11, 9, 8], [np.nan] * 6, [20.0, 0, 0, 21, 1, 1]])
    crop = RandBoxCropd("image", SIZE, p_object=1.0).set_random_state(0)
    starts = []
    for _ in range(400):
        crop.randomize(boxes, IMAGE)
        starts.append(crop.start)
    assert set(starts) == {(0, 0, 0), (5, 4, 4)}
    assert 150 < starts.count((0, 0, 0)) < 250


@pytest.mark.parametrize("boxes", [np.zeros((0, 6)), np.full((3, 6), np.nan), np.array([[0.0, 0, 0, 1, 1, 1]])])
def test_else_a_crop_is_uniform_over_the_image(boxes):
    p_object = 0.0 if np.isfinite(boxes).any() else 1.0
    crop = RandBoxCropd("image", SIZE, p_object=p_object).set_random_state(0)
    counts = dict.fromkeys(STARTS, 0)
    for _ in range(20 * len(STARTS)):
        crop.randomize(boxes, IMAGE)
        counts[crop.start] += 1
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_the_chance_of_an_object_is_the_one_asked_for():
    crop = RandBoxCropd("image", SIZE, p_object=0.3).set_random_state(0)
    inside = 0
    for _ in range(1000):
        crop.randomize(np.array([[0.0, 0, 0, 1, 1, 1]]), IMAGE)
        inside += crop.start == (0, 0, 0)
    assert 0.25 < inside / 1000 < 0.36  # one of 150 other crops holds it, too


def test_image_boxes_and_affine_stay_together():
    data = case([[4.0, 3.0, 2.0, 6.0, 5.0, 4.0], [0.0, 0.0, 0.0, 0.5, 0.5, 0.5]], mask=torch.rand(1, *IMAGE))
    crop = RandBoxCropd(["image", "mask"], SIZE, p_object=1.0, visible=1.0).set_random_state(3)
    world = VoxelToWorldBoxd("box")(data)["box"]
    seen = set()
    for _ in range(20):
        out = crop(data)
        place = tuple(slice(first, first + side) for first, side in zip(crop.start, SIZE, strict=True))
        for key in ("image", "mask"):
            assert torch.equal(torch.as_tensor(out[key]), torch.as_tensor(data[key][(slice(None), *place)]))
        np.testing.assert_allclose(VoxelToWorldBoxd("box")(out)["box"], world[out["label"]], atol=1e-4)
        assert out["label"].dtype == torch.int64
        seen |= set(out["label"].tolist())
    assert seen == {0, 1}


def test_the_input_stays_and_a_seed_repeats():
    data = case([[4.0, 3.0, 2.0, 6.0, 5.0, 4.0]])
    image, boxes = data["image"].clone(), [list(box) for box in data["box"]]
    runs = []
    for _ in range(2):
        crop = RandBoxCropd("image", SIZE).set_random_state(5)
        runs.append([crop(data)["image"] for _ in range(6)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert any(not torch.equal(a, runs[0][0]) for a in runs[0])
    assert torch.equal(data["image"], image)
    assert data["box"] == boxes
    assert data["label"] == [0]


@pytest.mark.parametrize("empty", [[], torch.zeros(0, 6)])
def test_a_scan_without_objects_is_ordinary(empty):
    out = RandBoxCropd("image", 4, p_object=1.0).set_random_state(0)(case(empty))
    assert out["image"].shape == (2, 4, 4, 4)
    assert out["box"].shape == (0, 6)
    assert out["label"].shape == (0,)


def test_a_batch_is_tensors_alone():
    sick = case(VoxelToWorldBoxd("box")(case([[4.0, 3.0, 2.0, 6.0, 5.0, 4.0]]))["box"].tolist())
    steps = Compose(
        [
            WorldToVoxelBoxd("box"),
            RandBoxCropd("image", 4),
            RandFlipBoxd("image", "box", "image", prob=0.5),
            RandRotateBox90d("image", "box", "image", prob=0.5),
            PadBoxesd(3),
            SelectItemsd(["image", "box", "label"]),
        ]
    ).set_random_state(0)
    for _ in range(4):
        batch = list_data_collate([steps(one) for one in (sick, case([]), sick)])
        assert batch["image"].shape == (3, 2, 4, 4, 4)
        assert batch["box"].shape == (3, 3, 6)
        assert batch["label"].shape == (3, 3)
        assert torch.equal(batch["box"].isnan().all(-1), batch["label"] == -1)
        assert (batch["label"][1] == -1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"roi_size": (4, 0, 4)}, r"`roi_size` must be whole voxels from 1, got \(4, 0, 4\)"),
        ({"roi_size": 2.5}, "`roi_size` must be whole voxels"),
        ({"roi_size": 4, "p_object": 1.5}, r"`p_object` must be in \[0, 1\], got 1\.5"),
        ({"roi_size": 4, "visible": 0.0}, r"`visible` must be in \(0, 1\], got 0\.0"),
        ({"roi_size": 4, "visible": 1.1}, "got 1.1"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandBoxCropd("image", **arguments)


def test_a_small_image_is_named_with_the_remedy():
    with pytest.raises(UserError, match=r"a\.nii: has \(11, 9, 8\) voxels, .* crop of \(6, 5, 9\) .*SpatialPadd"):
        RandBoxCropd("image", (6, 5, 9))(case([]))


def test_images_and_labels_must_agree():
    with pytest.raises(ValueError, match="`image_keys` must be of images of one size"):
        RandBoxCropd(["image", "mask"], 4)(case([], mask=torch.zeros(1, 5, 5, 5)))
    with pytest.raises(ValueError, match="`label` must be one class a box: 1 boxes, got 2"):
        RandBoxCropd("image", 4)({**case([[1.0, 1, 1, 2, 2, 2]]), "label": [0, 1]})
    assert RandBoxCropD is RandBoxCropd
