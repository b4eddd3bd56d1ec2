from __future__ import annotations

import itertools

import numpy as np
import pytest

from monai_ssl.study.components import checked_scores, mean_products, paired_scores, variance_components


def slow_squares(scores: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of one variable by explicit sums."""
    seeds, cases = scores.shape
    grand = sum(scores[s, c] for s in range(seeds) for c in range(cases)) / (seeds * cases)
    by_seed = [sum(scores[s, c] for c in range(cases)) / cases for s in range(seeds)]
    by_case = [sum(scores[s, c] for s in range(seeds)) / seeds for c in range(cases)]
    seed = sum(cases * (m - grand) ** 2 for m in by_seed) / (seeds - 1)
    case = sum(seeds * (m - grand) ** 2 for m in by_case) / (cases - 1)
    rest = 0.0
    for s, c in itertools.product(range(seeds), range(cases)):
        rest += (scores[s, c] - by_seed[s] - by_case[c] + grand) ** 2 / ((seeds - 1) * (cases - 1))
    return seed, case, rest


@pytest.mark.parametrize("shape", [(2, 2), (3, 7), (6, 4)])
def test_mean_squares_are_the_explicit_sums(shape: tuple[int, int]) -> None:
    scores = np.random.default_rng(0).random(shape)
    found = [float(part[0, 0]) for part in mean_products(scores[None])]
    assert found == pytest.approx(slow_squares(scores))


def test_mean_products_give_the_squares_of_every_contrast() -> None:
    scores = np.random.default_rng(1).random((4, 3, 9))
    contrast = np.array([1.0, -0.3, -0.7, 2.0])
    squares = [contrast @ part @ contrast for part in mean_products(scores)]
    assert squares == pytest.approx(slow_squares(np.tensordot(contrast, scores, axes=1)))


def test_components_are_found_in_large_studies() -> None:
    rng = np.random.default_rng(2)
    size = (400, 500)
    scores = 0.03 * rng.normal(size=(400, 1)) + 0.04 * rng.normal(size=(1, 500)) + 0.02 * rng.normal(size=size)
    found = variance_components(scores)
    assert (found.seed_sd, found.case_sd, found.residual_sd) == pytest.approx((0.03, 0.04, 0.02), rel=0.1)
    assert str(found).startswith("standard deviations: seeds 0.0")


def test_no_component_is_below_zero() -> None:
    # every seed and every case has the same mean: what varies is residual
    found = variance_components([[1.0, 0.0], [0.0, 1.0]])
    assert (found.seed_sd, found.case_sd) == (0.0, 0.0)
    assert found.residual_sd == pytest.approx(1.0)


def test_one_seed_or_one_case_tells_what_it_can() -> None:
    values = np.array([0.7, 0.8, 0.85])
    cases, seeds = variance_components(values[None]), variance_components(values[:, None])
    assert cases.seed_sd is None
    assert cases.case_sd == pytest.approx(values.std(ddof=1))
    assert seeds.case_sd is None
    assert seeds.seed_sd == pytest.approx(values.std(ddof=1))
    assert "seeds unknown" in str(cases)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.1, 0.2], r"`baseline` must have shape \(seeds, cases\) .* got \(2,\)"),
        (np.zeros((0, 4)), r"got \(0, 4\)"),
        ([[0.1, np.nan], [0.2, 0.3]], r"got nan at index \[0, 1\] \(seed, case\)\. Drop"),
        ([[0.1, np.nan], [np.inf, 0.3]], r"\[0, 1\] \(seed, case\) and 1 more"),
    ],
)
def test_scores_are_checked(scores: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_scores(scores, name="baseline")  # type: ignore[arg-type]


def test_a_single_run_stands_for_every_seed() -> None:
    many, one = np.arange(6.0).reshape(2, 3), np.array([[7.0, 8.0, 9.0]])
    first, second = paired_scores(many, one, names=("a", "b"))
    assert np.array_equal(first, many)
    assert np.array_equal(second, np.vstack([one, one]))


@pytest.mark.parametrize("shape", [(3, 3), (2, 4)])
def test_seeds_and_cases_must_pair(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"`b` must have the seeds and cases of `a`, or one seed, got shape .* \(2, 3"):
        paired_scores(np.zeros((2, 3)), np.zeros(shape), names=("a", "b"))
