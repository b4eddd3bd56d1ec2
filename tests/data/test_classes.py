from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.data.classes import check_box_classes, check_class_names, object_names
from monai_ssl.utils.errors import UserError


def detection_list(folder: Path, names: list[str], **parts: list[dict[str, Any]]) -> Path:
    path = folder / "dataset.json"
    labels = {"labels": {str(value): name for value, name in enumerate(names)}} if names else {}
    path.write_text(json.dumps({**labels, **parts}))
    return path


MASK = {"image": "a.nii", "label": "m.nii"}
BOXES = {"image": "a.nii", "box": [[0, 0, 0, 5, 5, 5]], "label": [0]}


def test_the_first_value_of_masks_is_where_nothing_is(tmp_path: Path) -> None:
    path = detection_list(tmp_path, ["lung", "nodule", "node"], training=[MASK], test=[BOXES])
    assert object_names(path, None, ["object"]) == ["nodule", "node"]
    assert object_names(None, tmp_path, ["object"]) == ["nodule", "node"]
    assert object_names(path, None, ["object"], ["test"]) == ["lung", "nodule", "node"]
    detection_list(tmp_path, ["background", "nodule"], validation=[MASK])
    assert object_names(path, None, ["object"]) == ["nodule"]
    detection_list(tmp_path, ["background", "nodule"], unlabeled=[{"image": "a.nii"}])
    assert object_names(path, None, ["object"]) == ["nodule"]


def test_without_names_there_are_the_given_ones(tmp_path: Path) -> None:
    assert object_names(None, None, ["object"]) == ["object"]
    assert object_names(detection_list(tmp_path, [], training=[MASK]), None, ["object"]) == ["object"]


def test_some_class_must_be_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must name 0, where nothing is, and the objects, from 1 on, got nodule alone"):
        object_names(detection_list(tmp_path, ["nodule"], training=[MASK]), None, ["object"])
    with pytest.raises(UserError, match="must name the objects, from 0 on, got background alone"):
        object_names(detection_list(tmp_path, ["background"], training=[]), None, ["object"])


def test_classes_in_another_order_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    check_class_names(["vein", "artery"], ["vein", "artery"])
    assert not caplog.messages
    with pytest.raises(UserError, match="vein is number 0 of the one and 1 of the other"):
        check_class_names(["vein", "artery"], ["artery", "vein"])
    with pytest.raises(UserError, match="artery is number 0"):
        check_class_names(["artery"], ["vein", "artery"])


@pytest.mark.parametrize("listed", [["lung nodule"], ["nodule", "node"]])
def test_other_words_are_a_warning(listed: list[str], caplog: pytest.LogCaptureFixture) -> None:
    check_class_names(listed, ["nodule"])
    assert f"the list's classes are {', '.join(listed)}, the model's nodule" in caplog.messages[-1]


def test_boxes_are_of_classes_with_names() -> None:
    cases = [{"image": "a.nii", "label": []}, {"image": "m.nii", "label": "mask.nii"}]
    check_box_classes([*cases, {"image": "b.nii", "label": [0, 1]}], ["nodule", "node"])
    with pytest.raises(UserError, match=r"b\.nii: has a box of class 1, and the classes, counted from 0, are object\."):
        check_box_classes([*cases, {"image": "b.nii", "label": [0, 1]}], ["object"])
