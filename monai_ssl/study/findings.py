"""What a study shows, from the content of ``study.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_ssl.study.comparisons import compare, contrast_at, ends, named_places
from monai_ssl.study.intervals import mean_interval
from monai_ssl.study.limits import describe_limits
from monai_ssl.study.measures import MEASURES
from monai_ssl.study.savings import gap_fractions, power_law, saved_labels
from monai_ssl.study.scores import Scores, plain, read_scores
from monai_ssl.study.words import budget_words, effect_words, number_of, p_words, unit_of

__all__ = ["find"]

_LEVEL = 0.95


def find(content: Mapping[str, Any]) -> dict[str, Any]:
    """Work out all statistics of a study, however far it is.

    Every entry names its ``budget``, ``method`` and the ``seeds`` that it rests on. What cannot be told has a
    ``reason`` in words in place of figures; figures have ``words`` beside them. Intervals and p values are for other
    seeds and other cases; with one seed or one case there are none.

    Args:
        content: as :func:`~monai_ssl.study.table.collect` makes it.

    Returns:
        Plain values. ``answer``: sentences for a person. ``level``: of all intervals. ``unit``. ``left_out_cases`` and
        ``left_out_runs``: see :func:`~monai_ssl.study.scores.read_scores`. ``means``: one for each budget and method.
        ``primary``, ``others``, ``family``, ``non_inferiority``: see :func:`~monai_ssl.study.comparisons.compare`.
        ``gap``, ``labels_saved``, ``power_law``: see :mod:`monai_ssl.study.savings`. ``beside``: what the other
        measures of ``content["beside"]`` say, which decides nothing, and so has intervals and no p values: for each its
        ``metric``, ``unit``, the number of ``cases`` with a figure in every run, ``means``, and ``differences`` to the
        baseline, the primary contrast's first. ``limits``: sentences that say what the study cannot tell.
    """
    scores = read_scores(content)
    compared = compare(content, scores, level=_LEVEL)
    law, law_values = power_law(content, scores)
    saved = saved_labels(content, scores, law, level=_LEVEL)
    return {
        "answer": [_primary_answer(content, compared["primary"], scores), _saved_answer(content, saved)],
        "level": _LEVEL,
        "unit": unit_of(content["metric"]),
        "left_out_cases": list(scores.left_out_cases),
        "left_out_runs": list(scores.left_out_runs),
        "means": [_mean(entry, scores, content["metric"]) for entry in content["scores"]],
        **compared,
        "gap": gap_fractions(content, scores, level=_LEVEL),
        "labels_saved": saved,
        "power_law": law_values,
        "beside": [_beside(content, other) for other in content.get("beside", [])],
        "limits": describe_limits(content, scores),
    }


def _mean(entry: Mapping[str, Any], scores: Scores, metric: str) -> dict[str, Any]:
    """The mean of all runs at a place; its interval ends where the metric does."""
    place = (entry["budget"], entry["method"])
    seeds = scores.seeds(place) if scores.cases else []
    values = scores.array(place, seeds) if seeds else None
    figures: dict[str, Any] = {"mean": None, "low": None, "high": None}
    if values is not None:
        figures["mean"] = plain(values.mean())
        if min(values.shape) > 1:
            figures = ends(mean_interval(values, level=_LEVEL))
            figures |= {"low": max(0.0, figures["low"]), "high": min(MEASURES[metric].most, figures["high"])}
    return {
        "budget": place[0],
        "method": place[1],
        "labels": plain(sum(entry["labels"]) / len(entry["labels"])),
        "seeds": seeds,
        "by_seed": [] if values is None else [plain(mean) for mean in values.mean(1)],
        **figures,
    }


def _beside(content: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    told = {**content, "metric": other["metric"], "scores": other["scores"]}
    scores = read_scores(told)
    first = (content["primary"]["budget"], content["primary"]["method"])
    places = [first, *(place for place in named_places(content) if place != first)]
    contrasts = [contrast_at(told, scores, place, level=_LEVEL) for place in places]
    shown = ("budget", "method", "baseline", "seeds", "effect", "reason")
    return {
        "metric": other["metric"],
        "unit": unit_of(other["metric"]),
        "cases": scores.cases,
        "means": [_mean(entry, scores, other["metric"]) for entry in other["scores"]],
        "differences": [{name: one[name] for name in shown if name in one} for one in contrasts],
    }


def _primary_answer(content: Mapping[str, Any], primary: Mapping[str, Any], scores: Scores) -> str:
    method, baseline, labels = primary["method"], primary["baseline"], budget_words(primary["budget"])
    if "reason" in primary:
        return f"Whether {method} is better than {baseline} with {labels} cannot be told: {primary['reason']}."
    seeds, planned = len(primary["seeds"]), len(content["seeds"])
    so_far = "" if seeds == planned else f"So far, with {seeds} of {number_of(planned, 'planned seed')}: "
    of_patients = f" of {number_of(scores.patients, 'patient')}" if scores.patients < scores.cases else ""
    figures = (
        f"{effect_words(primary['effect'], content['metric'])}, {p_words(primary['p_value'])}, over "
        f"{number_of(seeds, 'seed')} and {number_of(scores.cases, 'test case')}{of_patients}"
    )
    if primary["found"]:
        return f"{so_far}{method} with {labels} is {primary['verdict']} than {baseline}: {figures}."
    none = "no difference is shown, which does not show that there is none"
    return f"{so_far}{method} with {labels} against {baseline}: {none}: {figures}."


def _saved_answer(content: Mapping[str, Any], saved: list[dict[str, Any]]) -> str:
    primary = content["primary"]
    entry: dict[str, Any] = next((one for one in saved if one["method"] == primary["method"]), {"reason": "not asked"})
    if "reason" in entry:
        return f"How many labels {primary['method']} saves cannot be told: {entry['reason']}."
    for point in entry["points"]:
        if point["budget"] == primary["budget"]:
            return f"In labels of {primary['baseline']}, with {primary['method']} {point['words']}."
    return (
        f"How many labels {primary['method']} saves with {budget_words(primary['budget'])} cannot be told: that is not "
        f"below the largest budget of {primary['baseline']}."
    )
