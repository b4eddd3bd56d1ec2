"""What is drawn of a study: the figures of every method by budget, with their places and looks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

__all__ = [
    "BASELINE",
    "PRIMARY",
    "Point",
    "Series",
    "budget_positions",
    "dodge",
    "findings_of",
    "primary_of",
    "read_series",
]

# Okabe and Ito's colours, told apart with every common colour vision; yellow is left out, since it vanishes on white.
# After the fifth they return with dashed lines and other markers.
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "s^vPX<>hp*"
PRIMARY, BASELINE = ("#D55E00", "D"), ("#404040", "o")


@dataclass(frozen=True)
class Point:
    """What is drawn of one method at one budget."""

    budget: str
    labels: float
    mean: float | None
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, ...] = ()

    def known(self) -> tuple[float, ...]:
        """All its numbers on the axis of the metric."""
        return _known([self.mean, self.low, self.high, *self.seeds])


@dataclass
class Series:
    """What is drawn of one method; hollow where only a screen measured it."""

    label: str
    hollow: bool
    figures: list[Point] = field(default_factory=list)
    colour: str = BASELINE[0]
    marker: str = BASELINE[1]
    dashed: bool = False
    factor: float = 1.0  # of x, so that methods stand side by side
    seed_factor: float = 1.0  # of x for the points of seeds, beside their bar

    def at(self, positions: Mapping[str, float]) -> list[float]:
        """X of every figure."""
        return [positions[figure.budget] * self.factor for figure in self.figures]


def read_series(content: Mapping[str, Any]) -> list[Series]:
    """Methods with at least one figure, in the plan's order, with their looks."""
    figures, screened = _figures(content)
    primary, others, found = primary_of(content), 0, []
    for method in dict.fromkeys([*(content.get("methods") or []), *(method for _, method in figures)]):
        one = Series(method, method in screened)
        if method == primary.get("method"):
            one.colour, one.marker = PRIMARY
        elif method != primary.get("baseline"):
            one.colour, one.marker = COLOURS[others % len(COLOURS)], MARKERS[others % len(MARKERS)]
            one.dashed = others >= len(COLOURS)
            others += 1
        own = [figure for (_, other), figure in figures.items() if other == method]
        one.figures = sorted((f for f in own if f.labels > 0 and f.known()), key=lambda figure: figure.labels)
        found.append(one)
    return [one for one in found if one.figures]


def _figures(content: Mapping[str, Any]) -> tuple[dict[tuple[str, str], Point], set[str]]:
    """Figures by budget and method, and the methods that only a screen measured.

    What the findings lack comes from the scores, which are of the grid alone, and what these lack from the runs.
    """
    means = {(one["budget"], one["method"]): one for one in findings_of(content).get("means") or []}
    scores = {(one["budget"], one["method"]): one for one in content.get("scores") or []}
    measured, screened = {method for _, method in (*scores, *means)}, set()
    for run in content.get("runs") or []:
        if run["method"] not in measured:
            entry = scores.setdefault((run["budget"], run["method"]), {"labels": [], "means": []})
            entry["labels"].append(run.get("labels"))
            entry["means"].append(run.get("mean"))
            screened.add(run["method"])
    figures = {}
    for place in {**scores, **means}:
        score, finding = scores.get(place, {}), means.get(place, {})
        seeds = _known(finding["by_seed"] if "by_seed" in finding else score.get("means"))
        labels = finding["labels"] if "labels" in finding else _mean(_known(score.get("labels")))
        mean = finding["mean"] if "mean" in finding else _mean(seeds)
        figures[place] = Point(place[0], labels or 0.0, mean, finding.get("low"), finding.get("high"), seeds)
    return figures, screened


def budget_positions(series: Sequence[Series]) -> dict[str, float]:
    """Labels by budget, rising; where methods differ, the most."""
    positions: dict[str, float] = {}
    for figure in (figure for one in series for figure in one.figures):
        positions[figure.budget] = max(figure.labels, positions.get(figure.budget, 0.0))
    return dict(sorted(positions.items(), key=lambda item: item[1]))


def dodge(series: Sequence[Series], positions: Mapping[str, float], baseline: str | None) -> None:
    """Set methods side by side, the baseline on the tick, others outwards: those with whole curves nearest to it."""
    logs = [math.log(labels) for labels in positions.values()]
    gaps = [after - before for before, after in itertools.pairwise(logs)]
    # so narrow that neighbouring budgets stay apart
    step = min([0.02 * (logs[-1] - logs[0]), *(0.6 * gap / len(series) for gap in gaps)]) if gaps else 0.15
    nearest = sorted(series, key=lambda one: (one.label != baseline, -len(one.figures)))
    for number, one in enumerate(nearest):
        side = 1 if number % 2 else -1
        one.factor = math.exp(step * side * ((number + 1) // 2))
        one.seed_factor = math.exp(-0.35 * step)


def findings_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``study.json`` found, or nothing yet."""
    return content.get("findings") or {}


def primary_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The primary contrast of ``study.json``."""
    return content.get("primary") or {}


def _known(values: Iterable[float | None] | None) -> tuple[float, ...]:
    return tuple(value for value in values or () if value is not None)


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
