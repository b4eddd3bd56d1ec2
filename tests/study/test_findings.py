from __future__ import annotations

import copy
import json
import random

import numpy as np
import pytest
from scipy import stats

from monai_ssl.study import savings
from monai_ssl.study.findings import find
from tests.study.contents import array, make_content, without


def test_means_are_over_seeds_and_the_cases_that_all_runs_have() -> None:
    content = make_content(seeds=4)
    content["scores"][0]["values"][0][3] = content["scores"][2]["values"][1][7] = None
    content["scores"][0]["labels"] = [2, 2, 3, 3]
    found = find(content)
    assert found["left_out_cases"] == ["c3.nii.gz", "c7.nii.gz"]
    for entry in found["means"]:
        values = np.delete(array(content, entry["budget"], entry["method"]), [3, 7], axis=1)
        assert entry["mean"] == pytest.approx(values.mean(), abs=1e-8)
        assert entry["by_seed"] == pytest.approx(values.mean(1), abs=1e-8)
        assert entry["low"] < entry["mean"] < entry["high"]
        # wider than what the cases, or the seeds, show alone
        for axis in (0, 1):
            low, high = stats.ttest_1samp(values.mean(axis), 0).confidence_interval(0.95)
            assert entry["high"] - entry["low"] > (0.9 if axis else 0.8) * (high - low)
    assert [entry["labels"] for entry in found["means"]][:4] == [2.5, 2, 2, 4]


@pytest.mark.parametrize(("metric", "most"), [("dice", 1.0), ("hausdorff_95", None)])
def test_the_interval_of_a_mean_ends_where_its_metric_does(metric: str, most: float | None) -> None:
    content = make_content(seeds=4, metric=metric)
    entry = content["scores"][0]
    entry["values"] = [[0.4 if seed == 0 else 1.0 - 0.01 * case for case in range(30)] for seed in range(4)]
    mean = find(content)["means"][0]
    assert mean["low"] < mean["mean"] < 1.0
    assert mean["high"] > 1.0 if most is None else mean["high"] == most
    entry["values"] = [[1.0 - value for value in values] for values in entry["values"]]
    mean = find(content)["means"][0]
    assert 0.0 == mean["low"] < mean["mean"] < mean["high"]


def test_one_seed_has_means_and_no_interval() -> None:
    found = find(make_content(seeds=1))
    for entry in found["means"]:
        assert (entry["low"], entry["high"], entry["seeds"]) == (None, None, [0])
        assert entry["by_seed"] == [entry["mean"]]
    assert found["answer"][0].startswith("Whether mt is better than sup with 2 labels cannot be told: one seed alone")
    assert found["answer"][1].startswith("How many labels mt saves cannot be told: one seed alone")


def test_the_answer_says_better_worse_or_not_shown_with_the_figures() -> None:
    content = make_content()
    found = find(content)
    effect = found["primary"]["effect"]
    assert found["answer"][0] == (
        f"mt with 2 labels is better than sup: {effect['mean']:+.3f} Dice (95 % interval {effect['low']:.3f} to "
        f"{effect['high']:.3f}), p < 0.001, over 5 seeds and 30 test cases."
    )
    (point, *_) = found["labels_saved"][0]["points"]
    assert found["answer"][1] == f"In labels of sup, with mt {point['words']}."
    assert "labels saved" in found["answer"][1]
    assert "mt with 2 labels is worse than sup: -0.0" in find(make_content({"mt": -0.05}))["answer"][0]
    none = find(make_content({"mt": 0.0}))["answer"]
    assert "mt with 2 labels against sup: no difference is shown, which does not show that there is none:" in none[0]
    assert none[1].endswith("no saving shown.")
    assert "mt with 2 labels is better than sup: -0.0" in find(make_content(metric="hausdorff_95"))["answer"][0]


def test_an_answer_before_the_end_says_so() -> None:
    found = find(without(make_content(), "2", "mt", 3, 4))
    assert found["answer"][0].startswith("So far, with 3 of 5 planned seeds: mt with 2 labels is better")
    assert any("a look on the way" in sentence for sentence in found["limits"])


def test_labels_saved_at_the_largest_budget_are_not_asked_for() -> None:
    content = make_content(budgets=("2", "4"), primary={"method": "mt", "baseline": "sup", "budget": "4"})
    assert find(content)["answer"][1].endswith("cannot be told: that is not below the largest budget of sup.")


def test_however_far_a_study_is_there_are_findings_for_json() -> None:
    whole = make_content(seeds=3, cases=4)
    places = [(entry["budget"], entry["method"], seed) for entry in whole["scores"] for seed in entry["seeds"]]
    order = random.Random(0).sample(places, len(places))
    for number in range(0, len(places) + 1, 3):
        content = whole
        for place in order[number:]:
            content = without(content, *place)
        found = find(content)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert len(found["answer"]) == 2
    assert find({**whole, "scores": []})["means"] == []


def test_the_same_content_gives_the_same_bytes() -> None:
    content = make_content(noise=0.03)
    first = json.dumps(find(content))
    savings._labels_saved.cache_clear()
    read_back = json.loads(json.dumps(content))
    assert json.dumps(find(read_back)) == first
    assert read_back == json.loads(json.dumps(content))  # and leaves it as it is


def test_runs_without_figures_leave_reasons() -> None:
    content = copy.deepcopy(make_content())
    for entry in content["scores"]:
        entry["values"] = [[None] * 30 for _ in entry["seeds"]]
    found = find(content)
    assert len(found["left_out_runs"]) == 50
    assert all(entry["mean"] is None for entry in found["means"])
    assert found["primary"]["reason"] == "no finished run of sup with 2 labels has figures"


def test_other_measures_have_their_own_means_and_differences_and_decide_nothing() -> None:
    content, other = make_content(seeds=4), make_content({"mt": -0.03, "cps": 0.02}, seeds=4, metric="hausdorff_95")
    other["scores"][0]["values"][2][5] = None
    alone, whole = find(content), find({**content, "beside": [{"metric": "hausdorff_95", "scores": other["scores"]}]})
    assert alone.pop("beside") == []
    (beside,) = whole.pop("beside")
    assert whole == alone
    expected = find(other)
    assert (beside["metric"], beside["unit"], beside["cases"]) == ("hausdorff_95", "mm", 29)
    assert beside["means"] == expected["means"] != whole["means"]
    contrasts = [expected["primary"], *expected["others"]]
    assert [one["effect"] for one in beside["differences"]] == [one["effect"] for one in contrasts]
    assert beside["differences"][0]["effect"]["low"] > 0  # a larger distance, in the measure's own sign
    names = {name for one in beside["differences"] for name in one}
    assert names == {"budget", "method", "baseline", "seeds", "effect"}
    one_seed = make_content(seeds=1)
    (beside,) = find({**one_seed, "beside": [{"metric": "surface_dice", "scores": one_seed["scores"]}]})["beside"]
    assert beside["differences"][0]["reason"].startswith("one seed alone")
