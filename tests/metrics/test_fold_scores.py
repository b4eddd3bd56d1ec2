from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from monai_ssl.metrics.fold_scores import case_interval, class_scores, fold_interval, grouped_folds
from monai_ssl.utils.errors import UserError


def test_every_case_is_tested_once_a_repeat_and_no_patient_is_on_both_sides():
    labels = np.array([0] * 12 + [1] * 18)
    groups = [f"p{number // 2}" for number in range(30)]
    folds = grouped_folds(labels, groups, folds=3, repeats=4, seed=1)
    assert len(folds) == 12
    for repeat in range(4):
        tested = np.concatenate([test for _, test in folds[3 * repeat : 3 * repeat + 3]])
        assert sorted(tested) == list(range(30))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(30))
        assert not {groups[i] for i in train} & {groups[i] for i in test}
        assert set(labels[train]) == set(labels[test]) == {0, 1}
    assert len({tuple(test) for _, test in folds}) > 3, "the cases must be dealt anew"
    again = grouped_folds(labels, groups, folds=3, repeats=4, seed=1)
    assert all(np.array_equal(one[1], other[1]) for one, other in zip(folds, again, strict=True))


@pytest.mark.parametrize(
    ("labels", "groups", "folds", "message"),
    [
        ([1, 1, 1], "abc", 2, r"two classes at least, got the classes \[1\]"),
        ([0, 0, 0, 1, 1], "abcdd", 2, "class 1 has cases of 1 patients, and 2 folds need 2"),
        ([0, 1, 0, 1], "aabb", 1, "folds must be 2 or more and repeats 1 or more, got 1 and 1"),
        ([0, 0, 0, 1, 1, 1, 2, 2, 2], "abcabdabc", 3, "3 folds leave a class out"),
    ],
)
def test_what_cannot_be_dealt_is_said(labels, groups, folds, message):
    with pytest.raises(UserError, match=message):
        grouped_folds(labels, groups, folds, 1)


def slow_area(scores, positive):
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_by_their_definitions(classes):
    rng = np.random.default_rng(classes)
    labels = np.arange(30) % classes
    probabilities = rng.dirichlet(np.ones(classes), 30).round(1)  # with ties
    scores = class_scores(probabilities, labels)
    recalls = [(probabilities.argmax(1) == k)[labels == k].mean() for k in range(classes)]
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert scores["roc_auc"] == pytest.approx(
        np.mean([slow_area(probabilities[:, k], labels == k) for k in range(classes)])
    )


def test_perfect_and_useless_answers():
    labels = np.array([0, 1, 1, 0])
    assert class_scores(np.eye(2)[labels], labels) == {"balanced_accuracy": 1.0, "roc_auc": 1.0}
    assert class_scores(np.full((4, 2), 0.5), labels) == {"balanced_accuracy": 0.5, "roc_auc": 0.5}


def test_intervals_by_their_definitions():
    scores = np.array([0.5, 0.7, 0.6, 0.9])
    cases = case_interval(scores)
    low, high = stats.t.interval(0.95, 3, scores.mean(), stats.sem(scores))
    assert (cases.mean, cases.low, cases.high) == pytest.approx((0.675, low, high))
    folds = fold_interval(scores, folds=2)
    wider = math.sqrt((1 / 4 + 1) / (1 / 4))
    assert folds.high - folds.mean == pytest.approx(wider * (cases.high - cases.mean))
    assert folds.as_dict() == {"mean": folds.mean, "low": folds.low, "high": folds.high}
    with pytest.raises(ValueError, match="two scores or more"):
        case_interval([0.5])


def test_dealing_again_and_again_does_not_shrink_the_interval_to_nothing():
    scores = np.random.default_rng(0).normal(0.7, 0.1, 1000)
    assert fold_interval(scores, 5).high - fold_interval(scores, 5).low > 0.19
    assert case_interval(scores).high - case_interval(scores).low < 0.02
