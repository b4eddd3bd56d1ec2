from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_ssl.data.check_boxes import _wrong, box_faults
from monai_ssl.data.check_facts import Volume
from monai_ssl.data.check_run import check_data
from monai_ssl.data.check_training import check_scans
from monai_ssl.utils.box_grids import world_to_voxel_boxes
from monai_ssl.utils.errors import UserError
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


def box_list(tmp_path: Path, boxes: list[list[float]]) -> Path:
    data, _ = make_data(tmp_path)
    for part in ("training", "validation", "test"):
        data[part] = [{"image": entry["image"], "box": [], "label": []} for entry in data[part]]
    data["labels"] = {"0": "nodule"}
    for entry, box in zip(data["training"], boxes, strict=False):
        entry.update(box=[box], label=[0])
    return write_list(tmp_path, data)


def test_a_list_has_boxes_of_one_kind_of_coordinates(tmp_path: Path) -> None:
    inside, turned, either = [6, 6, 8, 3, 3, 3], [-6, -6, 8, 3, 3, 3], [0, 0, 8, 3, 3, 3]
    for boxes in ([inside, inside], [turned, turned], [inside, either], [either, turned]):
        assert not check_data(box_list(tmp_path, boxes)).faults
    for boxes, others in (([inside, turned], ("LPS", "RAS")), ([turned, inside], ("RAS", "LPS"))):
        (fault,) = check_data(box_list(tmp_path, boxes)).faults
        assert (fault.kind, fault.case) == ("box", "training1")
        assert f"fit it in {others[0]} alone, and those of training0 fit in {others[1]} alone" in fault.text


def test_boxes_that_fit_in_both_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = box_list(tmp_path, [[0, 0, 8, 3, 3, 3], [0, 0, 9, 3, 3, 3]])
    (fault,) = check_data(path).faults
    assert (fault.kind, fault.level, fault.case) == ("coordinates", "warning", "training0")
    assert fault.text == "has boxes that fit it in RAS and in LPS alike, as in all cases of the list"
    cases = [{**case, "image": str(tmp_path / case["image"])} for case in json.loads(path.read_text())["training"]]
    check_scans({"training": cases}, coordinates="RAS")
    assert "fit it in RAS and in LPS alike" in caplog.text
    assert "LUNA16 want --coordinates LPS" in caplog.text


def test_names_of_a_list_of_boxes_are_numbered_without_gaps(tmp_path: Path) -> None:
    path = box_list(tmp_path, [[6, 6, 8, 3, 3, 3]])
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "labels": {"0": "nodule", "2": "node"}}))
    assert [fault.kind for fault in check_data(path).faults] == ["labels"]


def test_coordinates_that_are_known_count(tmp_path: Path) -> None:
    inside = AFFINE[:3, :3] @ [15, 3, 5] + AFFINE[:3, 3]
    ras = [*inside, 2, 2, 2]
    assert not list(box_faults(volume(), [ras], "RAS"))
    ((kind, text),) = box_faults(volume(), [ras], "LPS")
    assert kind == "box"
    assert text.endswith("mm, which lies outside its image in LPS (`coordinates`)")
    images = {
        case["image"]: case for case in json.loads(box_list(tmp_path, [[-6, -6, 8, 3, 3, 3]]).read_text())["training"]
    }
    cases = [{**case, "image": str(tmp_path / image)} for image, case in images.items()]
    check_scans({"training": cases}, coordinates="LPS")
    with pytest.raises(UserError, match=r"training0.*: has box 1, .* lies outside its image in RAS \(`coordinates`\)"):
        check_scans({"training": cases}, coordinates="RAS")
