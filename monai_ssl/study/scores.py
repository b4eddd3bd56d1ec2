"""The finished runs of a study as arrays of seeds by cases: the same cases for all, and the seeds that they share.

Where several test cases are of one patient, the columns are patients, for cases of one patient are no draws apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_ssl.study.components import Array
from monai_ssl.study.words import budget_words

__all__ = ["Place", "Scores", "by_patient", "plain", "read_scores"]

Place = tuple[str, str]
"""Budget and method of a run."""


@dataclass(frozen=True)
class Scores:
    """Scores of the grid.

    Attributes:
        values: a score for each of the cases that every run has a figure of, by budget and method, then by seed; of
            patients where these have several, see :func:`by_patient`.
        labels: number of labels, in the same way.
        cases: number of these cases.
        patients: number of patients that they are of, which is that of scores.
        planned: the plan's seeds.
        left_out_cases: cases without a figure in some run.
        left_out_runs: runs without any figure.
    """

    values: Mapping[Place, Mapping[int, Array]]
    labels: Mapping[Place, Mapping[int, int]]
    cases: int
    patients: int
    planned: tuple[int, ...]
    left_out_cases: tuple[str, ...]
    left_out_runs: tuple[dict[str, Any], ...]

    def seeds(self, *places: Place) -> list[int]:
        """Seeds that are there at every one of the places, so that they pair."""
        return [seed for seed in self.planned if all(seed in self.values.get(place, {}) for place in places)]

    def array(self, place: Place, seeds: Iterable[int]) -> Array:
        """Scores of a place.

        Shape:
            - Output: ``(S, N)``, seeds by cases, or patients
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
        if self.patients == 1:
            return "all test cases are of one patient, which shows nothing about others"
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
    owners = np.array(content.get("patients", range(len(known))))[known]
    return Scores(
        {
            place: {seed: by_patient(_chosen(values, known), owners) for seed, values in group.items()}
            for place, group in rows.items()
        },
        labels,
        sum(known),
        len(np.unique(owners)),
        tuple(content["seeds"]),
        tuple(case for case, is_known in zip(content["cases"], known, strict=True) if not is_known),
        tuple(without),
    )


def by_patient(values: Array, owners: NDArray[np.int64]) -> Array:
    r"""One score a patient, with the mean of the cases' scores as their mean.

    The mean of N cases of P patients is the ratio of two sums over patients, of scores and of numbers of cases. Its
    linearisation is, for patient p with cases :math:`C_p`,

    .. math:: z_p = \bar y + \frac{P}{N} \sum_{c \in C_p} (y_c - \bar y), \qquad \frac{1}{P} \sum_p z_p = \bar y

    so statistics of the :math:`z_p` are those of the mean over cases, with whole patients drawn. Where each patient has
    as many cases they are the patients' means, and where each has one, the scores themselves.

    Args:
        values: scores of cases.
        owners: the patient of each, as a number.

    Shape:
        - values, owners: ``(N,)``
        - Output: ``(P,)``, by rising number

    Reference:
        W. G. Cochran: Sampling Techniques, 3rd edition, Wiley 1977, sections 6.3 and 9A.
    """
    names, place = np.unique(owners, return_inverse=True)
    if len(names) == len(values):
        return values[np.argsort(owners)]
    mean = values.mean()
    scores: Array = mean + len(names) / len(values) * np.bincount(place, values - mean)
    return scores


def plain(value: float, decimals: int = 9) -> float:
    """A number for a file: what lies beyond are rounding errors, others with another number of threads."""
    return round(float(value), decimals) + 0.0  # no negative zero


def _chosen(values: Sequence[float | None], known: Sequence[bool]) -> Array:
    return np.array([value for value, is_known in zip(values, known, strict=True) if is_known], dtype=np.float64)
