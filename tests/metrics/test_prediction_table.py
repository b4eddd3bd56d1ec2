from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from monai_ssl.metrics import prediction_table as module
from monai_ssl.metrics.prediction_table import (
    cumulate,
    divide,
    draw_cases,
    prediction_table,
    selection_weights,
)


def test_predictions_fall_and_equal_scores_end_together() -> None:
    scores = np.array([0.3, 0.9, 0.5, 0.9, 0.5])
    table = prediction_table(scores, np.arange(5), np.array([[True, False, False, True, True]]), np.ones(5, dtype=int))
    assert scores[table.cases].tolist() == [0.9, 0.9, 0.5, 0.5, 0.3]
    assert table.ends.tolist() == [1, 3, 4]
    hits, falses = cumulate(table, table.hits[0], np.array([[1, 1, 1, 1, 1], [0, 2, 0, 0, 3]]))
    assert hits.tolist() == [[1, 2, 3], [0, 3, 3]]
    assert falses.tolist() == [[1, 2, 2], [2, 2, 2]]


def test_no_prediction() -> None:
    table = prediction_table(np.zeros(0), np.zeros(0, dtype=int), np.zeros((1, 0), dtype=bool), np.array([2, 0]))
    hits, falses = cumulate(table, table.hits[0], np.ones((3, 2), dtype=int))
    assert hits.shape == falses.shape == (3, 0)


def test_weights_count_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CELLS", 22)
    index = np.random.default_rng(0).integers(5, size=(9, 7))
    portions = list(selection_weights(index, 5, 11))
    assert [len(portion) for portion in portions] == [2, 2, 2, 2, 1]
    for row, weights in zip(index, np.concatenate(portions), strict=True):
        assert Counter(row.tolist()) == {case: count for case, count in enumerate(weights) if count}


def test_all_cases_and_a_single_selection() -> None:
    assert next(selection_weights(None, 3, 4)).tolist() == [[1, 1, 1]]
    assert next(selection_weights([2, 2], 3, 4)).tolist() == [[0, 0, 2]]
    assert next(selection_weights([[2, -1, 2], [-1, -1, 0]], 3, 4)).tolist() == [[0, 0, 2], [1, 0, 0]]


def test_patients_are_drawn_whole() -> None:
    draws = draw_cases(["a", "b", "a", "c", "a"], 500, seed=0)
    weights = np.concatenate(list(selection_weights(draws, 5, 4)))
    assert (weights[:, [0, 2, 4]] == weights[:, [0]]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert {*weights.sum(axis=1)} == {3, 5, 7, 9}
    np.testing.assert_allclose(weights[:, [0, 1, 3]].mean(axis=0), 1, atol=0.1)


def test_where_each_patient_has_one_case_the_draws_are_of_cases() -> None:
    assert np.array_equal(draw_cases("abcd", 9, seed=3), np.random.default_rng(3).integers(4, size=(9, 4)))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0, 3], r"`index` must be in \[-1, 2\], got 0 to 3"),
        ([-2], r"`index` must be in \[-1, 2\], got -2 to -2"),
        ([0.5], r"`index` must hold whole numbers, \(R, n\) or \(n,\), got float64 \(1, 1\)"),
        (np.zeros((2, 0), dtype=int), r"`index` must hold whole numbers"),
        (np.zeros((1, 1, 1), dtype=int), r"`index` must hold whole numbers"),
    ],
)
def test_messages(index: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next(selection_weights(index, 3, 4))  # type: ignore[arg-type]


def test_quotient_by_zero_is_not_a_number() -> None:
    assert np.array_equal(divide([[1.0, 2.0]], [[2.0], [0.0]]), [[0.5, 1.0], [np.nan, np.nan]], equal_nan=True)
