from __future__ import annotations

import copy

import pytest

from monai_ssl.data.boxes import box_source, checked_boxes
from monai_ssl.utils.errors import UserError

BOX = [-10.5, 20, 30, 4, 5, 6]


def test_boxes_become_floats_and_the_rest_stays():
    entry = {"image": "a.nii", "box": [BOX, [1, 2, 3, 1, 1, 1]], "label": [1, 0], "fold": 2}
    before = copy.deepcopy(entry)
    checked = checked_boxes(entry, "list", classes=2)
    assert checked == entry == before
    assert all(type(value) is float for box in checked["box"] for value in box)


@pytest.mark.parametrize("entry", [{"box": [], "label": []}, {"box": []}])
def test_a_healthy_scan_has_no_box(entry):
    assert checked_boxes(entry, "list") == {"box": [], "label": []}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"label": [0]}, "has a list of classes as `label` but no `box`"),
        ({"box": [BOX]}, "`label` must be a list of one class for each of 1 boxes, got none"),
        ({"box": [BOX, BOX], "label": [0]}, "one class for each of 2 boxes, got 1"),
        ({"box": [BOX], "label": 0}, "one class for each of 1 boxes, got 0"),
        ({"box": [], "label": [0]}, "one class for each of 0 boxes, got 1"),
        ({"box": "a.json", "label": [0]}, "`box` must be a list of boxes, each six numbers in mm"),
        ({"box": BOX, "label": [0]}, r"got the numbers of one: write \[\[-10\.5, 20, 30, 4, 5, 6\]\]"),
        ({"box": [BOX, BOX[:5]], "label": [0, 0]}, "box 2 must be six numbers in mm"),
        ({"box": [[*BOX[:5], None]], "label": [0]}, "box 1 must be six numbers"),
        ({"box": [[*BOX[:5], True]], "label": [0]}, "box 1 must be six numbers"),
        ({"box": [[*BOX[:5], float("nan")]], "label": [0]}, "box 1 must be six numbers"),
        ({"box": [[*BOX[:5], float("inf")]], "label": [0]}, "box 1 must be six numbers"),
        ({"box": [[*BOX[:5], 0]], "label": [0]}, r"depth above 0 mm, got \[4, 5, 0\]"),
        ({"box": [[-60, 20, -90, -50, 30, -80]], "label": [0]}, "box 1 .*centre and size .*not two corners"),
        (
            {"box": [BOX], "label": [2]},
            r"class of box 1 must be a whole number from 0 to 1 \(`labels` names 2\), got 2",
        ),
        ({"box": [BOX, BOX], "label": [0, -1]}, "class of box 2 must be .*got -1"),
        ({"box": [BOX], "label": [0.0]}, "got 0.0"),
        ({"box": [BOX], "label": [False]}, "got False"),
        ({"box": [BOX], "label": ["nodule"]}, "got 'nodule'"),
    ],
)
def test_every_mistake_is_one_line_that_names_the_entry(entry, message):
    with pytest.raises(UserError, match=message) as raised:
        checked_boxes(entry, "list.json: entry 3 of `training` (a.nii)", classes=2)
    assert str(raised.value).startswith("list.json: entry 3 of `training` (a.nii): ")
    assert "\n" not in str(raised.value)


def test_without_names_any_class_is_one():
    assert checked_boxes({"box": [BOX], "label": [7]}, "list")["label"] == [7]


def test_where_boxes_come_from():
    box, mask = {"image": "a", "box": [], "label": []}, {"image": "b", "label": "b_mask.nii"}
    assert box_source([box, box]) == "box"
    assert box_source([mask]) == "mask"
    assert box_source([]) == "box"
    with pytest.raises(UserError, match=r"some cases have boxes \(a\) and some have masks \(b\)"):
        box_source([box, mask])
