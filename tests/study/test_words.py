from __future__ import annotations

import pytest

from monai_ssl.study.words import budget_words, effect_words, joined, number_of, p_words, seed_words, unit_of, verdict


def test_budgets_read_as_in_a_sentence() -> None:
    assert [budget_words(one) for one in ("1", "2", "10%", "all")] == [
        "1 label",
        "2 labels",
        "10% of the labels",
        "all labels",
    ]


def test_numbers_names_and_p_values() -> None:
    assert (number_of(1, "run"), number_of(0, "run")) == ("1 run", "0 runs")
    assert [joined(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert (p_words(0.0009), p_words(0.0321)) == ("p < 0.001", "p = 0.032")
    assert (seed_words([0, 2], [0, 1, 2]), seed_words([0, 1], [0, 1])) == ("2 of 3 planned seeds", "")


@pytest.mark.parametrize(
    ("metric", "words"), [("dice", "worse"), ("surface_dice", "worse"), ("hausdorff_95", "better"), ("cpm", "worse")]
)
def test_less_is_better_for_a_distance_alone(metric: str, words: str) -> None:
    assert verdict(-1.0, True, metric) == words
    assert verdict(1.0, True, metric) != words
    assert verdict(-1.0, False, metric) == "not shown"


def test_an_effect_has_its_unit_and_sign() -> None:
    effect = {"mean": -0.5, "low": -0.75, "high": -0.25}
    assert effect_words(effect, "hausdorff_95") == ("-0.500 mm (95 % interval -0.750 to -0.250, less being better)")
    assert effect_words(effect, "dice") == "-0.500 Dice (95 % interval -0.750 to -0.250)"
    assert effect_words(effect, "cpm") == "-0.500 CPM (95 % interval -0.750 to -0.250)"
    assert [unit_of(one) for one in ("surface_dice", "sensitivity_1", "other")] == [
        "surface Dice",
        "sensitivity",
        "other",
    ]
