from __future__ import annotations

import numpy as np

from monai_ssl.study.scores import plain, read_scores
from tests.study.contents import array, make_content, without


def test_a_case_without_a_figure_in_one_run_is_left_out_of_all() -> None:
    content = make_content(cases=6)
    content["scores"][3]["values"][1][2] = None
    scores = read_scores(content)
    assert scores.left_out_cases == ("c2.nii.gz",)
    assert scores.cases == 5
    expected = np.delete(array(content, "2", "sup"), 2, axis=1)
    np.testing.assert_array_equal(scores.array(("2", "sup"), range(5)), expected)


def test_a_run_without_any_figure_does_not_take_the_cases_with_it() -> None:
    content = make_content(cases=6)
    content["scores"][1]["values"][4] = [None] * 6
    scores = read_scores(content)
    assert scores.left_out_runs == ({"budget": "2", "method": "mt", "seed": 4},)
    assert (scores.cases, scores.left_out_cases) == (6, ())
    assert scores.seeds(("2", "mt")) == [0, 1, 2, 3]


def test_seeds_pair_and_the_rest_is_refused() -> None:
    content = without(without(make_content(seeds=3), "2", "mt", 1), "2", "sup", 0)
    scores = read_scores(content)
    base, own, other = ("2", "sup"), ("2", "mt"), ("4", "sup")
    assert scores.seeds(own, other) == [0, 2]
    assert scores.refusal([0, 2], own, other) == ""
    assert "one seed alone (2)" in scores.refusal(scores.seeds(base, own), base, own)
    assert scores.refusal([], base, own) == "no seed has all the runs that this needs"
    assert scores.refusal([], ("10%", "mt")) == "no finished run of mt with 10% of the labels has figures"
    assert "one test case alone" in read_scores(make_content(cases=1)).refusal([0, 1], base)


def test_labels_are_the_mean_over_the_seeds_that_count() -> None:
    content = make_content(seeds=3)
    content["scores"][0]["labels"] = [2, 3, 4]
    assert read_scores(content).mean_labels(("2", "sup"), [1, 2]) == 3.5


def test_plain_numbers_have_no_rounding_errors_and_no_negative_zero() -> None:
    assert plain(0.1 + 0.2) == 0.3
    assert str(plain(-1e-17)) == "0.0"
    assert plain(1.25e-10, 12) == 1.25e-10
