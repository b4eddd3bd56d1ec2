from __future__ import annotations

from monai_ssl.data.patients import BY_FILE_NAME
from monai_ssl.study.limits import describe_limits
from monai_ssl.study.scores import read_scores
from tests.study.contents import make_content


def said(content: dict) -> str:
    return "\n".join(describe_limits(content, read_scores(content)))


def test_a_large_finished_study_has_the_limit_of_its_data_alone() -> None:
    assert said(make_content()).splitlines() == [
        "All figures are of one data list: they say nothing about other scanners, sites or tasks."
    ]


def test_few_seeds_and_few_cases() -> None:
    assert "One seed is a single draw" in said(make_content(seeds=1))
    assert "3 seeds are few" in said(make_content(seeds=3))
    assert "1 test case is few" in said(make_content(cases=1))
    assert "19 test cases are few" in said(make_content(cases=19))


def test_patients_with_several_cases_are_told() -> None:
    content = make_content(patients=[number // 2 for number in range(30)])
    assert "The 30 test cases are of 15 patients, who are drawn whole: where intervals and p" in said(content)
    assert "15 patients of test cases are few" in said(content)


def test_a_figure_of_all_cases_together_is_told_from_a_mean() -> None:
    text = said(make_content(metric="cpm", cases=20))
    assert "CPM is one figure of all test cases together and moves in steps" in text
    assert "A rate of 0.125 allows 2.5 false positives in all here" in text
    assert "LUNA16" in text
    assert "A rate of" not in said(make_content(metric="cpm", cases=64))
    text = said(make_content(metric="sensitivity_1", cases=20))
    assert "Sensitivity at 1 FP a scan is one figure of all" in text
    assert "A rate of" not in text
    content = make_content(metric="cpm")
    assert "no width" not in said(content)
    assert "above 0.9" not in said(content)
    content["scores"][0]["values"] = [[1.0] * 30] * 5
    assert "sup with 2 labels: every case and seed alike, all boxes or none found, so the interval has" in said(content)
    assert "Figures above 0.9 have intervals that are too narrow with few test cases" in said(content)
    content["scores"][1]["values"] = [[None] * 30] * 5
    assert "5 runs without any figure left out of every statistic. How such a figure varies cannot be" in said(content)


def test_a_plan_that_grew() -> None:
    assert "after the study began: seed 5 and method cps. Seeds" in said(make_content(growth=["seed 5", "method cps"]))


def test_unknown_patients_and_a_screen_by_test_cases() -> None:
    assert "The list names no patients" in said(make_content(patient_rule=BY_FILE_NAME))
    screen = {"part": "test", "kept": ["sup", "mt", "cps"]}
    assert "the figures flatter what it kept, cps: confirm" in said(make_content(screen=screen))
    assert "The screen" not in said(make_content(screen={**screen, "part": "validation"}))


def test_what_is_left_out_or_missing_is_counted() -> None:
    content = make_content(metric="hausdorff_95", missing=[{"budget": "2", "method": "mt", "seed": 9}])
    content["scores"][0]["values"][0][0] = None
    content["scores"][1]["values"][2] = [None] * 30
    text = said(content)
    assert "1 of 30 test cases left out of every statistic, for all runs alike" in text
    assert "1 run without any figure left out of every statistic" in text
    assert text.count("this spares the runs that fail") == 2
    assert "Not finished: 1 run." in text


def test_a_pretraining_says_what_it_saw_and_what_no_interval_knows() -> None:
    first = {"methods": ["mt"], "bundle": "b", "pretext": "inpainting", "steps": 9, "seeds": "each", "images": 7}
    text = said(make_content(pretrainings=[first]))
    assert "mt is pretrained (inpainting of b) for 9 steps on 7 unlabelled images, the training pool, without" in text
    assert "not counted as labels" in text
    assert "own variation" not in text
    assert "choose the checkpoint" not in text
    first |= {"methods": ["mt", "cps"], "seeds": "shared"}
    text = said(make_content(pretrainings=[first], chosen=["cps"]))
    assert "One pretraining for all seeds of mt and cps: its own variation is not in the intervals." in text
    assert "The cases that choose the checkpoint of cps were pretrained on, without labels." in text


def test_cases_that_were_chosen() -> None:
    text = said(make_content(acquisitions={"mt": "coverage"}))
    assert "mt (coverage) chooses its labelled cases from round to round" in text
    assert "A label counts the same whichever scan it is of" in text
    both = said(make_content(acquisitions={"mt": "coverage", "cps": "uncertainty"}))
    assert "mt (coverage) and cps (uncertainty) choose their labelled cases" in both
    assert said(make_content(acquisitions={"coverage": "coverage"})).count("coverage") == 1
    assert "round to round" not in said(make_content())
