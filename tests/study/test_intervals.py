from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from monai_ssl.study.components import mean_products
from monai_ssl.study.intervals import difference_interval, mean_interval


def simulated(seed: int, shape: tuple[int, int] = (3, 40)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    by_seed, by_case = 0.03 * rng.normal(size=(shape[0], 1)), 0.035 * rng.normal(size=(1, shape[1]))
    return 0.8 + by_seed + by_case + 0.02 * rng.normal(size=shape)


def slow_interval(scores: np.ndarray, level: float) -> tuple[float, float]:
    """The formula of the docstring with loops, for fewer seeds than cases."""
    S, N = scores.shape
    grand = scores.mean()
    ms = sum(N * (scores[s].mean() - grand) ** 2 for s in range(S)) / (S - 1)
    mc = sum(S * (scores[:, c].mean() - grand) ** 2 for c in range(N)) / (N - 1)
    mr = 0.0
    for s in range(S):
        for c in range(N):
            mr += (scores[s, c] - scores[s].mean() - scores[:, c].mean() + grand) ** 2 / ((S - 1) * (N - 1))
    excess = mc - mr if mc > mr else 0.0
    if excess:
        squared = (3 * ms) ** 2 / (S - 1) + mc**2 / (N - 1) + mr**2 / ((S - 1) * (N - 1))
        degrees = max((3 * ms + excess) ** 2 / squared, S - 1)
    else:
        degrees = S - 1
    half = stats.t.ppf(0.5 + level / 2, degrees) * math.sqrt((ms + excess) / (S * N))
    return grand - half, grand + half


@pytest.mark.parametrize("shape", [(2, 5), (3, 40), (7, 9)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_equals_the_loops(shape: tuple[int, int], level: float) -> None:
    for seed in range(5):
        scores = simulated(seed, shape)
        found = mean_interval(scores, level=level)
        assert (found.low, found.high) == pytest.approx(slow_interval(scores, level))
        assert found.mean == pytest.approx(scores.mean())


def test_degrees_lie_between_the_limits() -> None:
    for seed in range(20):
        found = mean_interval(simulated(seed, (3, 12)))
        assert 2 <= found.degrees <= 2 + 11


def t_interval(values: np.ndarray) -> tuple[float, float]:
    return stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))


@pytest.mark.parametrize("cases", [1, 2, 40])
def test_is_the_t_interval_over_seeds_where_cases_do_not_vary(cases: int) -> None:
    values = np.array([0.81, 0.78, 0.84])
    found = mean_interval(np.repeat(values[:, None], cases, axis=1))
    assert (found.low, found.high) == pytest.approx(t_interval(values))
    assert found.degrees == pytest.approx(2)


@pytest.mark.parametrize("seeds", [1, 2, 12])
def test_is_the_t_interval_over_cases_where_seeds_do_not_vary(seeds: int) -> None:
    values = np.random.default_rng(0).random(9)
    found = mean_interval(np.repeat(values[None], seeds, axis=0))
    assert (found.low, found.high) == pytest.approx(t_interval(values))
    assert found.degrees == pytest.approx(8)


def test_seeds_that_agree_by_a_tie_leave_what_single_cases_say() -> None:
    scores = simulated(3, (3, 20))
    tied = scores - scores.mean(1, keepdims=True)
    _, by_case, rest = (float(part[0, 0]) for part in mean_products(tied[None]))
    found = mean_interval(tied)
    assert found.standard_error == pytest.approx(math.sqrt((rest + max(by_case - rest, 0)) / tied.size))
    # a tie is not told from seeds that nearly agree as often as their variance makes them
    near = np.sqrt(rest / 20) * np.array([[-1.0], [0.0], [1.0]])
    assert found.high == pytest.approx(mean_interval(tied + near).high)
    same_cases = np.array([[0.0, 1 / 3, 2 / 3], [2 / 3, 0.0, 1 / 3]])
    assert mean_interval(same_cases).standard_error > 0.1


def test_nothing_varies() -> None:
    found = mean_interval(np.full((3, 4), 0.5))
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    assert found.p_value == 0
    assert difference_interval(np.ones((2, 2)), np.ones((2, 2))).p_value == 1


def test_invariances() -> None:
    scores, rng = simulated(3), np.random.default_rng(0)
    found = mean_interval(scores)
    mixed = scores[rng.permutation(3)][:, rng.permutation(40)]
    for other in (mean_interval(mixed), mean_interval(scores.T)):
        assert (other.low, other.high, other.degrees) == pytest.approx((found.low, found.high, found.degrees))
    shifted = mean_interval(2 * scores + 0.1)
    assert (shifted.low, shifted.high) == pytest.approx((2 * found.low + 0.1, 2 * found.high + 0.1))


def test_difference_is_the_mean_of_paired_differences_and_swaps_sign() -> None:
    first, second = simulated(0), simulated(1)
    found, back = difference_interval(first, second), difference_interval(second, first)
    alone = mean_interval(second - first)
    assert (found.mean, found.low, found.high) == pytest.approx((alone.mean, alone.low, alone.high))
    assert (-back.mean, -back.high, -back.low) == pytest.approx((found.mean, found.low, found.high))
    assert difference_interval(first, second[:1]).mean == pytest.approx(second[0].mean() - first.mean())


def test_p_value_agrees_with_the_interval() -> None:
    scores = simulated(5) - 0.8
    p = mean_interval(scores, difference=True).p_value
    edge = mean_interval(scores, level=1 - p)
    assert min(abs(edge.low), abs(edge.high)) == pytest.approx(0, abs=1e-9)
    assert mean_interval(scores, level=1 - p - 0.01).excludes_zero
    assert not mean_interval(scores, level=1 - p + 0.01).excludes_zero


def test_words() -> None:
    words = str(difference_interval([[0.5, 0.6], [0.5, 0.6]], [[0.51, 0.62], [0.52, 0.61]]))
    assert words.startswith("+0.015 Dice (95 % interval ")
    assert words.endswith("; 2 seeds, 2 cases)")
    assert "1 seed, so other seeds are left out, 2 cases" in str(mean_interval([[0.5, 0.6]], unit="CPM"))
    assert "2 seeds, 1 case, so other cases are left out" in str(mean_interval([[0.5], [0.6]]))


def test_covers_as_the_docstring_says() -> None:
    # measured: 93 % to 97 % of many studies; 600 have a standard error of 0.9 %
    rng = np.random.default_rng(11)
    for seed_sd in (0.027, 0.015):
        covered = 0
        for _ in range(600):
            by_seed, by_case = seed_sd * rng.normal(size=(3, 1)), 0.035 * rng.normal(size=(1, 40))
            found = mean_interval(by_seed + by_case + 0.02 * rng.normal(size=(3, 40)))
            covered += found.low <= 0 <= found.high
        assert 0.925 <= covered / 600 <= 0.98


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
def test_level_is_a_probability(level: float) -> None:
    with pytest.raises(ValueError, match=r"`level` must be in \(0, 1\), got"):
        mean_interval(simulated(0), level=level)


def test_one_score_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two seeds or two cases at least"):
        mean_interval([[0.8]])
