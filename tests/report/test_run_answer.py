from __future__ import annotations

import numpy as np
import pytest

from monai_ssl.report.pairs import ScoredCase
from monai_ssl.report.run_answer import next_command, score_answer, training_answer


def cases(*values: float) -> list[ScoredCase]:
    return [ScoredCase(number, f"c{number}", value) for number, value in enumerate(values)]


def test_the_interval_is_that_of_a_t_test_over_cases() -> None:
    values = np.array([0.5, 0.6, 0.8, 0.9])
    half = 3.182446 * values.std(ddof=1) / 2
    figures = {"part": "test", "mean": {"dice": 0.7}}
    assert score_answer("dice", figures, [{}] * 4, cases(*values)) == (
        f"Mean Dice 0.700 (95 % interval for other cases {0.7 - half:.3f} to {0.7 + half:.3f}) over 4 cases of the "
        "test part; look at c0 first, the worst with 0.500."
    )


def test_of_a_distance_the_worst_is_the_farthest_and_one_case_has_no_interval() -> None:
    figures = {"part": "validation", "mean": {"hausdorff_95": 4.0}}
    assert "look at c1 first, the worst with 5.000" in score_answer("hausdorff_95", figures, [{}] * 2, cases(3, 5))
    assert "interval" not in score_answer("hausdorff_95", figures, [{}], cases(4))
    assert score_answer("hausdorff_95", figures, [{}], []).endswith("over 1 case of the validation part.")


def test_a_detector_says_what_it_finds_at_one_false_positive_a_scan() -> None:
    found = {"n": {"boxes": 3, "hit_scores": [0.9, 0.3], "false_scores": [0.8, 0.5, 0.4]}}
    figures = {"part": "test", "mean": {"cpm": 0.5}, "intervals": {"cpm": [0.25, 0.75]}}
    answer = score_answer("cpm", figures, [{"boxes": 3, "classes": found}], cases(0.5))
    # above 0.5 there is one false positive, and one of the two hits
    assert "CPM 0.500 (95 % interval for other cases 0.250 to 0.750) over 1 case" in answer
    assert "1 of 3 boxes found at one false positive a scan; look at c0 first" in answer


@pytest.mark.parametrize("pretraining", [True, False])
def test_a_loss_is_called_no_score(pretraining: bool) -> None:
    columns = {"step": np.arange(40.0), "loss": np.r_[[4.0] * 20, [1.0] * 20]}
    first, second = training_answer(columns, pretraining)
    assert first == "After 40 steps the training loss is 1.000; over its first steps it was 4.000."
    assert ("from scratch" in second) == pretraining
    assert training_answer({"loss": np.array([np.nan])}, pretraining) == ["Nothing was measured yet."]
    assert training_answer({}, pretraining) == ["Nothing was measured yet."]


def test_the_command_names_the_bundle_where_it_is_known() -> None:
    assert next_command("semi_segmentation").startswith("BUNDLE=$(monai-ssl path semi_segmentation)")
    assert next_command("").startswith("BUNDLE=THE_BUNDLE")
