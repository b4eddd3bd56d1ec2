from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from monai_ssl.study.comparisons import compare, named_places
from monai_ssl.study.scores import read_scores
from tests.study.contents import array, make_content, without


def compared(content: dict[str, Any]) -> dict[str, Any]:
    return compare(content, read_scores(content), level=0.95)


def test_figures_are_those_of_scipy_on_the_raw_arrays() -> None:
    content = make_content()
    found = compared(content)
    for entry in (found["primary"], *found["others"]):
        base, own = (array(content, entry["budget"], name) for name in ("sup", entry["method"]))
        assert entry["effect"]["mean"] == pytest.approx((own - base).mean(), abs=1e-8)
        assert entry["p_cases"] == pytest.approx(stats.ttest_rel(own.mean(0), base.mean(0)).pvalue, rel=1e-3, abs=1e-11)
        assert entry["p_wilcoxon"] == pytest.approx(stats.wilcoxon((own - base).mean(0)).pvalue, rel=1e-3, abs=1e-11)
        assert entry["effect"]["low"] < entry["effect"]["mean"] < entry["effect"]["high"]
    verdicts = {(entry["budget"], entry["method"]): entry["verdict"] for entry in found["others"]}
    shown = {place: "better" if place[1] == "mt" else "not shown" for place in verdicts}
    assert verdicts == shown
    assert (found["primary"]["verdict"], found["primary"]["found"]) == ("better", True)
    mean = (array(content, "2", "mt") - array(content, "2", "sup")).mean()
    assert found["primary"]["words"].startswith(f"mt against sup with 2 labels: {mean:+.3f} Dice (95 % interval ")


def test_where_cases_agree_the_decision_is_the_t_test_over_seeds() -> None:
    gains = np.array([0.03, 0.001, 0.015, 0.01])
    content = make_content(seeds=4, cases=20)
    base = array(content, "2", "sup")
    content["scores"][1]["values"] = (base + gains[:, None]).tolist()
    primary = compared(content)["primary"]
    expected = stats.ttest_1samp(gains, 0)
    ends = expected.confidence_interval(0.95)
    assert primary["p_value"] == pytest.approx(expected.pvalue, rel=1e-6)
    assert (primary["effect"]["low"], primary["effect"]["high"]) == pytest.approx(tuple(ends), abs=1e-8)
    assert primary["p_cases"] < 1e-6 < 0.05 < primary["p_value"]  # these seeds alone would have shown it
    assert (primary["found"], primary["verdict"]) == (False, "not shown")


def test_the_family_is_the_rest_of_the_plan_whether_finished_or_not() -> None:
    content = make_content({"mt": 0.004, "cps": 0.006})
    whole = compared(content)
    p = sorted((entry["p_value"], entry["p_holm"]) for entry in whole["others"])
    worst = 0.0
    for rank, (raw, adjusted) in enumerate(p):
        worst = max(worst, min(1.0, (5 - rank) * raw))
        assert adjusted == pytest.approx(worst, abs=1e-9)
    assert all(entry["found"] == (entry["p_holm"] < 0.05) for entry in whole["others"])
    assert "p_holm" not in whole["primary"]
    assert whole["family"].startswith("5 contrasts besides the primary one: cps and mt against sup")
    part = compared(without(without(content, "8", "mt"), "8", "cps"))
    assert part["family"].endswith("2 of them without a result count in its size.")
    smallest = min(entry["p_value"] for entry in part["others"] if "reason" not in entry)
    assert min(entry["p_holm"] for entry in part["others"] if "reason" not in entry) == pytest.approx(5 * smallest)
    gone = part["others"][-1]
    assert gone["reason"] == "no finished run of cps with 8 labels has figures"
    assert "p_value" not in gone


def test_one_family_holds_what_each_alone_would_not() -> None:
    content = make_content({"mt": 0.0, "cps": 0.0}, noise=0.02)
    base = array(content, "4", "sup")
    rng = np.random.default_rng(3)
    for shift in np.linspace(0, 0.02, 41):  # up to where the contrast alone would just be found
        for entry in content["scores"]:
            if (entry["budget"], entry["method"]) == ("4", "cps"):
                entry["values"] = (base + shift + 0.02 * rng.normal(size=base.shape)).tolist()
        found = next(one for one in compared(content)["others"] if (one["budget"], one["method"]) == ("4", "cps"))
        if 0.011 < found["p_value"] < 0.05:
            break
    assert found["effect"]["low"] * found["effect"]["high"] > 0
    assert (found["found"], found["verdict"]) == (False, "not shown")
    assert found["words"].endswith("; not shown")


