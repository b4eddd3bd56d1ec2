"""The finished runs of a study as arrays of seeds by cases: the same cases for all, and the seeds that they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from monai_ssl.study.components import Array
from monai_ssl.study.words import budget_words

__all__ = ["Place", "Scores", "plain", "read_scores"]

Place = tuple[str, str]
"""Budget and method of a run."""


@dataclass(frozen=True)
class Scores:
    """Scores of the grid.

    Attributes:
        values: a score for each of the cases that every run has a figure of, by budget and method, then by seed.
        labels: number of labels, in the same way.
        cases: number of these cases.
        planned: the plan's seeds.
        left_out_cases: cases without a figure in some run.
        left_out_runs: runs without any figure.
    """

    values: Mapping[Place, Mapping[int, Array]]
    labels: Mapping[Place, Mapping[int, int]]
    cases: int
    planned: tuple[int, ...]
    left_out_cases: tuple[str, ...]
    left_out_runs: tuple[dict[str, Any], ...]

    def seeds(self, *places: Place) -> list[int]:
        """Seeds that are there at every one of the places, so that they pair."""
        return [seed for seed in self.planned if all(seed in self.values.get(place, {}) for place in places)]

    def array(self, place: Place, seeds: Iterable[int]) -> Array:
        """Scores of a place.

        Shape:
            - Output: ``(S, N)``, seeds by cases
        """
        return np.stack([self.values[place][seed] for seed in seeds])

    def mean_labels(self, place: Place, seeds: Iterable[int]) -> float:
        """Mean number of labels over seeds, which whole patients can make differ."""
        return fmean(self.labels[place][seed] for seed in seeds)

    def refusal(self, seeds: Sequence[int], *places: Place) -> str:
        """Why these seeds of these places show nothing for other seeds and cases, in words; empty where they do."""
        for budget, method in places:
            if not self.values.get((budget, method)):
                return f"no finished run of {method} with {budget_words(budget)} has figures"
        if not seeds:
            return "no seed has all the runs that this needs"
        if len(seeds) == 1:
            return f"one seed alone ({seeds[0]}) has the runs that this needs, which shows nothing about other seeds"
        if not self.cases:
            return "no test case has a figure in every run"
        if self.cases == 1:
            return "one test case alone has a figure in every run, which shows nothing about other cases"
        return ""


def read_scores(content: Mapping[str, Any]) -> Scores:
    """Read the scores of ``study.json``.

    A case without a figure in some run is left out of all runs, so that every mean is over the same cases. A run
    without any figure is left out itself, since it would take all cases with it.

    Args:
        content: as :func:`~monai_ssl.study.table.collect` makes it.
    """
    rows: dict[Place, dict[int, list[float | None]]] = {}
    labels: dict[Place, dict[int, int]] = {}
    without = []
    for entry in content["scores"]:
        place = (entry["budget"], entry["method"])
        for seed, count, values in zip(entry["seeds"], entry["labels"], entry["values"], strict=True):
            if all(value is None for value in values):
                without.append({"budget": place[0], "method": place[1], "seed": seed})
            else:
                rows.setdefault(place, {})[seed] = values
                labels.setdefault(place, {})[seed] = count
    every = [values for group in rows.values() for values in group.values()]
    known = [all(values[case] is not None for values in every) for case in range(len(content["cases"]))]
    return Scores(
        {place: {seed: _chosen(values, known) for seed, values in group.items()} for place, group in rows.items()},
        labels,
        sum(known),
        tuple(content["seeds"]),
        tuple(case for case, is_known in zip(content["cases"], known, strict=True) if not is_known),
        tuple(without),
    )


def plain(value: float, decimals: int = 9) -> float:
    """A number for a file: what lies beyond are rounding errors, others with another number of threads."""
    return round(float(value), decimals) + 0.0  # no negative zero


def _chosen(values: Sequence[float | None], known: Sequence[bool]) -> Array:
    return np.array([value for value, is_known in zip(values, known, strict=True) if is_known], dtype=np.float64)
