from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou

from monai_ssl.metrics.box_matching import MatchedBoxes, detection_record, match_boxes
from monai_ssl.metrics.detection import average_precision_of, summarise_detections
from monai_ssl.metrics.free_response import cpm_of
from monai_ssl.utils.errors import UserError

NAMES = ["nodule", "node"]
Case = tuple[Any, ...]


def random_boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    lower = generator.uniform(0, 14, (count, 3))
    return np.concatenate([lower, lower + generator.uniform(3, 10, (count, 3))], axis=1)


def random_cases(seed: int, count: int = 8, most: int = 4) -> list[Case]:
    """Boxes of two classes; half of the predictions lie near true ones."""
    generator = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        true = random_boxes(generator, int(generator.integers(most)))
        true_labels = generator.integers(2, size=len(true))
        near = true + generator.normal(0, 0.7, true.shape)
        boxes = np.concatenate([near, random_boxes(generator, int(generator.integers(6)))])
        labels = np.concatenate([true_labels, generator.integers(2, size=len(boxes) - len(near))])
        cases.append((boxes, generator.random(len(boxes)), labels, true, true_labels))
    return cases


def matched(cases: list[Case]) -> list[MatchedBoxes]:
    return [match_boxes(*case, classes=2) for case in cases]


def summary_of(cases: list[MatchedBoxes], **change: Any) -> dict[str, Any]:
    names = change.pop("class_names", NAMES)
    records = [detection_record(f"/data/case_{place}.nii.gz", case, names) for place, case in enumerate(cases)]
    given = {"part": "test", "weights": "/runs/a/model.pt", "list_name": "/data/dataset.json", **change}
    return summarise_detections(records, cases, class_names=names, **given)


def coco_figures(cases: list[Case]) -> list[float]:
    metric = COCOMetric(NAMES, iou_list=(0.1,), max_detection=(100,), verbose=False)
    boxes, scores, labels, true_boxes, true_labels = (list(part) for part in zip(*cases, strict=True))
    matches = matching_batch(
        lambda *given: np.asarray(box_iou(*given)),
        metric.get_iou_thresholds(),
        boxes,
        labels,
        scores,
        true_boxes,
        true_labels,
    )
    figures, _ = metric(matches)
    return [figures[f"{name}_mAP_IoU_0.10_0.50_0.05_MaxDet_100"] for name in NAMES]


def test_agrees_with_monai() -> None:
    middling = 0
    for seed in range(12):
        cases = random_cases(seed, count=8)
        ours = [average_precision_of(matched(cases), label) for label in range(2)]
        assert ours == pytest.approx(coco_figures(cases), abs=1e-9)
        middling += 0.1 < ours[0] < 0.9
    assert middling > 6


def test_agrees_with_a_slow_precision() -> None:
    cases = matched(random_cases(30))
    expected = []
    for row in range(1, 10):
        scored = [(s, h) for case in cases for s, h in zip(case.scores, case.hits[row], strict=True)]
        scored = [pair for pair, own in zip(scored, np.concatenate([c.labels for c in cases]) == 0, strict=True) if own]
        boxes = sum(int((case.true_labels == 0).sum()) for case in cases)
        points = []
        for least in {score for score, _ in scored}:
            hits = [hit for score, hit in scored if score >= least]
            points.append((sum(hits) / boxes, sum(hits) / len(hits)))
        recalls = [step / 100 for step in range(101)]
        expected.append(np.mean([max((p for r, p in points if r >= recall), default=0.0) for recall in recalls]))
    # a recall that is met exactly is a matter of rounding, and counts for 1/101
    assert average_precision_of(cases) == pytest.approx(np.mean(expected), abs=0.01)


def test_precision_of_selections() -> None:
    cases = matched(random_cases(7))
    index = np.random.default_rng(0).integers(len(cases), size=(15, 5))
    for label in range(2):
        found = average_precision_of(cases, label, index)
        expected = [average_precision_of([cases[place] for place in row], label) for row in index]
        assert found == pytest.approx(expected, nan_ok=True)
        assert average_precision_of(cases, label, index[3]) == pytest.approx(expected[3], nan_ok=True)


