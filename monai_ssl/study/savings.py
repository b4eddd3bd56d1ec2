"""What labels are worth with a method: its share of the gap to the ceiling, and the labels that it saves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from monai_ssl.metrics.segmentation import LOWER_IS_BETTER
from monai_ssl.study.comparisons import ends, named_places
from monai_ssl.study.components import Array
from monai_ssl.study.gap import NoGapError, gap_fraction
from monai_ssl.study.intervals import difference_interval
from monai_ssl.study.labels_saved import LabelsSaved, labels_saved
from monai_ssl.study.power_law import PowerLaw, fit_power_law
from monai_ssl.study.scores import Place, Scores, plain
from monai_ssl.study.words import budget_words, number_of, seed_words, unit_of

__all__ = ["gap_fractions", "power_law", "saved_labels"]

_FrozenCurve = tuple[tuple[int, tuple[tuple[float, ...], ...]], ...]


def gap_fractions(content: Mapping[str, Any], scores: Scores, *, level: float) -> list[dict[str, Any]]:
    """Fraction of the gap between the baseline and its ceiling that each method closes at each budget below.

    The ceiling is the baseline at the plan's largest budget; a single run of it is taken as fixed.

    Args:
        content: as :func:`~monai_ssl.study.table.collect` makes it.
        scores: its scores.
        level: of the intervals.

    Returns:
        Entries with ``fraction``, ``low`` and ``high``, or with ``reason``.
    """
    places = [place for place in named_places(content) if place[0] != content["ceiling"]]
    return [_gap(content, scores, place, level) for place in places]


def saved_labels(
    content: Mapping[str, Any], scores: Scores, law: PowerLaw | None, *, level: float
) -> list[dict[str, Any]]:
    """Labels that each method saves, at every budget within the baseline's range but its largest.

    Where a method is the model of the baseline, since no case was chosen yet, there is nothing to ask.

    Args:
        content: as :func:`~monai_ssl.study.table.collect` makes it.
        scores: its scores.
        law: that of :func:`power_law`, whose answer is given beside the one that counts.
        level: of the intervals.

    Returns:
        Entries with ``points``, one a budget, or with ``reason``.
    """
    methods = dict.fromkeys(method for _, method in named_places(content))
    return [{"method": method, **_saved(content, scores, method, law, level)} for method in methods]


def power_law(content: Mapping[str, Any], scores: Scores) -> tuple[PowerLaw | None, dict[str, Any]]:
    """The power law through the baseline's curve, with plain values, or with ``reason`` where there is none.

    Args:
        content: as :func:`~monai_ssl.study.table.collect` makes it.
        scores: its scores.
    """
    baseline = content["primary"]["baseline"]
    if content["metric"] in LOWER_IS_BETTER:
        return None, {"reason": f"{content['metric']} is no score out of 1, whose error could fall as a power"}
    curve = {}
    for place in _curve_places(content, scores, baseline):
        seeds = scores.seeds(place)
        curve[round(scores.mean_labels(place, seeds))] = scores.array(place, seeds)
    if len(curve) < 3:
        return None, {
            "reason": f"{baseline} has finished runs at {number_of(len(curve), 'budget')}, and a power law needs three"
        }
    if not scores.cases or min(1 - values.mean() for values in curve.values()) <= 0:
        return None, {"reason": "a mean without an error has no logarithm" if scores.cases else "no case has a figure"}
    law = fit_power_law(curve)
    numbers = {name: plain(getattr(law, name)) for name in ("scale", "exponent", "worst_factor")}
    return law, {"method": baseline, **numbers, "measured": list(law.measured), "words": f"{baseline}: {law}"}


def _gap(content: Mapping[str, Any], scores: Scores, place: Place, level: float) -> dict[str, Any]:
    baseline = content["primary"]["baseline"]
    entry = {"budget": place[0], "method": place[1], "baseline": baseline, "ceiling": content["ceiling"]}
    if content["ceiling"] is None:
        return {**entry, "seeds": [], "reason": f"{baseline} has one budget alone, so there is no ceiling"}
    low, top = (place[0], baseline), (content["ceiling"], baseline)
    single = len(scores.seeds(top)) == 1
    seeds = scores.seeds(low, place, *(() if single else (top,)))
    entry["seeds"] = seeds
    reason = scores.refusal(seeds, low, place, top)
    if reason:
        return {**entry, "reason": reason}
    unit, sign = unit_of(content["metric"]), _sign(content)
    base, own = scores.array(low, seeds), scores.array(place, seeds)
    ceiling = scores.array(top, scores.seeds(top) if single else seeds)
    gap = difference_interval(base, ceiling, level=level, unit=unit)
    try:
        found = gap_fraction(sign * base, sign * own, sign * ceiling, level=level, unit=unit)
    except NoGapError:
        words = f"{baseline} with {budget_words(content['ceiling'])} less {baseline} with {budget_words(place[0])}"
        return {**entry, "reason": f"the gap is not told from none: {words} is {gap}"}
    fraction = {name: plain(getattr(found, name)) for name in ("fraction", "low", "high")}
    words = "; ".join(filter(None, [str(found), seed_words(seeds, scores.planned)]))
    words = f"{place[1]} with {budget_words(place[0])}: {words}"
    return {**entry, **fraction, "gap": ends(gap), "ceiling_fixed": found.ceiling_fixed, "words": words}


def _saved(
    content: Mapping[str, Any], scores: Scores, method: str, law: PowerLaw | None, level: float
) -> dict[str, Any]:
    baseline = content["primary"]["baseline"]
    base, own = (_curve_places(content, scores, one) for one in (baseline, method))
    if len(base) < 2:
        return {"reason": f"{baseline} needs finished runs at two budgets, and has them at {len(base)}"}
    top = {place for place in (*base, *own) if place[0] == content["ceiling"] and len(scores.seeds(place)) == 1}
    seeds = scores.seeds(*(place for place in (*base, *own) if place not in top))
    reason = scores.refusal(seeds, *(own or [(content["primary"]["budget"], method)]))
    if reason:
        return {"seeds": seeds, "reason": reason}
    used = {place: scores.seeds(place) if place in top else seeds for place in (*base, *own)}
    labels = {place: round(scores.mean_labels(place, among)) for place, among in used.items()}
    arrays = {place: _sign(content) * scores.array(place, among) for place, among in used.items()}
    curves = [{labels[place]: arrays[place] for place in one} for one in (base, own)]
    if [len(one) for one in curves] != [len(base), len(own)]:
        return {"seeds": seeds, "reason": "two budgets came out at the same number of labels"}
    same = {(one["budget"], one["method"]) for one in content.get("alike", []) if one["as"] == baseline}
    within = [place for place in own if min(curves[0]) <= labels[place] < max(curves[0]) and place not in same]
    asked = {labels[place]: place[0] for place in within}
    if not asked:
        other = ", with another model" if same else ""
        why = f"no budget of {method} lies within those of {baseline}, below the largest{other}"
        return {"seeds": seeds, "reason": why}
    odd = any(len({scores.labels[place][seed] for seed in used[place]}) > 1 for place in used)
    notes = ["labels differ between seeds, since patients stay whole, and their mean counts"] if odd else []
    notes += ["the ceiling is one run, taken as fixed"] if top else []
    notes = [*notes, *filter(None, [seed_words(seeds, scores.planned)])]
    points = []
    for point in _labels_saved(*(_frozen(curve) for curve in curves), tuple(sorted(asked)), level):
        by_law = law.labels(1 - float(np.mean(curves[1][point.labels]))) if law else None
        points.append(_point(point, asked[point.labels], by_law, notes))
    return {"seeds": seeds, "points": points}


def _point(point: LabelsSaved, budget: str, by_law: float | None, notes: list[str]) -> dict[str, Any]:
    names = ("equivalent", "low", "high", "low_together", "saved")
    return {
        "budget": budget,
        "labels": point.labels,
        "side": point.side.strip(),
        **{name: plain(getattr(point, name)) for name in names},
        "measured": list(point.measured),
        "claimed": point.claimed,
        "by_power_law": None if by_law is None else plain(by_law),
        "words": "; ".join([str(point), *notes]),
    }


def _curve_places(content: Mapping[str, Any], scores: Scores, method: str) -> list[Place]:
    return [(budget, method) for budget in content["budgets"] if scores.seeds((budget, method))]


def _sign(content: Mapping[str, Any]) -> float:
    return -1.0 if content["metric"] in LOWER_IS_BETTER else 1.0


def _frozen(curve: Mapping[int, Array]) -> _FrozenCurve:
    return tuple((labels, tuple(map(tuple, values.tolist()))) for labels, values in curve.items())


@lru_cache(maxsize=64)  # the tables are written after every run, and most runs change nothing here
def _labels_saved(
    baseline: _FrozenCurve, method: _FrozenCurve, at: tuple[int, ...], level: float
) -> tuple[LabelsSaved, ...]:
    return labels_saved(dict(baseline), dict(method), at=at, level=level)
