from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from monai.metrics.froc import compute_froc_curve_data, compute_froc_score

from monai_ssl.metrics import prediction_table
from monai_ssl.metrics.free_response import (
    FALSE_POSITIVE_RATES,
    cpm_of,
    free_response_curve,
    operating_score,
    sensitivities_of,
)


def record(boxes: int, hits: Any = (), falses: Any = (), name: str = "nodule") -> dict[str, Any]:
    entry = {"boxes": boxes, "hit_scores": list(hits), "false_scores": list(falses)}
    return {"image": "a.nii.gz", "boxes": boxes, "classes": {name: entry}}


def random_cases(seed: int, count: int = 12, ties: bool = False, falses: int = 20) -> list[dict[str, Any]]:
    """Cases of two classes, some without a box, some without a prediction."""
    generator = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        classes = {}
        for name in ("nodule", "node"):
            boxes = int(generator.integers(4))
            amounts = (generator.integers(boxes + 1), generator.integers(falses) * generator.integers(2))
            scores = [generator.random(amount) for amount in amounts]
            if ties:
                scores = [np.ceil(4 * part) / 4 for part in scores]
            hits, alarms = (part.tolist() for part in scores)
            classes[name] = {"boxes": boxes, "hit_scores": hits, "false_scores": alarms}
        cases.append({"image": "", "boxes": sum(entry["boxes"] for entry in classes.values()), "classes": classes})
    return cases


def slow_curve(cases: list[dict[str, Any]], name: str | None) -> list[tuple[float, float]]:
    entries = [entry for case in cases for each, entry in case["classes"].items() if name in (None, each)]
    boxes = sum(entry["boxes"] for entry in entries)
    hits = [score for entry in entries for score in entry["hit_scores"]]
    falses = [score for entry in entries for score in entry["false_scores"]]
    points = [(0.0, 0.0)]
    for threshold in sorted({*hits, *falses}, reverse=True):
        alarms = sum(score >= threshold for score in falses) / len(cases)
        points.append((alarms, sum(score >= threshold for score in hits) / boxes))
    return points


def slow_sensitivity(points: list[tuple[float, float]], rate: float) -> float:
    """The highest point at this rate, else the line between its neighbours, else the level of the last point."""
    low = max(point for point in points if point[0] <= rate)
    above = [point for point in points if point[0] > rate]
    if not above:
        return low[1]
    high = min(above)
    return low[1] + (rate - low[0]) / (high[0] - low[0]) * (high[1] - low[1])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", [None, "nodule"])
def test_agrees_with_a_slow_curve(ties: bool, name: str | None) -> None:
    rates = (0.0, 0.01, 0.1, *FALSE_POSITIVE_RATES, 100.0)
    for seed in range(15):
        cases = random_cases(seed, ties=ties)
        points = slow_curve(cases, name)
        found = np.stack(free_response_curve(cases, name), axis=1)
        assert np.allclose(found, points)
        expected = [slow_sensitivity(points, rate) for rate in rates]
        assert sensitivities_of(cases, rates=rates, class_name=name) == pytest.approx(expected)


@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_monai(ties: bool) -> None:
    for seed in range(15):
        cases = random_cases(seed, ties=ties)
        entries = [entry for case in cases for entry in case["classes"].values()]
        hits, falses = (np.array([s for e in entries for s in e[key]]) for key in ("hit_scores", "false_scores"))
        boxes = sum(case["boxes"] for case in cases)
        # MONAI drops the lowest score, which is meant for boxes that were not found
        rates, sensitivities = compute_froc_curve_data(falses, np.append(hits, -np.inf), boxes, len(cases))
        ours = free_response_curve(cases)
        assert np.allclose(ours[0], rates[::-1])
        assert np.allclose(ours[1], sensitivities[::-1])
        assert cpm_of(cases) == pytest.approx(compute_froc_score(rates, sensitivities, FALSE_POSITIVE_RATES))


def test_limits() -> None:
    assert cpm_of([record(2, [0.9, 0.8]), record(1, [0.7])]) == 1.0
    assert cpm_of([record(2, [0.9, 0.8], [0.1] * 50), record(1, [0.7])]) == 1.0
    assert cpm_of([record(2), record(1)]) == 0.0
    assert cpm_of([record(2, [], [0.9] * 30), record(1)]) == 0.0
    # behind nine surer false positives in one scan, a hit comes too late for every rate
    assert cpm_of([record(1, [0.1], [0.9] * 9)]) == 0.0


def test_a_rate_that_is_not_reached_has_the_last_sensitivity() -> None:
    cases = [record(2, [0.9], [0.8]), record(2, [0.3])]
    assert free_response_curve(cases)[0][-1] == 0.5
    assert sensitivities_of(cases).tolist() == pytest.approx([0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5])
    assert sensitivities_of(cases, rates=(0.0,)).tolist() == [0.25]


