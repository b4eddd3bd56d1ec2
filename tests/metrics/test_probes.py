from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from monai_ssl.metrics.fold_scores import grouped_folds
from monai_ssl.metrics.probes import intensity_statistics, linear_probe, neighbour_probe, probe_scores

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def fresh():
    """Every test draws the same, whichever ran before."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def data(cases=40, length=6, shift=1.0, classes=2):
    labels = np.arange(cases) % classes
    features = RNG.normal(size=(cases, length))
    features[:, 0] += shift * labels
    return features, labels, [str(number) for number in range(cases)]


def mean_scores(features, labels, groups, repeats=1):
    scores = probe_scores(features, labels, groups, grouped_folds(labels, groups, 4, repeats))
    assert all(len(values) == 4 * repeats for by in scores.values() for values in by.values())
    return {probe: {name: np.mean(values) for name, values in by.items()} for probe, by in scores.items()}


@pytest.mark.parametrize("classes", [2, 3])
def test_a_class_that_is_there_is_found_and_labels_without_meaning_are_not(classes):
    features, labels, groups = data(60, 2, 0.0, classes)
    features += 8 * np.stack([np.cos(labels), np.sin(labels)], axis=1)
    found = mean_scores(features, labels, groups)
    assert all(value > 0.9 for by in found.values() for value in by.values()), found
    features, labels, groups = data(60, 2, 0.0, classes)
    chance = mean_scores(features, labels, groups)
    for by in chance.values():
        assert abs(by["roc_auc"] - 0.5) < 0.2
        assert abs(by["balanced_accuracy"] - 1 / classes) < 0.2


def test_cases_of_a_patient_do_not_answer_for_each_other():
    # pairs of equal scans with labels by chance: only who sees the twin in training can know
    labels = np.repeat(RNG.permutation(np.arange(30) % 2), 2)
    features = np.repeat(RNG.normal(size=(30, 20)), 2, axis=0)
    alone = [str(number) for number in range(60)]
    patients = [str(number // 2) for number in range(60)]
    areas = []
    for groups in (alone, patients):
        scores = probe_scores(features, labels, groups, grouped_folds(labels, groups, 4, 1), neighbours=1)
        areas.append(np.mean(scores["nearest_neighbours"]["roc_auc"]))
    assert areas[0] > 0.75
    assert areas[1] < 0.65


def test_neither_probe_looks_at_the_scale_or_origin_of_a_feature():
    features, labels, _ = data()
    changed = features * [1e3, 1e-3, 1, 1, 5, 1] + [0, 7, -1e3, 0, 0, 0]
    groups = np.arange(40)
    for probe in (
        lambda table: linear_probe(table[:30], labels[:30], groups[:30], table[30:]),
        lambda table: neighbour_probe(table[:30], labels[:30], table[30:]),
    ):
        assert np.allclose(probe(features), probe(changed), atol=1e-3)
        assert np.allclose(probe(features).sum(1), 1)


def test_neighbours_vote_by_a_slow_count():
    features, labels, _ = data(21, 3)
    labels = (np.arange(21) % 3 == 0).astype(int)  # 7 of 21
    train, test = slice(0, 15), slice(15, 21)
    answers = neighbour_probe(features[train], labels[train], features[test], neighbours=3)
    scaled = (features - features[train].mean(0)) / features[train].std(0)
    for row, answer in zip(scaled[test], answers, strict=True):
        cosine = [row @ other / np.linalg.norm(row) / np.linalg.norm(other) for other in scaled[train]]
        votes = np.bincount(labels[train][np.argsort(cosine)[-3:]], minlength=2) / np.bincount(labels[train])
        assert np.allclose(answer, votes / votes.sum())


def test_a_rare_class_is_not_voted_down():
    labels = np.array([0] * 30 + [1] * 6)
    features = RNG.normal(size=(36, 4))
    answers = linear_probe(features, labels, np.arange(36), features)
    assert abs(answers[:, 1].mean() - 0.5) < 0.1  # classes weigh the same, so that noise is answered by 1/2
    assert neighbour_probe(features, labels, features, neighbours=100)[:, 1] == pytest.approx(0.5)


def test_a_class_of_one_patient_in_training_has_no_inner_folds():
    features, labels, _ = data(10, 2, 5.0)
    answers = linear_probe(features, labels, np.where(labels == 1, 99, np.arange(10)), features)
    assert np.mean(answers.argmax(1) == labels) > 0.8


def test_statistics_by_their_definitions():
    images = RNG.gamma(2.0, size=(2, 3, 5, 6, 7))
    found = intensity_statistics(images).reshape(2, 3, 13)
    values = images[1, 2].ravel()
    wanted = [values.mean(), values.std(), stats.skew(values), stats.kurtosis(values), values.min(), values.max()]
    assert np.allclose(found[1, 2], [*wanted, *np.percentile(values, [1, 5, 25, 50, 75, 95, 99])])
    shuffled = RNG.permuted(images.reshape(2, 3, -1), axis=-1).reshape(images.shape)
    assert np.allclose(found, intensity_statistics(shuffled).reshape(2, 3, 13))
    assert np.isfinite(intensity_statistics(np.ones((1, 1, 4, 4)))).all()
