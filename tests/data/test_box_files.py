from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from monai_ssl.data.box_files import read_boxes, write_boxes, write_markups
from monai_ssl.utils.errors import UserError

NAMES = ["nodule", "mass"]


def detections(count=5, seed=0):
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.uniform(-300, 300, (count, 3)), rng.uniform(1, 30, (count, 3))], 1).astype(np.float32)
    return boxes, rng.integers(0, 2, count), rng.uniform(0, 1, count).astype(np.float32)


def test_what_is_written_comes_back_by_falling_score(tmp_path):
    boxes, labels, scores = detections()
    write_boxes(tmp_path / "a.json", "/some/where/scan.nii.gz", boxes, labels, scores, NAMES)
    content = read_boxes(tmp_path / "a.json")
    order = np.argsort(scores)[::-1]
    np.testing.assert_array_equal(content["box"], boxes[order])
    np.testing.assert_array_equal(content["label"], labels[order])
    np.testing.assert_array_equal(content["score"], scores[order])
    assert content["class"] == [NAMES[label] for label in labels[order]]
    assert (content["image"], content["coordinates"], content["box_mode"]) == ("scan.nii.gz", "RAS", "cccwhd")


def test_numbers_are_short_and_equal_scores_keep_their_order(tmp_path):
    boxes = torch.tensor([[0.1, 1, 2, 3, 4, 5], [0.2, 1, 2, 3, 4, 5], [0.3, 1, 2, 3, 4, 5]])
    write_boxes(tmp_path / "a.json", "a.nii", boxes, torch.tensor([0, 1, 0]), torch.tensor([0.9, 0.95, 0.9]), NAMES)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["score"] == [0.95, 0.9, 0.9]
    assert [row[0] for row in content["box"]] == [0.2, 0.1, 0.3]


def test_no_box_is_a_file_too(tmp_path):
    nothing = torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    write_boxes(tmp_path / "a.json", "a.nii", *nothing, NAMES)
    content = read_boxes(tmp_path / "a.json")
    assert content["box"].shape == (0, 6)
    assert len(content["label"]) == len(content["score"]) == len(content["class"]) == 0
    write_markups(tmp_path / "a.mrk.json", *nothing, NAMES)
    assert json.loads((tmp_path / "a.mrk.json").read_text())["markups"] == []


def as_slicer_reads(markup):
    """Corners of a region in RAS: what is in LPS changes sign in x and y, the columns of the matrix are the axes."""
    flip = np.diag([-1.0, -1.0, 1.0]) if markup["coordinateSystem"] == "LPS" else np.eye(3)
    axes = flip @ np.array(markup["orientation"]).reshape(3, 3)
    half = axes @ np.diag(markup["size"]) / 2
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1)
    return (flip @ np.array(markup["center"]))[:, None] + half @ signs


def test_slicer_finds_the_boxes_where_they_are(tmp_path):
    boxes, labels, scores = detections()
    write_markups(tmp_path / "a.mrk.json", boxes, labels, scores, NAMES)
    text = (tmp_path / "a.mrk.json").read_text()
    content = json.loads(text)
    assert content["@schema"].endswith("markups-schema-v1.0.3.json#")
    order = np.argsort(scores)[::-1]
    assert len(content["markups"]) == len(boxes)
    for rank, (markup, which) in enumerate(zip(content["markups"], order, strict=True), 1):
        corners = as_slicer_reads(markup)
        np.testing.assert_allclose(corners.min(1), boxes[which, :3] - boxes[which, 3:] / 2, atol=1e-4)
        np.testing.assert_allclose(corners.max(1), boxes[which, :3] + boxes[which, 3:] / 2, atol=1e-4)
        assert (markup["type"], markup["roiType"], markup["coordinateUnits"]) == ("ROI", "Box", "mm")
        assert [point["position"] for point in markup["controlPoints"]] == [markup["center"]]
        assert markup["name"] == f"{NAMES[labels[which]]} {rank} ({scores[which]:.2f})"
    # some versions of Slicer take nothing for a number that has no point
    assert not re.search(r"^\s*-?\d+,?$", text, re.MULTILINE)


def test_axes_keep_their_handedness(tmp_path):
    write_markups(tmp_path / "a.mrk.json", [[1, 2, 3, 4, 5, 6]], [0], [1], NAMES)
    markup = json.loads((tmp_path / "a.mrk.json").read_text())["markups"][0]
    assert np.linalg.det(np.array(markup["orientation"]).reshape(3, 3)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("boxes", "labels", "scores", "message"),
    [
        ([[1, 2, 3, 4, 5]], [0], [1], r"`boxes` must be \(N, 6\), `labels` and `scores` \(N,\), got \(1, 5\)"),
        ([[1, 2, 3, 4, 5, 6]], [0, 1], [1], r"got \(1, 6\), \(2,\), \(1,\)"),
        ([[1, 2, 3, 4, 5, 6]], [0], [], r"\(0,\)"),
        ([[1, 2, np.nan, 4, 5, 6]], [0], [1], "must be finite"),
        ([[1, 2, 3, 4, 5, 6]], [0], [np.inf], "must be finite"),
        ([[1, 2, 3, 4, 0, 6]], [0], [1], "sizes above 0 mm"),
        ([[1, 2, 3, 4, 5, 6]], [2], [1], r"`labels` must be classes from 0 to 1 \(`class_names`\), got 2"),
        ([[1, 2, 3, 4, 5, 6]], [-1], [1], "got -1"),
    ],
)
def test_wrong_boxes_leave_the_old_file(tmp_path, boxes, labels, scores, message):
    for name in ("a.json", "a.mrk.json"):
        (tmp_path / name).write_text("old")
    with pytest.raises(ValueError, match=message):
        write_boxes(tmp_path / "a.json", "a.nii", boxes, labels, scores, NAMES)
    with pytest.raises(ValueError, match=message):
        write_markups(tmp_path / "a.mrk.json", boxes, labels, scores, NAMES)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.json": "old", "a.mrk.json": "old"}


def test_slicer_knows_the_file_by_its_ending(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must end in \.mrk\.json"):
        write_markups(tmp_path / "a.json", [], [], [], NAMES)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        '{"box": [], "label": []}',
        '{"box": [[1, 2]], "label": [0], "score": [1], "class": ["a"], "coordinates": "RAS", "box_mode": "cccwhd"}',
        '{"box": [], "label": [], "score": [], "class": [], "coordinates": "LPS", "box_mode": "cccwhd"}',
        '{"box": [], "label": [0], "score": [], "class": [], "coordinates": "RAS", "box_mode": "cccwhd"}',
    ],
)
def test_another_file_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json: .*Write it anew"):
        read_boxes(tmp_path / "a.json")
