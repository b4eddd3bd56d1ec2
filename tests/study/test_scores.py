from __future__ import annotations

import numpy as np

from monai_ssl.study.scores import by_patient, plain, read_scores
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


def test_cases_of_a_patient_are_one_column_with_the_mean_of_all_cases() -> None:
    content = make_content(cases=6, patients=[0, 1, 0, 2, 1, 1])
    content["scores"][3]["values"][1][3] = None
    scores = read_scores(content)
    assert (scores.cases, scores.patients) == (5, 2)
    values = np.delete(array(content, "2", "sup"), 3, axis=1)
    found = scores.array(("2", "sup"), range(5))
    assert found.shape == (5, 2)
    np.testing.assert_allclose(found.mean(1), values.mean(1), atol=1e-14)
    mean = values.mean(1)
    first = mean + 2 / 5 * (values[:, 0] - mean + values[:, 2] - mean)
    np.testing.assert_allclose(found[:, 0], first, atol=1e-14)


def test_equally_many_cases_a_patient_give_the_patients_means() -> None:
    values = np.random.default_rng(0).normal(size=6)
    np.testing.assert_allclose(
        by_patient(values, np.array([2, 0, 1, 0, 1, 2])),
        [*map(np.mean, (values[[1, 3]], values[[2, 4]], values[[0, 5]]))],
        atol=1e-15,
    )
    assert np.array_equal(by_patient(values, np.arange(6)), values)


def test_variance_of_whole_patients_is_what_a_bootstrap_of_them_has() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 5, 60)
    owners = np.repeat(np.arange(60), sizes)
    values = rng.normal(size=60)[owners] + 0.3 * rng.normal(size=len(owners))
    linear = by_patient(values, owners)
    error = linear.std(ddof=1) / np.sqrt(60)
    draws = rng.integers(60, size=(4000, 60))
    sums, counts = np.bincount(owners, values), sizes
    spread = (sums[draws].sum(1) / counts[draws].sum(1)).std()
    assert abs(error / spread - 1) < 0.05
    assert values.std(ddof=1) / np.sqrt(len(values)) < 0.7 * spread  # as if all cases were draws apart


def test_one_patient_alone_shows_nothing_about_others() -> None:
    scores = read_scores(make_content(cases=4, patients=[0] * 4))
    assert scores.refusal([0, 1], ("2", "sup")) == "all test cases are of one patient, which shows nothing about others"


def test_labels_are_the_mean_over_the_seeds_that_count() -> None:
    content = make_content(seeds=3)
    content["scores"][0]["labels"] = [2, 3, 4]
    assert read_scores(content).mean_labels(("2", "sup"), [1, 2]) == 3.5


def test_plain_numbers_have_no_rounding_errors_and_no_negative_zero() -> None:
    assert plain(0.1 + 0.2) == 0.3
    assert str(plain(-1e-17)) == "0.0"
    assert plain(1.25e-10, 12) == 1.25e-10