def test_precision_at_the_limits() -> None:
    box = [[0.0, 0.0, 0.0, 4.0, 4.0, 4.0]]
    sick = match_boxes(box, [0.5], [0], box, [0])
    silent = match_boxes([], [], [], box, [0])
    noisy = match_boxes(box, [0.9], [0], [], [])
    assert average_precision_of([sick, sick]) == 1.0
    assert average_precision_of([silent]) == 0.0
    assert average_precision_of([sick, noisy]) == 0.5
    assert average_precision_of([sick, silent]) == pytest.approx(51 / 101)  # recalls 0, 0.01, .., 0.5
    assert np.isnan(average_precision_of([noisy]))
    assert np.isnan(average_precision_of([match_boxes([], [], [], [], [])]))
    found = average_precision_of([sick, noisy], 0, [[0, 0], [1, 1]])
    assert np.array_equal(found, [1.0, np.nan], equal_nan=True)


def test_equal_scores_enter_together() -> None:
    box, far = [[0.0, 0.0, 0.0, 4.0, 4.0, 4.0]], [[9.0, 9.0, 9.0, 12.0, 12.0, 12.0]]
    sick, noisy = match_boxes(box, [0.5], [0], box, [0]), match_boxes(far, [0.5], [0], [], [])
    assert average_precision_of([sick, noisy]) == average_precision_of([noisy, sick]) == 0.5


def test_summary() -> None:
    cases = matched(random_cases(11, count=20))
    summary = summary_of(cases, resamples=300, seed=5)
    json.dumps(summary, allow_nan=False)
    assert (summary["part"], summary["weights"], summary["list"]) == ("test", "model.pt", "dataset.json")
    rates = ["0.125", "0.25", "0.5", "1", "2", "4", "8"]
    assert list(summary["mean"]) == ["cpm", *(f"sensitivity_{rate}" for rate in rates), "map"]
    assert summary["mean"]["cpm"] == pytest.approx(np.mean([summary["mean"][f"sensitivity_{r}"] for r in rates]))
    assert summary["mean"]["cpm"] == cpm_of(summary["cases"])
    by_class = [summary["classes"][name]["map"] for name in NAMES]
    assert by_class == [average_precision_of(cases, label) for label in range(2)]
    assert summary["mean"]["map"] == pytest.approx(np.mean(by_class))
    counts = summary["counts"]
    assert counts["cases"] == 20
    assert counts["boxes"] == sum(len(case.true_boxes) for case in cases)
    assert counts["with_boxes"] == sum(len(case.true_boxes) > 0 for case in cases)
    assert counts["found"] == sum(int((case.found_by >= 0).sum()) for case in cases)
    assert counts["found"] + counts["false_positives"] == sum(len(case.scores) for case in cases)
    assert summary["classes"]["node"]["cpm"] == cpm_of(summary["cases"], class_name="node")
    assert [case["image"] for case in summary["cases"]][:2] == ["case_0.nii.gz", "case_1.nii.gz"]
    assert summary["notes"] == [
        "0.125 false positives a scan are 2.5 boxes in 20 scans: "
        "sensitivities at the lowest rates move with single boxes."
    ]


def test_intervals_are_percentiles_over_cases() -> None:
    cases = matched(random_cases(12, count=10))
    summary = summary_of(cases, resamples=200, seed=3)
    records = summary["cases"]
    draws = np.random.default_rng(3).integers(10, size=(200, 10))
    slow = [cpm_of([records[place] for place in row]) for row in draws]
    assert summary["intervals"]["cpm"] == pytest.approx(np.nanpercentile(slow, (2.5, 97.5)))
    low, high = summary["intervals"]["map"]
    assert low < summary["mean"]["map"] < high
    assert summary["classes"]["nodule"]["intervals"].keys() == summary["mean"].keys()
    assert summary == summary_of(cases, resamples=200, seed=3)
    assert summary["intervals"] != summary_of(cases, resamples=200, seed=4)["intervals"]
    assert summary["mean"] == summary_of(cases, resamples=200, seed=4)["mean"]


