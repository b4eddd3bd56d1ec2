from __future__ import annotations

import pytest

from monai_ssl.data.classes import check_box_classes, check_class_names, object_names
from monai_ssl.utils.errors import UserError


def test_the_first_value_of_masks_is_where_nothing_is() -> None:
    assert object_names(["background", "nodule"], "mask") == ["nodule"]
    assert object_names(["lung", "nodule", "node"], "mask") == ["nodule", "node"]
    assert object_names(["nodule", "node"], "box") == ["nodule", "node"]
    assert object_names(["Background", "nodule"], "box") == ["nodule"]
    assert object_names([], "mask", ["object"]) == ["object"]
    with pytest.raises(UserError, match="must name 0, where nothing is, and the objects, from 1 on, got nodule alone"):
        object_names(["nodule"], "mask")
    with pytest.raises(UserError, match="must name the objects, from 0 on, got background alone"):
        object_names(["background"], "box")


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
