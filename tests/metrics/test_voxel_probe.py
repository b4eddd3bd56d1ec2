from __future__ import annotations

import numpy as np
import pytest

from monai_ssl.metrics.voxel_probe import fit_voxel_probe
from monai_ssl.utils.errors import UserError


def voxels(classes=3, each=60, cases=4, shift=4.0, seed=0):
    """A sample with as many voxels of each class, and features of which the first ones tell the class."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(classes), each)
    features = rng.normal(size=(len(labels), 5))
    for label in range(1, classes):
        features[labels == label, label - 1] += shift
    return features, labels, np.arange(len(labels)) % cases


def answers(probe, features):
    return (features @ probe.weight.T + probe.bias).argmax(axis=1)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("cases", [1, 4])
def test_what_can_be_told_apart_is_told_apart_in_features_as_they_are(classes, cases):
    features, labels, numbers = voxels(classes, cases=cases)
    counts = np.ones(len(labels))
    probe = fit_voxel_probe(features * 100 - 40, labels, counts, numbers, classes)
    assert probe.weight.shape == (classes, 5)
    fresh, truth, _ = voxels(classes, cases=cases, seed=1)
    assert np.mean(answers(probe, fresh * 100 - 40) == truth) > 0.9


def dice(predicted, labels, counts):
    hit = counts[(predicted == 1) & (labels == 1)].sum()
    return 2 * hit / (counts[predicted == 1].sum() + counts[labels == 1].sum())


def test_the_threshold_is_that_of_the_best_dice_with_the_background_as_large_as_it_is():
    features, labels, numbers = voxels(2, each=600, shift=2.0)
    fresh, truth, _ = voxels(2, each=600, shift=2.0, seed=1)
    rare, even = (np.where(labels == 0, weight, 1.0) for weight in (50.0, 1.0))
    weighed = np.where(truth == 0, 50.0, 1.0)
    careful = answers(fit_voxel_probe(features, labels, rare, numbers, 2), fresh)
    careless = answers(fit_voxel_probe(features, labels, even, numbers, 2), fresh)
    assert careful.sum() < careless.sum()
    assert dice(careful, truth, weighed) > dice(careless, truth, weighed) + 0.1
    best = max(dice(fresh[:, 0] > threshold, truth, weighed) for threshold in np.linspace(-1, 5, 100))
    assert dice(careful, truth, weighed) > best - 0.05


def test_a_class_without_a_voxel_is_never_predicted():
    features, labels, numbers = voxels(2)
    probe = fit_voxel_probe(features, 2 * labels, np.ones(len(labels)), numbers, 4)
    assert set(answers(probe, features)) == {0, 2}


def test_a_constant_feature_has_no_weight():
    features, labels, numbers = voxels(2)
    features[:, 4] = 7.0
    probe = fit_voxel_probe(features, labels, np.ones(len(labels)), numbers, 2)
    assert np.allclose(probe.weight[:, 4], 0)
    assert np.isfinite(probe.bias).all()


def test_one_class_alone_is_refused():
    with pytest.raises(UserError, match="hold the class 0 alone"):
        fit_voxel_probe(np.zeros((5, 2)), np.zeros(5, dtype=int), np.ones(5), np.arange(5), 2)
