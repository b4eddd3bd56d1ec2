"""What a study cannot tell, as far as that follows from its own content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from monai_ssl.data.patients import BY_FILE_NAME
from monai_ssl.metrics.segmentation import LOWER_IS_BETTER
from monai_ssl.study.measures import MEASURES
from monai_ssl.study.scores import Scores
from monai_ssl.study.words import budget_words, joined, number_of
from monai_ssl.utils.keys import ListParts

__all__ = ["describe_limits"]

_FEW_SEEDS, _FEW_CASES = 5, 20
_NEAR_ONE, _MANY_CASES = 0.9, 60  # where a single detection figure is too sure of itself
_FEW_FALSES = 8  # below, a sensitivity at so many false positives in all moves with single boxes


def describe_limits(content: Mapping[str, Any], scores: Scores) -> list[str]:
    """Say what no figure of the study shows.

    Args:
        content: as :func:`~monai_ssl.study.table.collect` makes it.
        scores: its scores.

    Returns:
        Sentences for a person.
    """
    of_plan = [*_of_draws(content), *_of_detection(content, scores), *_of_growth(content)]
    of_plan += _of_patients(content, scores)
    of_plan += _of_screen(content)
    return [*of_plan, *_of_pretraining(content), *_of_acquisition(content), *_of_figures(content, scores)]


def _of_draws(content: Mapping[str, Any]) -> list[str]:
    seeds, cases = len(content["seeds"]), len(content["cases"])
    patients = len({*content.get("patients", range(cases))})
    said = []
    if seeds == 1:
        said.append("One seed is a single draw of labelled cases and initialisation: nothing is shown for another.")
    elif seeds < _FEW_SEEDS:
        said.append(f"{seeds} seeds are few: intervals are wide, and differences that matter can go unseen.")
    if patients < min(cases, _FEW_CASES):
        said.append(f"{number_of(patients, 'patient')} of test cases are few to stand for others.")
    elif cases < _FEW_CASES:
        said.append(f"{number_of(cases, 'test case')} {'is' if cases == 1 else 'are'} few to stand for other cases.")
    said.append("All figures are of one data list: they say nothing about other scanners, sites or tasks.")
    return said


def _of_detection(content: Mapping[str, Any], scores: Scores) -> list[str]:
    measure, cases = MEASURES.get(content["metric"]), len(content["cases"])
    if measure is None or not measure.rates:
        return []
    lowest, allowed = min(measure.rates), min(measure.rates) * cases
    few = f" A rate of {lowest:g} allows {allowed:g} false positives in all here: it moves with single boxes."
    alike = [place for place, seeds in scores.values.items() if scores.cases and np.ptp([*seeds.values()]) == 0]
    named = joined([f"{method} with {budget_words(budget)}" for budget, method in alike])
    same = (
        f"{named}: every case and seed alike, all boxes or none found, so the interval has no width. Do not believe it."
    )
    near = any(values.mean() > _NEAR_ONE for seeds in scores.values.values() for values in seeds.values())
    narrow = "Figures above 0.9 have intervals that are too narrow with few test cases (87 to 94 % in simulation)."
    return [
        *([same] if alike else []),
        *([narrow] if scores.cases and near and cases < _MANY_CASES else []),
        f"{measure.title[:1].upper()}{measure.title[1:]} is one figure of all test cases together and moves in steps: "
        f"its intervals rest on a jackknife over cases, and are approximate.{few if allowed < _FEW_FALSES else ''} A "
        "hit is an overlap of boxes, so no figure here compares with those of other rules, such as LUNA16's.",
    ]


def _of_growth(content: Mapping[str, Any]) -> list[str]:
    if not content["growth"]:
        return []
    return [
        f"Added to the plan after the study began: {joined(content['growth'])}. Seeds or methods that are added until "
        "a difference shows find differences that are not there, and no p value here knows of it."
    ]


def _of_patients(content: Mapping[str, Any], scores: Scores) -> list[str]:
    if scores.patients < scores.cases:
        return [
            f"The {scores.cases} test cases are of {number_of(scores.patients, 'patient')}, who are drawn whole: where "
            "intervals and p values speak of cases, they mean these."
        ]
    if content["patient_rule"] != BY_FILE_NAME:
        return []
    return [
        "The list names no patients, so every file counts as one. Where two files are of one person, labelled, "
        "unlabelled and test cases may share persons, figures flatter, and intervals are too narrow."
    ]


def _of_screen(content: Mapping[str, Any]) -> list[str]:
    screen = content.get("screen")
    if screen is None or screen["part"] != ListParts.TEST:
        return []
    named = (content["primary"]["method"], content["primary"]["baseline"])
    chosen = [method for method in screen["kept"] if method not in named]
    flattered = f"flatter what it kept, {joined(chosen)}" if chosen else "can flatter what it kept"
    return [f"The screen looked at the test cases, so the figures {flattered}: confirm on other cases with new seeds."]


def _of_pretraining(content: Mapping[str, Any]) -> list[str]:
    said = []
    for one in content.get("pretrainings", []):
        names, chosen = joined(one["methods"]), [name for name in one["methods"] if name in content["chosen"]]
        said.append(
            f"{names} {'is' if len(one['methods']) == 1 else 'are'} pretrained ({one['pretext']} of {one['bundle']}) "
            f"for {one['steps']} steps on {number_of(one['images'], 'unlabelled image')}, the training pool, without "
            "validation and test cases. That costs time, in times.csv, which is not counted as labels."
        )
        if one["seeds"] == "shared":
            said.append(f"One pretraining for all seeds of {names}: its own variation is not in the intervals.")
        if chosen:
            said.append(f"The cases that choose the checkpoint of {joined(chosen)} were pretrained on, without labels.")
    return said


def _of_acquisition(content: Mapping[str, Any]) -> list[str]:
    strategies = content.get("acquisitions", {})
    if not strategies:
        return []
    named = joined([label if label == one else f"{label} ({one})" for label, one in strategies.items()])
    choose = "chooses its" if len(strategies) == 1 else "choose their"
    return [
        f"{named} {choose} labelled cases from round to round, with the model of the round before: what is compared is "
        "whole ways of labelling, from the same first cases, in steps of these sizes. The budgets of a seed are one "
        "chain, so a budget is no evidence apart from those before it.",
        "A label counts the same whichever scan it is of: how long one takes to draw is in no figure.",
    ]


def _of_figures(content: Mapping[str, Any], scores: Scores) -> list[str]:
    said = []
    left_out, runs = len(scores.left_out_cases), len(scores.left_out_runs)
    empty = " A run that misses a class has no distance there, so this spares the runs that fail."
    why = empty if content["metric"] in LOWER_IS_BETTER else ""
    if content["metric"] in MEASURES and MEASURES[content["metric"]].task == "detection":
        why = " How such a figure varies cannot be told where fewer than two cases have a box."
    if left_out:
        said.append(
            f"{left_out} of {number_of(len(content['cases']), 'test case')} left out of every statistic, for all runs "
            f"alike, since some run has no figure there.{why}"
        )
    if runs:
        said.append(f"{number_of(runs, 'run')} without any figure left out of every statistic.{why}")
    if content["missing"]:
        said.append(
            f"Not finished: {number_of(len(content['missing']), 'run')}. Until then every figure is a look on the way, "
            "and a study that stops where they please flatters itself."
        )
    return said