def test_scans_without_a_box_count_with_their_false_positives() -> None:
    sick = [record(1, [0.5])]
    healthy = [record(0, [], [0.9] * 8)]
    assert cpm_of(sick) == 1.0
    assert sensitivities_of(sick + healthy).tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert sensitivities_of(sick + healthy + [record(0)] * 30)[:3].tolist() == [0, 1, 1]


def test_no_box_at_all() -> None:
    cases = [record(0, [], [0.5, 0.4]), record(0)]
    assert np.isnan(cpm_of(cases))
    rates, sensitivities = free_response_curve(cases)
    assert rates.tolist() == [0.0, 0.5, 1.0]
    assert np.isnan(sensitivities).all()
    found = cpm_of([*cases, record(1, [0.9])], [[0, 1], [2, 0], [2, 2]])
    assert np.array_equal(found, [np.nan, 1.0, 1.0], equal_nan=True)


def test_a_tie_favours_neither_side() -> None:
    tied = [record(4, [0.5] * 4, [0.5] * 4)]
    hits_first = [record(4, [0.6] * 4, [0.5] * 4)]
    falses_first = [record(4, [0.4] * 4, [0.5] * 4)]
    rates = (0.0, 1.0, 2.0, 4.0)
    found = [sensitivities_of(cases, rates=rates).tolist() for cases in (falses_first, tied, hits_first)]
    assert found == [[0, 0, 0, 1], [0, 0.25, 0.5, 1], [1, 1, 1, 1]]
    both = [record(1, [0.5]), record(1, [], [0.5])]
    assert cpm_of(both) == cpm_of(both[::-1])


@pytest.mark.parametrize("cells", [10, 10**6])
def test_selections_are_lists_of_their_cases(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_table, "_CELLS", cells)
    cases = random_cases(3, ties=True)
    index = np.random.default_rng(0).integers(len(cases), size=(20, 7))
    found = cpm_of(cases, index)
    assert found.shape == (20,)
    for row, value in zip(index, found, strict=True):
        chosen = [cases[place] for place in row]
        assert value == pytest.approx(cpm_of(chosen), nan_ok=True)
        assert cpm_of(cases, row) == pytest.approx(cpm_of(chosen), nan_ok=True)
    filled = np.concatenate([np.full((20, 3), -1), index], axis=1)
    assert np.array_equal(cpm_of(cases, filled), found, equal_nan=True)
    by_class = sensitivities_of(cases, index, class_name="node")
    assert by_class[4] == pytest.approx(sensitivities_of([cases[place] for place in index[4]], class_name="node"))


def test_pairs_can_be_permuted() -> None:
    first, second = random_cases(5), random_cases(6)
    coins = np.random.default_rng(1).integers(2, size=(6, len(first)))
    found = cpm_of(first + second, np.arange(len(first)) + len(first) * coins)
    for row, value in zip(coins, found, strict=True):
        assert value == pytest.approx(cpm_of([(a, b)[coin] for a, b, coin in zip(first, second, row, strict=True)]))


def test_classes_that_are_pooled_share_the_false_positives() -> None:
    pooled = record(1, [0.5])
    pooled["classes"]["node"] = {"boxes": 1, "hit_scores": [], "false_scores": [0.9, 0.8]}
    assert cpm_of([pooled], class_name="nodule") == 1.0
    assert cpm_of([pooled], class_name="node") == 0.0
    assert sensitivities_of([pooled]).tolist() == [0, 0, 0, 0, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0, 8.0])
def test_operating_score_is_the_lowest_that_keeps_the_rate(rate: float, ties: bool) -> None:
    for seed in range(10):
        cases = random_cases(seed, ties=ties)
        entries = [entry for case in cases for entry in case["classes"].values()]
        falses = np.array([score for entry in entries for score in entry["false_scores"]])
        least = operating_score(cases, rate)
        assert np.sum(falses > least) <= rate * len(cases)
        assert np.isneginf(least) or np.sum(falses >= least) > rate * len(cases)
    assert operating_score([record(1, [0.2])], rate) == -np.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cpm_of([]), r"`cases` must hold at least one case, got none"),
        (lambda: cpm_of([record(1)], class_name="mass"), r"`class_name` must be one of nodule, got 'mass'"),
        (lambda: sensitivities_of([record(1)], rates=(1.0, -1.0)), r"`rates` must be .* >= 0, got \(1.0, -1.0\)"),
        (lambda: cpm_of([record(1)], [[0, 1]]), r"`index` must be in \[-1, 0\], got 0 to 1"),
    ],
)
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
