from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from monai_ssl.metrics.box_matching import MEAN_OVER_IOU, MatchedBoxes, detection_record, match_boxes
from monai_ssl.utils.errors import UserError

BOX = [2.0, 2.0, 2.0, 8.0, 8.0, 8.0]


def random_boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    lower = generator.uniform(0, 5, (count, 3))
    return np.concatenate([lower, lower + generator.uniform(5, 10, (count, 3))], axis=1)


def random_case(
    generator: np.random.Generator, predicted: int = 12, true: int = 4, classes: int = 2
) -> tuple[Any, ...]:
    scores = generator.random(predicted).astype(np.float32)
    labels, true_labels = (generator.integers(classes, size=count) for count in (predicted, true))
    return random_boxes(generator, predicted), scores, labels, random_boxes(generator, true), true_labels


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    shared = 1.0
    for axis in range(3):
        shared *= max(min(a[3 + axis], b[3 + axis]) - max(a[axis], b[axis]), 0)
    volumes = [np.prod(box[3:] - box[:3]) for box in (a, b)]
    return float(shared / (sum(volumes) - shared))


def slow_match(case: tuple[Any, ...], threshold: float) -> tuple[dict[float, bool], list[float | None]]:
    """By score: whether the prediction is a hit; by true box: the score of the prediction that found it."""
    boxes, scores, labels, true_boxes, true_labels = case
    found: list[float | None] = [None] * len(true_boxes)
    hits = {}
    for place in sorted(range(len(boxes)), key=lambda place: -scores[place]):
        free = [
            (overlap(boxes[place], true_boxes[other]), other)
            for other in range(len(true_boxes))
            if found[other] is None and labels[place] == true_labels[other]
        ]
        best, other = max(free, default=(0.0, -1))
        score = float(f"{scores[place]:.9g}")
        hits[score] = best >= threshold
        if best >= threshold:
            found[other] = score
    return hits, found


def match_one(boxes: Any, scores: Any, true_boxes: Any, **arguments: Any) -> MatchedBoxes:
    count, others = len(scores), len(true_boxes)
    return match_boxes(boxes, scores, np.zeros(count, int), true_boxes, np.zeros(others, int), **arguments)


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.3])
def test_agrees_with_a_slow_matching(threshold: float) -> None:
    generator = np.random.default_rng(1)
    several = 0
    for _ in range(40):
        case = random_case(generator, int(generator.integers(15)), int(generator.integers(6)))
        matched = match_boxes(*case, classes=2, iou_threshold=threshold)
        for row, each in enumerate((threshold, *MEAN_OVER_IOU)):
            hits, found = slow_match(case, each)
            assert dict(zip(matched.scores.tolist(), matched.hits[row].tolist(), strict=True)) == hits
            if row == 0:
                by = [matched.scores[place] if place >= 0 else None for place in matched.found_by]
                assert by == found
                several += sum(hits.values()) > 1
        assert (np.diff(matched.scores) <= 0).all()
    assert several > 5


def test_a_second_prediction_of_a_box_is_a_false_positive() -> None:
    matched = match_one([BOX, BOX, BOX], [0.5, 0.9, 0.7], [BOX])
    assert matched.scores.tolist() == [0.9, 0.7, 0.5]
    assert matched.hits[0].tolist() == [True, False, False]
    assert matched.found_by.tolist() == [0]


def test_a_box_of_another_class_is_no_hit() -> None:
    matched = match_boxes([BOX], [0.5], [1], [BOX], [0], classes=2)
    assert not matched.hits.any()
    assert matched.found_by.tolist() == [-1]


def test_thresholds_are_reached_by_equality() -> None:
    half = [2.0, 2.0, 2.0, 8.0, 8.0, 5.0]  # IoU 0.5
    assert match_one([half], [0.5], [BOX]).hits[:, 0].all()
    assert not match_one([half], [0.5], [BOX], iou_threshold=0.51).hits[0, 0]


def test_padding_is_left_out() -> None:
    generator = np.random.default_rng(2)
    case = random_case(generator)
    nothing = np.full((3, 6), np.nan)
    padded = (
        np.concatenate([nothing, case[0]]),
        np.concatenate([[np.nan] * 3, case[1]]),
        np.concatenate([[-1] * 3, case[2]]),
        np.concatenate([case[3], nothing]),
        np.concatenate([case[4], [-1] * 3]),
    )
    first, second = match_boxes(*case, classes=2), match_boxes(*padded, classes=2)
    for name in MatchedBoxes.__dataclass_fields__:
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


