from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from monai_ssl.study.labels_saved import labels_saved

BUDGETS = (1, 2, 4, 8, 16)
ERRORS = (0.25, 0.2, 0.15, 0.12, 0.1)
Curve = dict[int, np.ndarray]


def curves(
    worth: float, *, noise: float = 0.004, seeds: int = 5, cases: int = 30, seed: int = 0
) -> tuple[Curve, Curve]:
    """A baseline, and a method for which each label counts ``worth`` times."""
    rng = np.random.default_rng(seed)
    shared = 0.03 * rng.normal(size=(1, cases)) + 0.01 * rng.normal(size=(seeds, 1))
    baseline, method = {}, {}
    for budget, error in zip(BUDGETS, ERRORS, strict=True):
        better = np.interp(math.log(budget * worth), np.log(BUDGETS), ERRORS)
        baseline[budget], method[budget] = (
            1 - e + shared + noise * rng.normal(size=(seeds, cases)) for e in (error, better)
        )
    return baseline, method


def test_known_saving_is_found() -> None:
    for point in labels_saved(*curves(1.5)):
        assert point.low < point.labels * 1.5 < point.high
        assert point.claimed
        assert point.equivalent == pytest.approx(point.labels * 1.5, rel=0.1)
        assert point.saved == pytest.approx(point.equivalent - point.labels)


def test_without_noise_the_interpolation_is_exact() -> None:
    baseline, method = (
        {k: np.full((2, 3), v) for k, v in zip(BUDGETS, e, strict=True)}
        for e in (
            (0.75, 0.8, 0.85, 0.88, 0.9),
            (0.775, 0.85, 0.87, 0.9, 0.95),
        )
    )
    points = labels_saved(baseline, method, at=BUDGETS, draws=100)
    expected = [math.sqrt(2), 4.0, 4 * 2 ** (2 / 3), 16.0, 16.0]
    assert [point.equivalent for point in points] == pytest.approx(expected)
    assert [point.side for point in points] == ["", "", "", "", "at least "]
    assert [point.low for point in points] == pytest.approx(expected)


def test_a_method_against_itself_saves_nothing() -> None:
    baseline, _ = curves(1.0, noise=0.03)
    for point in labels_saved(baseline, baseline):
        assert point.labels == pytest.approx(point.equivalent)
        assert not point.claimed
        assert (point.low, point.high) == pytest.approx((point.labels, point.labels))


def test_outside_the_measured_budgets_nothing_is_extrapolated() -> None:
    baseline, method = curves(1.0)
    better, worse = ({k: v + shift for k, v in method.items()} for shift in (0.3, -0.3))
    for point in labels_saved(baseline, better):
        assert (point.side, point.equivalent, point.high) == ("at least ", 16.0, 16.0)
        assert "the work of at least 16.0" in str(point)
        assert "16.0 or more; 5 seeds, 30 cases): labels saved" in str(point)
    for point in labels_saved(baseline, worse):
        assert (point.side, point.equivalent, point.low) == ("at most ", 1.0, 1.0)
        assert "1.0 or fewer to " in str(point)
        assert not point.claimed


def test_invariances() -> None:
    baseline, method = curves(1.3, noise=0.02)
    found = labels_saved(baseline, method)
    rng = np.random.default_rng(0)
    seeds, cases = rng.permutation(5), rng.permutation(30)
    moved = [{k: 0.5 * v[seeds][:, cases] + 0.2 for k, v in curve.items()} for curve in (baseline, method)]
    for one, other in zip(found, labels_saved(*moved), strict=True):
        assert (one.equivalent, one.low, one.high) == pytest.approx((other.equivalent, other.low, other.high))
    assert labels_saved(baseline, method) == found


def test_a_claim_needs_more_than_one_interval() -> None:
    baseline, method = curves(1.3, noise=0.03)
    for point in labels_saved(baseline, method):
        (alone,) = labels_saved(baseline, method, at=[point.labels])
        assert (alone.low, alone.high) == (point.low, point.high)
        assert point.low_together <= alone.low_together == alone.low


def test_words_tell_a_find_at_one_budget_from_a_claim() -> None:
    point = labels_saved(*curves(1.5))[1]
    assert str(point).startswith("2 labels do the work of ")
    assert str(point).endswith("; 5 seeds, 30 cases): labels saved")
    alone = dataclasses.replace(point, low_together=1.9)
    assert str(alone).endswith("shown at this budget alone, not with the whole curve in view")
    assert str(dataclasses.replace(alone, low=1.8)).endswith("no saving shown")


def test_the_ceiling_may_be_one_run_and_the_method_may_lack_budgets() -> None:
    baseline, method = curves(1.5)
    baseline[208] = baseline[16][:1] + 0.02
    points = labels_saved(baseline, {2: method[2], 4: method[4]})
    assert [point.labels for point in points] == [2, 4]
    assert points[0].measured == (1.0, 208.0)
    assert points[0].seeds == 5
    for point in points:
        assert point.low < point.labels * 1.5 < point.high


def test_one_seed_is_told() -> None:
    baseline, method = ({k: v[:1] for k, v in curve.items()} for curve in curves(1.5))
    assert "; 1 seed, so other seeds are left out, 30 cases)" in str(labels_saved(baseline, method)[0])


def test_equal_methods_are_rarely_said_to_save() -> None:
    # measured at well below 5 %; 150 studies
    claims = 0
    for seed in range(150):
        points = labels_saved(*curves(1.0, noise=0.02, seeds=3, seed=seed), draws=400)
        claims += any(point.claimed for point in points)
    assert claims / 150 <= 0.06


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": {2: np.zeros((5, 30))}}, "`baseline` must have two budgets at least"),
        ({"at": [3]}, r"`at` must name budgets of `method`, \[1.0, .*1 to 16, got \[3\]"),
        ({"at": []}, r"`at` must name budgets .* got \[\]"),
        ({"method": {32: np.zeros((5, 30))}, "at": [32]}, r"within those of `baseline`, 1 to 16, got \[32\]"),
        ({"method": {2: np.zeros((4, 30))}}, r"same seeds and cases at every budget, or one seed, got shapes"),
        ({"method": {2: np.zeros((5, 29))}}, r"same seeds and cases at every budget"),
        ({"draws": 99}, "`draws` must be at least 100, got 99"),
        ({"level": 95}, r"`level` must be in \(0, 1\), got 95"),
    ],
)
def test_refusals(change: dict, message: str) -> None:
    baseline, method = curves(1.0)
    with pytest.raises(ValueError, match=message):
        labels_saved(**{"baseline": baseline, "method": method, **change})
