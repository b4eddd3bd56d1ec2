from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_ssl.data.check_list import case_name, read_listing
from monai_ssl.utils.errors import UserError
from tests.data.check_files import write_list

PAIR = {"image": "images/a.nii.gz", "label": "labels/a.nii.gz"}


def test_a_list_as_it_is_written(tmp_path: Path) -> None:
    data = {
        "labels": {"background": 0, "liver": 1},
        "channel_names": {"0": "T1", "1": "T2"},
        "training": [{**PAIR, "patient": 7}],
        "unlabeled": [{"image": "b.nii.gz", "label": "secret.nii.gz", "patient": "x"}],
        "test": [{"image": "/else/c.nii.gz", "patient": "y"}],
    }
    listing = read_listing(write_list(tmp_path, data))
    assert listing.faults == []
    assert (listing.classes, listing.channels) == ({0: "background", 1: "liver"}, 2)
    training, unlabeled, test = listing.cases
    assert training.label_path == str(tmp_path / "labels" / "a.nii.gz")
    assert (unlabeled.label, unlabeled.label_path) == (None, None)
    assert test.image_path == "/else/c.nii.gz"
    assert [one.patient for one in listing.cases] == ["7", "x", "y"]


@pytest.mark.parametrize(
    ("more", "channels"),
    [
        ({}, None),
        ({"tensorImageSize": "3D"}, 1),
        ({"tensorImageSize": "4D"}, None),
        ({"tensorImageSize": "4D", "modality": {"0": "a", "1": "b"}}, 2),
        ({"modality": "MRI"}, None),
        ({"modality": ["CT"]}, 1),
    ],
)
def test_channels(tmp_path: Path, more: dict[str, Any], channels: int | None) -> None:
    assert read_listing(write_list(tmp_path, {"training": [PAIR], **more})).channels == channels


def test_lists_of_boxes_and_of_classes_have_no_label_files(tmp_path: Path) -> None:
    boxed = {"image": "a.nii", "box": [[0, 0, 0, 1, 1, 1]], "label": [0]}
    for entry in (boxed, {"image": "a.nii", "label": 3}):
        listing = read_listing(write_list(tmp_path, {"training": [entry], "labels": {"0": "nodule"}}))
        assert (listing.faults, listing.classes) == ([], {})
        assert listing.cases[0].label is None
    flat = {**boxed, "box": [[0, 0, 0, 1, -1, 1]]}
    (fault,) = read_listing(write_list(tmp_path, {"training": [flat]})).faults
    assert (fault.kind, fault.file) == ("entry", "a.nii")
    assert fault.text.startswith("entry 1 (a.nii): box 1 must have a width, height and depth above 0 mm")


def test_every_entry_is_looked_at(tmp_path: Path) -> None:
    data = {"training": [PAIR, "a.nii", {**PAIR, "patient": [1]}, PAIR], "validation": 3, "test": ["a.nii", None]}
    listing = read_listing(write_list(tmp_path, data))
    assert [(f.part, f.case, f.kind) for f in listing.faults] == [
        ("training", "entry 2", "entry"),
        ("training", "entry 3", "entry"),
        ("validation", "", "list"),
        ("test", "entry 2", "entry"),
    ]
    assert [one.part for one in listing.cases] == ["training", "training", "test"]


def test_dataset_dir_is_what_paths_are_relative_to(tmp_path: Path) -> None:
    path = write_list(tmp_path, {"training": [PAIR]})
    (tmp_path / "data").mkdir()
    (one,) = read_listing(path, tmp_path / "data").cases
    assert one.image_path == str(tmp_path / "data" / "images" / "a.nii.gz")
    with pytest.raises(UserError, match="`dataset_dir` must be a folder"):
        read_listing(path, tmp_path / "none")


def test_damaged_lists_never_end_the_check(tmp_path: Path) -> None:
    data = {"labels": {"0": "background", "1": "liver"}, "training": [{**PAIR, "patient": 1}], "test": ["b.nii"]}
    text, generator = write_list(tmp_path, data).read_bytes(), np.random.default_rng(0)
    values = [b"null", b"[]", b"{}", b"1e999", b"NaN", b'"\\u0000"', b'"\\ud800"', b"1" * 5000, b"-1"]
    places = [match.span() for match in re.finditer(rb'"[^"]*"|\d+|\[[^][]*\]', text)]
    for begin, end in places:
        for value in values:
            (tmp_path / "dataset.json").write_bytes(text[:begin] + value + text[end:])
            listing = read_listing(tmp_path / "dataset.json")
            json.dumps([fault.as_dict() for fault in listing.faults], ensure_ascii=False).encode()
    for _ in range(300):
        damaged = bytearray(text)
        damaged[generator.integers(len(text))] = generator.integers(256)
        (tmp_path / "dataset.json").write_bytes(damaged)
        read_listing(tmp_path / "dataset.json")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("images/a.nii.gz", "a"),
        ("a.NII", "a"),
        ("1.2.840.10.nii.gz", "1.2.840.10"),
        ("1.2.840.10", "1.2.840.10"),
        ("b.nrrd", "b"),
        (".nii", ".nii"),
    ],
)
def test_case_names(file: str, name: str) -> None:
    assert case_name(file) == name
