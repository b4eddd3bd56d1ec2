from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from monai_ssl.metrics.acquisition import STRATEGIES, box_uncertainty, choose_scans, farthest_first, scan_uncertainty
from monai_ssl.utils.errors import UserError


def test_the_farthest_scan_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    for labeled in (rng.normal(size=(3, 4)), np.empty((0, 4))):
        features = rng.normal(size=(9, 4))
        chosen = farthest_first(features, labeled, 5).tolist()
        assert len(set(chosen)) == 5
        known = [*labeled]
        for step, number in enumerate(chosen):
            if not known:
                middle = features.mean(axis=0)
                assert number == min(range(9), key=lambda i: math.dist(features[i], middle))
            else:
                left = [i for i in range(9) if i not in chosen[:step]]
                assert number == max(left, key=lambda i: min(math.dist(features[i], z) for z in known))
            known.append(features[number])


def test_no_more_scans_than_there_are_and_copies_come_last() -> None:
    features = np.array([[0.0, 0], [1, 0], [0, 0], [1, 0]])
    assert sorted(farthest_first(features, [[0.0, 0]], 9).tolist()) == [0, 1, 2, 3]
    assert farthest_first(features, [[0.0, 0]], 1).tolist() == [1]


def test_uncertainty_is_the_entropy_over_the_voxels_where_it_is_largest() -> None:
    scan = torch.softmax(3 * torch.randn(3, 4, 5, 5), 0)
    entropies = sorted((float(-(p * p.log()).sum()) for p in scan.flatten(1).double().T), reverse=True)
    for share, count in ((0.05, 5), (0.001, 1), (1.0, 100)):
        expected = sum(entropies[:count]) / count / math.log(3)
        assert scan_uncertainty(scan, share) == pytest.approx(expected, rel=1e-5)


def test_uncertainty_is_zero_where_all_is_sure_and_one_where_nothing_is() -> None:
    sure = torch.zeros(2, 8, 8, 8)
    sure[0] = 1
    assert scan_uncertainty(sure) == 0
    assert scan_uncertainty((sure + (1 - sure)) / 2) == pytest.approx(1.0)  # both sure, of different things
    assert scan_uncertainty(torch.full((4, 8, 8), 0.25)) == pytest.approx(1.0)
    # a large sure background does not dilute it
    some = sure.clone()
    some[:, :2] = 0.5
    assert scan_uncertainty(some) == pytest.approx(1.0)


def chosen(strategy: str, count: int = 2, **given: Any) -> list[int]:
    return choose_scans(strategy, count, 8, **given)


def test_each_strategy_by_hand() -> None:
    unsure = [0.1, 0.9, 0.2, 0.8, 0.7, 0.3, 0.6, 0.0]
    features = [[0.0], [1.0], [9.0], [1.1], [4.0], [0.2], [1.2], [4.5]]
    labeled = [[0.0]]
    assert chosen("first") == [0, 1]
    assert chosen("uncertainty", uncertainty=unsure) == [1, 3]
    assert chosen("coverage", features=features, labeled=labeled) == [2, 7]  # 9, and then 4.5, as far from 9 as from 0
    # the four least sure are 1, 3, 4 and 6; of these 4 is the farthest
    both = {"uncertainty": unsure, "features": features, "labeled": labeled}
    assert chosen("uncertainty_coverage", **both) == [4, 6]
    assert chosen("uncertainty_coverage", candidates=1.0, **both) == chosen("coverage", **both)


def test_random_is_a_function_of_the_seed() -> None:
    draws = {tuple(chosen("random", seed=seed)) for seed in range(30)}
    assert len(draws) > 15
    assert chosen("random", seed=3) == chosen("random", seed=3)
    assert sorted(choose_scans("random", 99, 8)) == list(range(8))


def test_features_count_alike_whatever_their_scale() -> None:
    features = np.random.default_rng(0).normal(size=(8, 3))
    scaled = features * [1.0, 1000.0, 0.001] + [5.0, 0.0, 100.0]
    assert chosen("coverage", 5, features=features) == chosen("coverage", 5, features=scaled)
    constant = np.concatenate([features, np.full((8, 1), 7.0)], axis=1)
    assert chosen("coverage", 5, features=constant) == chosen("coverage", 5, features=features)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_at_most_as_many_as_there_are(strategy: str) -> None:
    given = {"uncertainty": [0.3, 0.1], "features": [[1.0], [2.0]]}
    assert sorted(choose_scans(strategy, 5, 2, **given)) == [0, 1]


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(UserError, match=r"strategy must be one of random, .*, got 'best'"):
        chosen("best")
    with pytest.raises(UserError, match="this strategy needs uncertainty of every scan: train a model first"):
        chosen("uncertainty")
    with pytest.raises(UserError, match="needs features of every scan"):
        chosen("coverage")
    with pytest.raises(ValueError, match=r"`uncertainty` must be 8 finite numbers, got \(2,\)"):
        chosen("uncertainty", uncertainty=[0.0, 1.0])
    with pytest.raises(ValueError, match="`count` must be 1 or more"):
        chosen("first", 0)
    with pytest.raises(ValueError, match=r"`features` must be finite"):
        farthest_first([[math.nan]], [[0.0]], 1)
    with pytest.raises(ValueError, match=r"`share` must be in \(0, 1\], got 0"):
        scan_uncertainty(torch.ones(2, 4), 0.0)
    with pytest.raises(ValueError, match=r"with two classes, got \(1, 4\)"):
        scan_uncertainty(torch.ones(1, 4))


def test_a_detector_is_unsure_of_scores_near_a_half() -> None:
    def u(*scores: float, count: int = 5) -> float:
        return box_uncertainty(torch.tensor(scores), count)

    assert u() == 0.0
    assert u(0.0, 1.0, 1.0) == 0.0
    assert u(*[0.5] * 5) == pytest.approx(1.0)
    assert u(0.5) == pytest.approx(0.2), "boxes that are missing are no reason to doubt"
    assert u(0.5, 0.5, 0.01, 0.99, count=2) == pytest.approx(1.0)
    assert u(0.2) == pytest.approx(u(0.8))
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(20, generator=generator)
    p = scores.double().numpy()
    slow = sorted(-x * math.log2(x) - (1 - x) * math.log2(1 - x) for x in p)[-7:]
    assert box_uncertainty(scores, 7) == pytest.approx(sum(slow) / 7, abs=1e-9)


@pytest.mark.parametrize(
    ("scores", "count", "words"),
    [([[0.1]], 5, "(N,) in"), ([1.1], 5, "in [0, 1]"), ([math.nan], 5, "in [0, 1]"), ([0.1], 0, "1 or more")],
)
def test_what_are_no_scores_of_boxes(scores: list[float], count: int, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        box_uncertainty(torch.tensor(scores), count)