def test_equal_methods_show_nothing() -> None:
    content = make_content()
    for entry in content["scores"]:
        entry["values"] = array(content, entry["budget"], "sup").tolist()
    found = compared(content)
    for entry in (found["primary"], *found["others"]):
        assert (entry["effect"]["mean"], entry["p_value"], entry["found"]) == (0, 1, False)


def test_seeds_that_only_one_has_do_not_count_and_that_is_said() -> None:
    content = without(make_content(), "2", "mt", 1, 3)
    primary = compared(content)["primary"]
    assert primary["seeds"] == [0, 2, 4]
    rows = [0, 2, 4]
    difference = array(content, "2", "mt") - array(content, "2", "sup")[rows]
    assert primary["effect"]["mean"] == pytest.approx(difference.mean(), abs=1e-8)
    assert "3 of 5 planned seeds" in primary["words"]


def test_one_seed_or_one_case_is_a_reason() -> None:
    for content in (make_content(seeds=1), make_content(cases=1)):
        found = compared(content)
        for entry in (found["primary"], *found["others"], *found["non_inferiority"]):
            assert "alone" in entry["reason"]
            assert not {"effect", "found", "shown"} & set(entry)


def test_less_is_better_for_a_distance() -> None:
    dice, distance = compared(make_content()), compared(make_content(metric="hausdorff_95", margin=0.005))
    for one, other in zip(dice["others"], distance["others"], strict=True):
        assert other["effect"]["mean"] == pytest.approx(-one["effect"]["mean"], abs=1e-8)
        assert (other["effect"]["low"], other["effect"]["high"]) == pytest.approx(
            (-one["effect"]["high"], -one["effect"]["low"]), abs=1e-8
        )
        assert other["verdict"] == one["verdict"]
    assert "less is better" in distance["primary"]["words"]
    for one, other in zip(dice["non_inferiority"], distance["non_inferiority"], strict=True):
        assert (other["shown"], other["bound"]) == (one["shown"], pytest.approx(-one["bound"], abs=1e-8))


def test_not_worse_is_the_worse_end_of_the_same_interval() -> None:
    content = make_content({"mt": 0.01, "cps": -0.02})
    found = compared(content)
    assert len(found["non_inferiority"]) == 6
    for entry, contrast in zip(found["non_inferiority"], (found["primary"], *found["others"]), strict=True):
        assert entry["bound"] == contrast["effect"]["low"]
        assert entry["shown"] == (entry["bound"] > -0.005)
    assert {entry["method"] for entry in found["non_inferiority"] if entry["shown"]} == {"mt"}
    assert "not worse than sup by 0.005 Dice not shown" in found["non_inferiority"][1]["words"]
    assert compared({**content, "margin": None})["non_inferiority"] == []


def test_what_cannot_be_and_what_the_screen_dropped_is_in_no_family() -> None:
    content = make_content()
    assert len(named_places(content)) == 6
    assert named_places({**content, "screen": {"kept": ["sup", "mt"]}}) == [("2", "mt"), ("4", "mt"), ("8", "mt")]
    only = make_content({"mt": 0.01}, budgets=("2",))
    assert compared(only)["family"] == "There is no contrast but the primary one."
    assert compared(only)["others"] == []


def test_detectors_that_no_case_tells_apart_are_not_shown_to_be_alike() -> None:
    content = make_content(metric="cpm", cases=6)
    for entry in content["scores"]:
        if entry["budget"] == "2":
            entry["values"] = np.ones((5, 6)).tolist()
    found = compared(content)["non_inferiority"]
    assert [entry.get("reason", "") != "" for entry in found] == [entry["budget"] == "2" for entry in found]
    assert found[0]["reason"] == "no case tells the two apart, which says nothing of cases that would"
    # Dice has no such ceiling: equal to the last digit are only models that are the same
    assert not any("reason" in entry for entry in compared({**content, "metric": "dice"})["non_inferiority"])


def test_a_place_that_is_the_model_of_another_is_in_no_family() -> None:
    content = make_content()
    alike = make_content(alike=[{"budget": "4", "method": "mt", "as": "sup"}])
    assert set(named_places(content)) - set(named_places(alike)) == {("4", "mt")}
    counted = [len(compared(one)["others"]) for one in (content, alike)]
    assert counted[0] - counted[1] == 1