@pytest.mark.parametrize("empty", [[], np.zeros((0, 6)), np.full((2, 6), np.nan)])
def test_cases_without_a_box_or_a_prediction(empty: Any) -> None:
    labels = np.full(len(empty), -1)
    healthy = match_boxes([BOX], [0.5], [0], empty, labels)
    assert healthy.hits.tolist() == [[False]] * 10
    assert healthy.true_boxes.shape == (0, 6)
    silent = match_boxes(empty, np.full(len(empty), np.nan), labels, [BOX], [0])
    assert silent.hits.shape == (10, 0)
    assert silent.found_by.tolist() == [-1]
    assert match_boxes(empty, labels, labels, empty, labels).hits.shape == (10, 0)


def test_equal_scores_do_not_depend_on_their_order() -> None:
    generator = np.random.default_rng(3)
    for _ in range(10):
        boxes, _, labels, true_boxes, true_labels = random_case(generator, 20, 6, 1)
        scores = generator.integers(1, 4, size=20) / 4
        first = match_boxes(boxes, scores, labels, true_boxes, true_labels)
        turn = generator.permutation(20)
        second = match_boxes(boxes[turn], scores[turn], labels[turn], true_boxes, true_labels)
        assert np.array_equal(first.hits, second.hits)
        assert np.array_equal(first.boxes, second.boxes)


def test_the_surest_of_each_class_are_kept() -> None:
    scores = np.array([0.1, 0.9, 0.3, 0.8, 0.7, 0.2])
    labels = np.array([0, 0, 0, 0, 1, 1])
    boxes = np.tile(BOX, (6, 1))
    matched = match_boxes(boxes, scores, labels, [BOX, BOX], [0, 1], classes=3, max_detections=2)
    assert matched.scores.tolist() == [0.9, 0.8, 0.7, 0.2]
    assert matched.labels.tolist() == [0, 0, 1, 1]
    assert matched.found_by.tolist() == [0, 2]


def test_record() -> None:
    matched = match_boxes(
        np.tile(BOX, (4, 1)), np.array([0.1, 0.7, 0.4, 0.3], np.float32), [0, 0, 0, 1], [BOX, BOX], [0, 0], classes=2
    )
    record = detection_record("/data/patients/a.nii.gz", matched, ["nodule", "node"])
    assert record == {
        "image": "a.nii.gz",
        "boxes": 2,
        "classes": {
            "nodule": {"boxes": 2, "hit_scores": [0.699999988, 0.400000006], "false_scores": [0.100000001]},
            "node": {"boxes": 0, "hit_scores": [], "false_scores": [0.300000012]},
        },
    }
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    scores = np.random.default_rng(4).random(1000).astype(np.float32)
    kept = match_one(random_boxes(np.random.default_rng(5), 1000), scores, [], max_detections=1000).scores
    assert np.array_equal(np.sort(kept.astype(np.float32)), np.sort(scores))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iou_threshold": 0.0}, r"`iou_threshold` must be in \(0, 1\], got 0.0"),
        ({"iou_threshold": 1.1}, r"`iou_threshold` must be in \(0, 1\], got 1.1"),
        ({"max_detections": 0}, r"`max_detections` must be at least 1, got 0"),
    ],
)
def test_arguments(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        match_one([BOX], [0.5], [BOX], **change)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (([BOX], [0.5], [0], [BOX[::-1]], [0]), r"`true_boxes` must be finite corners, the lower ones first, got \[8"),
        (([[np.nan] * 6], [0.5], [0], [BOX], [0]), r"`boxes` must be finite corners"),
        (([BOX], [0.5], [1], [BOX], [0]), r"classes of `boxes` must be whole numbers from 0 to 0, got 1"),
        (([BOX], [0.5], [0], [BOX], [0.5]), r"classes of `true_boxes` must be whole numbers from 0 to 0, got 0.5"),
        (([BOX], [np.nan], [0], [BOX], [0]), r"scores of `boxes` must be finite, got nan"),
        (([BOX], [0.5, 0.4], [0], [BOX], [0]), r"`boxes` must be \(M, 6\), with M classes and M scores, got"),
        (([BOX[:4]], [0.5], [0], [BOX], [0]), r"`boxes` must be \(M, 6\)"),
    ],
)
def test_cases_that_are_none(case: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        match_boxes(*case)