def test_no_box_anywhere() -> None:
    noisy = match_boxes([[0, 0, 0, 4, 4, 4]], [0.5], [0], np.full((2, 6), np.nan), [-1, -1])
    summary = summary_of([noisy, noisy], class_names=["nodule"])
    assert set(summary["mean"].values()) == {None}
    assert set(summary["intervals"].values()) == {None}
    assert summary["counts"] == {"cases": 2, "with_boxes": 0, "boxes": 0, "found": 0, "false_positives": 2}
    assert "No case has a box: sensitivities and precision are undefined" in summary["notes"][0]
    json.dumps(summary, allow_nan=False)


def test_nothing_predicted_is_zero() -> None:
    silent = match_boxes([], [], [], [[0, 0, 0, 4, 4, 4]], [0])
    summary = summary_of([silent, silent], class_names=["nodule"], resamples=10)
    assert set(summary["mean"].values()) == {0.0}
    assert summary["intervals"]["cpm"] == [0.0, 0.0]


def test_a_class_without_a_box_is_in_no_mean() -> None:
    box = [[0.0, 0.0, 0.0, 4.0, 4.0, 4.0]]
    sick = match_boxes(box, [0.5], [0], box, [0], classes=2)
    summary = summary_of([sick, sick], resamples=10)
    assert summary["mean"]["map"] == 1.0
    assert summary["classes"]["node"]["map"] is None
    assert summary["classes"]["node"]["cpm"] is None


@pytest.mark.parametrize(("count", "resamples"), [(1, 100), (3, 0)])
def test_intervals_may_be_left_out(count: int, resamples: int) -> None:
    summary = summary_of(matched(random_cases(13, count=count + 5)[:count]), resamples=resamples)
    assert set(summary["intervals"].values()) == {None}
    assert summary["resamples"] == 0


def test_no_case() -> None:
    with pytest.raises(UserError, match=r"`records` must hold at least one scored case of part 'test', got none"):
        summary_of([])


def test_cases_of_a_patient_are_drawn_together_and_without_a_name() -> None:
    cases = matched(random_cases(5, count=12))
    records = [detection_record(f"{place}.nii.gz", case, NAMES) for place, case in enumerate(cases)]
    given: dict[str, Any] = {"part": "test", "weights": "model.pt", "list_name": "list.json", "class_names": NAMES}
    alone = summarise_detections([{**one, "patient": f"p{place}"} for place, one in enumerate(records)], cases, **given)
    assert alone == summarise_detections(records, cases, **given)
    owned = [{**one, "patient": f"Doe {place % 12}"} for place, one in enumerate(records * 2)]
    twice = summarise_detections(owned, cases * 2, **given)
    assert twice["intervals"] == alone["intervals"]  # a scan that is there twice tells nothing more
    apart = summarise_detections(records * 2, cases * 2, **given)["intervals"]["cpm"]
    assert apart[1] - apart[0] < 0.85 * (alone["intervals"]["cpm"][1] - alone["intervals"]["cpm"][0])
    assert [one["patient"] for one in twice["cases"]] == [*range(12)] * 2
    assert "Doe" not in json.dumps(twice)
    assert "The 24 cases are of 12 patients, and intervals are of draws of whole patients." in twice["notes"]
    mixed = [owned[0], owned[12], *records[2:]]
    assert [one["patient"] for one in summarise_detections(mixed, cases, **given)["cases"]] == [0, 0, *range(1, 11)]


def test_one_patient_gives_no_interval() -> None:
    cases = matched(random_cases(5, count=3))
    records = [{**detection_record("a.nii.gz", case, NAMES), "patient": "a"} for case in cases]
    summary = summarise_detections(records, cases, part="test", weights="m.pt", list_name="l", class_names=NAMES)
    assert summary["resamples"] == 0
    assert summary["intervals"]["cpm"] is None
    assert "The 3 cases are of one patient, which gives no interval." in summary["notes"]
