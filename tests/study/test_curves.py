from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from monai_ssl.study.components import mean_products
from monai_ssl.study.curves import draw_means, labels_for, non_increasing, seed_weights, stacked_curve


def slow_pava(errors: np.ndarray, weights: np.ndarray) -> list[float]:
    """Pool adjacent violators, block by block."""
    blocks: list[list[float]] = []
    for error, weight in zip(errors, weights, strict=True):
        blocks.append([error, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            last, one = blocks.pop(), blocks.pop()
            weight = one[1] + last[1]
            blocks.append([(one[0] * one[1] + last[0] * last[1]) / weight, weight, one[2] + last[2]])
    return [block[0] for block in blocks for _ in range(int(block[2]))]


def test_non_increasing_is_pool_adjacent_violators() -> None:
    rng = np.random.default_rng(0)
    for size in range(1, 8):
        errors, weights = rng.random((50, size)), 0.1 + rng.random(size)
        expected = [slow_pava(one, weights) for one in errors]
        assert non_increasing(errors, weights) == pytest.approx(np.array(expected))


def test_a_falling_curve_stays_and_a_rising_one_becomes_flat() -> None:
    falling = np.array([0.3, 0.2, 0.2, 0.1])
    assert non_increasing(falling, np.ones(4)) == pytest.approx(falling)
    assert non_increasing(falling[::-1], np.array([1.0, 1, 1, 3])) == pytest.approx(
        [(0.1 + 0.2 + 0.2 + 3 * 0.3) / 6] * 4
    )


def test_weights() -> None:
    rng = np.random.default_rng(0)
    scores = 0.1 * rng.normal(size=(1, 1, 9)) + np.array([4.0, 1.0])[:, None, None] * rng.normal(size=(2, 200, 1))
    weights = seed_weights(scores)
    assert weights.mean() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(16, rel=0.5)
    single = seed_weights(np.concatenate([scores, np.broadcast_to(scores[:1, :1], (1, 200, 9))]))
    assert single[2] == pytest.approx(single[1])
    assert seed_weights(scores[:, :1]) == pytest.approx([1, 1])


def test_a_draw_of_one_mean_has_the_spread_of_students_t() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(4)
    draws = draw_means(np.repeat(values[:, None], 30, axis=1)[None], draws=200_000, seed=1)[:, 0]
    levels = [0.025, 0.25, 0.5, 0.9, 0.975]
    expected = stats.t.ppf(levels, 3, values.mean(), stats.sem(values))
    assert np.quantile(draws, levels) == pytest.approx(expected, rel=0.03)


def test_draws_have_the_covariance_of_the_study() -> None:
    # many seeds and cases: the t of the divisors is close to normal, and the covariance is that of the means
    rng = np.random.default_rng(0)
    mix = rng.random((3, 3))
    by_seed, by_case = (np.einsum("kl,l...->k...", mix, rng.normal(size=(3, *size))) for size in ((60, 1), (1, 80)))
    scores = by_seed + by_case + 0.1 * rng.normal(size=(3, 60, 80))
    first, second, rest = mean_products(scores)
    draws = draw_means(scores, draws=100_000, seed=0)
    assert draws.mean(0) == pytest.approx(scores.mean((1, 2)), abs=0.01)
    assert np.cov(draws.T) * 4800 == pytest.approx(first + second - rest, rel=0.1)
    turned = draw_means(np.swapaxes(scores, 1, 2), draws=100, seed=0)
    assert turned == pytest.approx(draw_means(scores, draws=100, seed=0))


def test_draws_keep_methods_paired_and_repeat_themselves() -> None:
    scores = np.random.default_rng(0).random((2, 3, 10))
    scores[1] = scores[0] + 0.25
    draws = draw_means(scores, draws=50, seed=7)
    assert draws[:, 1] - draws[:, 0] == pytest.approx(0.25)
    assert np.array_equal(draws, draw_means(scores, draws=50, seed=7))
    assert not np.array_equal(draws, draw_means(scores, draws=50, seed=8))


def test_one_seed_moves_with_the_cases_alone() -> None:
    values = np.random.default_rng(0).random((1, 1, 5))
    draws = draw_means(values, draws=100_000, seed=0)[:, 0]
    assert np.quantile(draws, 0.975) == pytest.approx(
        stats.t.ppf(0.975, 4, values.mean(), stats.sem(values[0, 0])), rel=0.03
    )


BUDGETS = np.array([1.0, 2.0, 4.0, 16.0])


def read(error: float, errors: list[float], near: float = 2.0) -> float:
    return float(labels_for(np.array([error]), np.array([errors]), BUDGETS, near=near)[0])


@pytest.mark.parametrize(
    ("error", "labels"),
    [
        (0.4, 1.0),
        (0.35, math.sqrt(2)),
        (0.3, 2.0),
        (0.15, 8.0),
        (0.1, 16.0),
        (0.09, math.inf),
        (0.41, 0.0),
    ],
)
def test_labels_are_linear_over_their_logarithm(error: float, labels: float) -> None:
    assert read(error, [0.4, 0.3, 0.2, 0.1]) == pytest.approx(labels)


@pytest.mark.parametrize(("near", "labels"), [(1.0, 2.0), (2.0, 2.0), (3.0, 3.0), (4.0, 4.0), (16.0, 4.0)])
def test_a_flat_piece_gives_its_nearest_point(near: float, labels: float) -> None:
    assert read(0.2, [0.4, 0.2, 0.2, 0.1], near) == pytest.approx(labels)
    assert read(0.3, [0.4, 0.2, 0.2, 0.1], near) == pytest.approx(math.sqrt(2))


def test_reading_backwards_undoes_interpolation() -> None:
    rng = np.random.default_rng(0)
    errors = np.sort(rng.random((200, 4)), axis=1)[:, ::-1]
    labels = np.exp(rng.random(200) * math.log(16))
    error = np.array([np.interp(math.log(n), np.log(BUDGETS), e) for n, e in zip(labels, errors, strict=True)])
    assert labels_for(error, errors, BUDGETS, near=2.0) == pytest.approx(labels)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="two seeds or two cases at least, got one of each"):
        draw_means(np.zeros((2, 1, 1)), draws=10, seed=0)
    with pytest.raises(ValueError, match=r"`budgets` must rise, got \[2.0, 2.0\]"):
        labels_for(np.zeros(1), np.zeros((1, 2)), np.array([2.0, 2.0]), near=2.0)
    with pytest.raises(ValueError, match=r"`method` must have one budget at least, and labels above 0, got \[0, 2\]"):
        stacked_curve({0: [[0.1]], 2: [[0.1]]}, name="method")
    with pytest.raises(ValueError, match=r"`method\[2\]` must hold a finite score .* got nan"):
        stacked_curve({2: [[0.1, math.nan]]}, name="method")


def test_budgets_come_in_rising_order() -> None:
    budgets, scores = stacked_curve({4: [[0.4]], 2: [[0.2]]}, name="x")
    assert budgets.tolist() == [2, 4]
    assert [one.item() for one in scores] == [0.2, 0.4]
