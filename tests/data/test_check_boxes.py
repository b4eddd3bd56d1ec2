from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_ssl.data.check_boxes import _wrong, box_faults
from monai_ssl.data.check_facts import Volume
from monai_ssl.data.check_run import check_data
from monai_ssl.transforms.boxes import world_to_voxel_boxes
from tests.data.check_files import make_data, write_list

AFFINE = np.array([[0, -2.0, 0, 30], [1.5, 0, 0, -20], [0, 0, 3, 7], [0, 0, 0, 1]])
SHAPE = (20, 16, 10)


def volume(affine: np.ndarray = AFFINE) -> Volume:
    return Volume(SHAPE, tuple(map(tuple, affine.tolist())), "", 0, 1, 0.5, 0.5, 0, {})


def test_the_rule_is_that_of_the_training() -> None:
    generator = np.random.default_rng(0)
    middle = (AFFINE @ [10, 8, 5, 1])[:3]
    boxes = np.concatenate([middle + generator.uniform(-25, 25, (500, 3)), generator.uniform(1, 34, (500, 3))], 1)
    moved = world_to_voxel_boxes(torch.tensor(boxes), torch.tensor(AFFINE)).numpy()
    low, high = moved[:, :3], moved[:, 3:]
    wrong = ((high <= 0) | (low >= SHAPE) | (high - low > np.array(SHAPE) + 1)).any(1)
    assert 50 < wrong.sum() < 450
    assert list(_wrong(volume(), boxes)) == np.flatnonzero(wrong).tolist()


def test_a_box_inside_by_any_of_its_voxels_is_good() -> None:
    for corner in itertools.product((0, 1), repeat=3):
        centre = AFFINE @ [*(np.array(SHAPE) - 1) * corner, 1]
        assert not list(box_faults(volume(), [[*centre[:3], 1, 1, 1]]))


def test_boxes_in_lps_are_good_if_all_are() -> None:
    inside = AFFINE[:3, :3] @ [15, 3, 5] + AFFINE[:3, 3]
    ras, lps = [*inside, 2, 2, 2], [-inside[0], -inside[1], inside[2], 2, 2, 2]
    assert not list(box_faults(volume(), [ras, ras]))
    assert not list(box_faults(volume(), [lps, lps]))
    ((kind, text),) = box_faults(volume(), [ras, lps, ras])
    assert kind == "box"
    assert text.startswith("has box 2, [")
    assert text.endswith("mm, which lies outside its image")


@pytest.mark.parametrize(
    ("box", "words"),
    [([6, 6, 8, 3, 3, 3], None), ([6, 6, 99, 3, 3, 3], "lies outside"), ([6, 6, 8, 3, 40, 3], "is larger")],
)
def test_boxes_of_a_list_are_checked(tmp_path: Path, box: list[float], words: str | None) -> None:
    data, _ = make_data(tmp_path)
    for part in ("training", "validation", "test"):
        data[part] = [{"image": entry["image"], "box": [], "label": []} for entry in data[part]]
    data["labels"] = {"0": "nodule"}
    data["training"][1].update(box=[box], label=[0])
    found = check_data(write_list(tmp_path, data)).faults
    assert [(fault.kind, fault.case) for fault in found] == ([("box", "training1")] if words else [])
    assert all(words and words in fault.text for fault in found)
