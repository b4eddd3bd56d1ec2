from __future__ import annotations

from typing import Any

import pytest

from monai_ssl.data.entries import AllowedLabels, checked_entry, json_kind, label_pairs
from monai_ssl.utils.errors import UserError

PATHS = AllowedLabels(class_labels=False, boxes=False, names=[])
BOXES = AllowedLabels(class_labels=False, boxes=True, names=["nodule"])


def test_empty_labels_and_patients_are_left_out_and_patients_are_text() -> None:
    entry = {"image": "a.nii.gz", "label": "", "patient": None, "fold": 0}
    assert checked_entry(entry, "here", "training", PATHS) == {"image": "a.nii.gz", "fold": 0}
    assert checked_entry({"image": "a", "patient": 7}, "here", "test", PATHS) == {"image": "a", "patient": "7"}
    assert checked_entry("a", "here", "unlabeled", PATHS) == {"image": "a"}


@pytest.mark.parametrize(
    ("entry", "part", "allowed", "message"),
    [
        ("a", "training", PATHS, r"^here must be an object with `image`, got a string\.$"),
        ({"image": ["a", "b"]}, "test", PATHS, r"^here must have `image`, the path of one file .* got \['a', 'b'\]"),
        ({"image": "a", "patient": True}, "test", PATHS, r"^here \(a\): `patient` must be a string, got True"),
        ({"image": "a", "label": 1}, "training", PATHS, r"^here \(a\): `label` must be a path as a string, got 1"),
        ({"image": "a", "box": [], "label": []}, "test", PATHS, r"got \[\]; .* for the bundle focalmix_detection\.$"),
        ({"image": "a", "label": {}}, "training", BOXES, r"or a list of one class for each box, got \{\}"),
        ({"image": "a", "box": [], "label": []}, "test", BOXES._replace(names=["Background"]), r"without a background"),
    ],
)
def test_the_place_of_a_wrong_entry_is_named(entry: Any, part: str, allowed: AllowedLabels, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked_entry(entry, "here", part, allowed)


def test_the_label_of_an_unlabelled_entry_is_not_looked_at() -> None:
    assert checked_entry({"image": "a", "label": {"any": 1}}, "here", "unlabeled", PATHS)["image"] == "a"


def test_labels_of_both_forms_are_pairs() -> None:
    assert label_pairs({"1": "a", "0": "b"}) == label_pairs({"b": "0", "a": 1}) == [(0, "b"), (1, "a")]
    assert label_pairs(["a"]) == label_pairs({"x": "y"}) == []


def test_kinds_are_those_of_json() -> None:
    kinds = [json_kind(value) for value in ({}, [], "", True, None, 1, 0.5)]
    assert kinds == ["an object", "a list", "a string", "a boolean", "null", "a number", "a number"]
