from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from monai_ssl.study.contrasts import holm, non_inferiority, paired_contrast


def pair(effect: float, seeds: int = 3, cases: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shared = 0.8 + 0.03 * rng.normal(size=(seeds, 1)) + 0.03 * rng.normal(size=(1, cases))
    return tuple(shared + shift + 0.01 * rng.normal(size=(seeds, cases)) for shift in (0.0, effect))  # type: ignore[return-value]


def test_tests_are_those_of_scipy_on_means_over_seeds() -> None:
    reference, method = pair(0.004)
    found = paired_contrast(reference, method)
    assert found.p_cases == pytest.approx(stats.ttest_rel(method.mean(0), reference.mean(0)).pvalue)
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(method.mean(0), reference.mean(0)).pvalue)
    assert found.effect.mean == pytest.approx((method - reference).mean())
    assert found.found == (found.p_value < 0.05)


def test_seeds_that_differ_make_the_decision_harder_than_the_test_over_cases() -> None:
    # every case gains, and every seed gains by another amount
    reference = np.zeros((3, 20))
    method = np.array([[0.03], [0.001], [0.015]]) + 0.001 * np.random.default_rng(0).normal(size=(3, 20))
    found = paired_contrast(reference, method)
    assert found.p_cases < 1e-10
    assert not found.found


def test_equal_methods_differ_in_nothing() -> None:
    scores = pair(0)[0]
    found = paired_contrast(scores, scores)
    assert (found.p_value, found.p_cases, found.p_wilcoxon) == (1, 1, 1)
    assert not found.found


def test_contrast_words_and_refusal() -> None:
    words = str(paired_contrast(*pair(0.1)))
    assert words.startswith("+0.098 Dice (95 % interval ")
    assert (
        "; p < 0.001 with other seeds and cases, < 0.001 with these seeds and other cases (paired t test; Wil" in words
    )
    with pytest.raises(ValueError, match="two cases at least for a test over cases, got 1"):
        paired_contrast([[0.1], [0.2]], [[0.1], [0.3]])


def slow_holm(p_values: dict[str, float]) -> dict[str, float]:
    """Closed testing with Bonferroni: a contrast falls when every family that holds it falls."""
    names = list(p_values)
    families = [f for size in range(1, len(names) + 1) for f in itertools.combinations(names, size)]
    return {
        name: max(min(1.0, len(f) * min(p_values[one] for one in f)) for f in families if name in f) for name in names
    }


def test_holm_is_closed_testing() -> None:
    rng = np.random.default_rng(0)
    for size in range(1, 7):
        p_values = {f"c{i}": float(p) for i, p in enumerate(rng.random(size) ** 3)}
        assert holm(p_values).adjusted == pytest.approx(slow_holm(p_values))


def test_holm_by_hand() -> None:
    family = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert dict(family.adjusted) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(family.adjusted) == ["a", "b", "c", "d"]
    assert family.found == ("a", "d")
    assert str(family) == (
        "family of 4 (Holm, 5 % for all together): a p = 0.030, b p = 0.060, c p = 0.060, d p = 0.020"
    )


def test_holm_refuses() -> None:
    with pytest.raises(ValueError, match="must name one contrast at least"):
        holm({})
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got 1.2 for 'a'"):
        holm({"a": 1.2})
    with pytest.raises(ValueError, match=r"got nan for 'a'"):
        holm({"a": float("nan")})


def test_non_inferiority_turns_at_the_lower_end() -> None:
    reference, method = pair(0.0)
    low = non_inferiority(reference, method).effect.low
    assert low < 0
    assert non_inferiority(reference, method, margin=-low + 1e-9).shown
    narrow = non_inferiority(reference, method, margin=-low - 1e-9)
    assert not narrow.shown
    assert "Dice: not shown, " in str(narrow)
    with pytest.raises(ValueError, match="`margin` must be above 0, got 0"):
        non_inferiority(reference, method, margin=0)
