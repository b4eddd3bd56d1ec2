"""The test cases of a study, each with its figure by the method and by the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from monai_ssl.metrics.segmentation import LOWER_IS_BETTER
from monai_ssl.report.study_files import StudyFiles

__all__ = ["CasePair", "ScoredCase", "paired_cases", "shared_seeds", "worst_median_best"]


@dataclass(frozen=True)
class ScoredCase:
    """A case with its figure by a method; ``number`` is its place among all."""

    number: int
    name: str
    method: float


@dataclass(frozen=True)
class CasePair(ScoredCase):
    """A test case: the mean over seeds of the method's and of the baseline's figure."""

    baseline: float


Case = TypeVar("Case", bound=ScoredCase)


def paired_cases(study: StudyFiles, seeds: Sequence[int]) -> list[CasePair]:
    """The cases in which both methods of the primary contrast have a figure with all of some seeds, in their order.

    Args:
        study: the study.
        seeds: that both have; see :func:`shared_seeds`.
    """
    tables = [study.scores(study.budget, label) for label in (study.method, study.baseline)]
    pairs = []
    for number, name in enumerate(study.case_names):
        values = [[table[seed][number] for seed in seeds] for table in tables]
        known = [[value for value in of_method if value is not None] for of_method in values]
        if seeds and all(len(of_method) == len(seeds) for of_method in known):
            pairs.append(CasePair(number, name, fmean(known[0]), fmean(known[1])))
    return pairs


def shared_seeds(study: StudyFiles) -> list[int]:
    """The seeds with which both methods of the primary contrast are finished."""
    method, baseline = (study.scores(study.budget, label) for label in (study.method, study.baseline))
    return [seed for seed in method if seed in baseline]


def worst_median_best(cases: Sequence[Case], metric: str) -> list[tuple[str, Case]]:
    """Three cases by the figure of the method, fewer where there are no three.

    Args:
        cases: such as those of :func:`paired_cases`.
        metric: says whether less is better.
    """
    sign = -1 if metric in LOWER_IS_BETTER else 1
    ranked = sorted(cases, key=lambda case: (sign * case.method, case.name))
    if len(ranked) < 3:
        return list(zip(("Worst", "Best") if len(ranked) == 2 else ("Only case",), ranked, strict=False))
    return [("Worst", ranked[0]), ("Median", ranked[(len(ranked) - 1) // 2]), ("Best", ranked[-1])]
