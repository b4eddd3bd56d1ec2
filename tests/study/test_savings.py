from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

from monai_ssl.study import savings
from monai_ssl.study.labels_saved import labels_saved
from monai_ssl.study.savings import gap_fractions, power_law, saved_labels
from monai_ssl.study.scores import read_scores
from tests.study.contents import BUDGETS, MEANS, array, make_content, without


def gaps(content: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    found = gap_fractions(content, read_scores(content), level=0.95)
    return {(one["budget"], one["method"]): one for one in found}


def saved(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    scores = read_scores(content)
    found = saved_labels(content, scores, power_law(content, scores)[0], level=0.95)
    return {one["method"]: one for one in found}


def test_fractions_are_ratios_of_the_raw_means() -> None:
    content = make_content()
    found = gaps(content)
    assert list(found) == [(budget, method) for budget in ("2", "4", "8") for method in ("mt", "cps")]
    for (budget, method), entry in found.items():
        base, own, top = (
            array(content, *place).mean() for place in ((budget, "sup"), (budget, method), ("all", "sup"))
        )
        assert entry["fraction"] == pytest.approx((own - base) / (top - base), abs=1e-8)
        assert entry["low"] < entry["fraction"] < entry["high"]
        assert entry["gap"]["mean"] == pytest.approx(top - base, abs=1e-8)
        assert f"{entry['fraction'] * 100:.0f} % of the gap of " in entry["words"]


def test_a_gap_that_may_be_none_is_refused() -> None:
    content = make_content()
    for entry in content["scores"]:
        if entry["budget"] == "all":
            entry["values"] = array(content, "8", "sup").tolist()
    reason = gaps(content)["8", "mt"]["reason"]
    assert reason.startswith("the gap is not told from none: sup with all labels less sup with 8 labels is ")
    assert "fraction" in gaps(content)["2", "mt"]


def test_the_ceiling_may_be_one_run_or_not_there_yet() -> None:
    content = make_content()
    single = gaps(without(content, "all", "sup", 1, 2, 3, 4))["2", "mt"]
    assert (single["ceiling_fixed"], single["seeds"]) == (True, [0, 1, 2, 3, 4])
    assert "the ceiling being one run taken as fixed" in single["words"]
    three = gaps(without(content, "all", "sup", 0, 3))["2", "mt"]
    assert (three["ceiling_fixed"], three["seeds"]) == (False, [1, 2, 4])
    assert "3 of 5 planned seeds" in three["words"]
    assert gaps(without(content, "all", "sup"))["2", "mt"]["reason"] == (
        "no finished run of sup with all labels has figures"
    )
    assert "no ceiling" in gaps(make_content(budgets=("2",)))["2", "mt"]["reason"]


def test_figures_without_noise_are_a_reason_or_a_figure_never_an_error() -> None:
    content = make_content(noise=0.0)
    for entry in gaps(content).values():
        assert "reason" in entry or math.isclose(entry["low"], entry["fraction"], abs_tol=1e-6)


def test_labels_saved_without_noise_are_read_off_the_curve() -> None:
    # 0.05 more Dice is half the way from 2 labels to 4, all the way from 4 to 8 and from 8 to all
    content = make_content({"mt": 0.05}, noise=0.0)
    points = {point["budget"]: point for point in saved(content)["mt"]["points"]}
    found = [points[budget]["equivalent"] for budget in ("2", "4", "8")]
    assert found == pytest.approx([math.sqrt(8), 8, 32], abs=1e-6)
    assert points["4"]["saved"] == pytest.approx(4, abs=1e-6)
    assert points["4"]["claimed"]


def test_labels_saved_are_those_of_the_function_with_all_its_draws() -> None:
    content = make_content()
    curves = [
        {BUDGETS[b]: array(content, b, method) for b in BUDGETS if (b, method) != ("all", "mt")}
        for method in ("sup", "mt")
    ]
    entry = saved(content)["mt"]
    assert entry["seeds"] == [0, 1, 2, 3, 4]
    for point, expected in zip(entry["points"], labels_saved(*curves), strict=True):
        assert point["words"] == str(expected)
        for name in ("equivalent", "low", "high", "low_together", "saved"):
            assert point[name] == pytest.approx(getattr(expected, name), abs=1e-8)
        assert (point["claimed"], point["side"]) == (expected.claimed, expected.side.strip())


def test_equal_methods_save_nothing() -> None:
    content = make_content()
    for entry in content["scores"]:
        entry["values"] = array(content, entry["budget"], "sup").tolist()
    for entry in saved(content).values():
        for point in entry["points"]:
            assert not point["claimed"]
            assert point["saved"] == pytest.approx(0, abs=1e-6)


def test_seeds_pair_over_the_whole_curve() -> None:
    content = without(without(make_content(), "4", "mt", 4), "8", "sup", 1)
    found = saved(content)
    assert found["mt"]["seeds"] == [0, 2, 3]
    assert found["cps"]["seeds"] == [0, 2, 3, 4]
    assert all(point["words"].endswith("; 3 of 5 planned seeds") for point in found["mt"]["points"])
    single = saved(without(make_content(), "all", "sup", 1, 2, 3, 4))["mt"]
    assert single["seeds"] == [0, 1, 2, 3, 4]
    assert all("the ceiling is one run, taken as fixed" in point["words"] for point in single["points"])


def test_what_cannot_be_told_is_a_reason() -> None:
    content = make_content()
    assert "one seed alone" in saved(make_content(seeds=1))["mt"]["reason"]
    assert saved(make_content(budgets=("2",)))["mt"]["reason"] == (
        "sup needs finished runs at two budgets, and has them at 1"
    )
    bare = without(without(without(content, "2", "mt"), "4", "mt"), "8", "mt")
    assert saved(bare)["mt"]["reason"] == "no finished run of mt with 2 labels has figures"
    same = copy.deepcopy(content)
    for entry in same["scores"]:
        entry["labels"] = [2 if entry["budget"] == "4" else one for one in entry["labels"]]
    assert saved(same)["mt"]["reason"] == "two budgets came out at the same number of labels"


def test_labels_that_differ_between_seeds_are_said() -> None:
    content = make_content()
    for entry in content["scores"]:
        if entry["budget"] == "4":
            entry["labels"] = [4, 5, 4, 3, 4]
    point = saved(content)["mt"]["points"][1]
    assert (point["budget"], point["labels"]) == ("4", 4)
    assert point["words"].endswith("; labels differ between seeds, since patients stay whole, and their mean counts")


def test_a_distance_is_mirrored_and_has_no_power_law() -> None:
    dice, distance = make_content(), make_content(metric="hausdorff_95")
    for one, other in zip(gaps(dice).values(), gaps(distance).values(), strict=True):
        assert [one[k] for k in ("fraction", "low", "high")] == pytest.approx(
            [other[k] for k in ("fraction", "low", "high")], abs=1e-6
        )
        assert other["gap"]["mean"] == pytest.approx(-one["gap"]["mean"], abs=1e-8)
    for one, other in zip(saved(dice)["mt"]["points"], saved(distance)["mt"]["points"], strict=True):
        assert other["equivalent"] == pytest.approx(one["equivalent"], abs=1e-6)
        assert (other["claimed"], other["by_power_law"]) == (one["claimed"], None)
    law, values = power_law(distance, read_scores(distance))
    assert law is None
    assert values["reason"].startswith("hausdorff_95 is no score out of 1")


def test_the_power_law_is_a_straight_line_in_logarithms() -> None:
    content = make_content({"mt": 0.05}, noise=0.0)
    _, values = power_law(content, read_scores(content))
    slope, start = np.polyfit(np.log(list(BUDGETS.values())), np.log([1 - mean for mean in MEANS.values()]), 1)
    assert (values["exponent"], values["scale"]) == pytest.approx((-slope, math.exp(start)), abs=1e-8)
    by_law = saved(content)["mt"]["points"][0]["by_power_law"]
    assert by_law == pytest.approx((math.exp(start) / 0.35) ** (-1 / slope), abs=1e-6)
    few = make_content(budgets=("2", "4"))
    assert power_law(few, read_scores(few))[1]["reason"] == (
        "sup has finished runs at 2 budgets, and a power law needs three"
    )


def test_what_did_not_change_is_not_drawn_again() -> None:
    content = make_content(seeds=3)
    saved(content)
    before = savings._labels_saved.cache_info().misses
    again = saved(copy.deepcopy(content))
    assert savings._labels_saved.cache_info().misses == before
    savings._labels_saved.cache_clear()
    assert saved(content) == again


def test_where_a_method_is_the_model_of_the_baseline_nothing_is_asked() -> None:
    content, alike = make_content(), [{"budget": "2", "method": "mt", "as": "sup"}]
    before, after = saved(content), saved({**content, "alike": alike})
    assert [point["budget"] for point in before["mt"]["points"]] == ["2", "4", "8"]
    assert [point["budget"] for point in after["mt"]["points"]] == ["4", "8"]
    names = ("equivalent", "low", "high")
    for one, other in zip(before["mt"]["points"][1:], after["mt"]["points"], strict=True):
        assert [one[name] for name in names] == [other[name] for name in names]
    assert after["cps"] == before["cps"]
    two = make_content(budgets=("2", "4"), alike=alike)
    reason = "no budget of mt lies within those of sup, below the largest, with another model"
    assert saved(two)["mt"]["reason"] == reason
    other = [{**alike[0], "as": "cps"}]
    assert saved({**content, "alike": other})["mt"] == before["mt"]
