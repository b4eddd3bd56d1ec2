"""Every method against the baseline: the primary contrast, the family of all others, and "not worse"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_ssl.metrics.segmentation import LOWER_IS_BETTER
from monai_ssl.study.contrasts import holm, non_inferiority, paired_contrast
from monai_ssl.study.intervals import Interval
from monai_ssl.study.measures import MEASURES
from monai_ssl.study.scores import Place, Scores, plain
from monai_ssl.study.words import budget_words, joined, number_of, p_words, seed_words, unit_of, verdict

__all__ = ["compare", "contrast_at", "ends", "named_places"]

_P_DECIMALS = 12


def compare(content: Mapping[str, Any], scores: Scores, *, level: float) -> dict[str, Any]:
    """Compare every method with the baseline at every budget.

    The primary contrast stands alone, as it was named before anything ran. All others are one family under Holm: those
    that have no result yet count in its size, so that an adjusted p value only falls when they come.

    Args:
        content: as :func:`~monai_ssl.study.table.collect` makes it.
        scores: its scores.
        level: of the intervals; the family may have a false find in a fraction ``1 - level`` of studies.

    Returns:
        ``primary``, ``others`` with ``family``, and ``non_inferiority``, which is empty where there is no margin.
    """
    named, baseline = content["primary"], content["primary"]["baseline"]
    first = (named["budget"], named["method"])
    others = [place for place in named_places(content) if place != first]
    primary = _decided(contrast_at(content, scores, first, level=level), content["metric"], level)
    contrasts = [contrast_at(content, scores, place, level=level) for place in others]
    p_values = {str(number): one.get("p_value", 1.0) for number, one in enumerate(contrasts)}
    adjusted = holm(p_values, level=1 - level).adjusted.values() if contrasts else ()
    family = [_decided(one, content["metric"], level, p_holm=p) for one, p in zip(contrasts, adjusted, strict=True)]
    asked = [] if content.get("margin") is None else [primary, *family]
    return {
        "primary": primary,
        "others": family,
        "family": _family_words(family, baseline, level),
        "non_inferiority": [_not_worse(content, scores, one, level) for one in asked],
    }


def named_places(content: Mapping[str, Any]) -> list[Place]:
    """Budgets and methods that the plan, or its screen, compares with the baseline.

    Without those that cannot be, and those that are the same model as another one, where no case was chosen yet.
    """
    baseline = content["primary"]["baseline"]
    impossible: dict[Place, set[int]] = {}
    for one in content["impossible"]:
        impossible.setdefault((one["budget"], one["method"]), set()).add(one["seed"])
    never = {place for place, seeds in impossible.items() if seeds >= set(content["seeds"])}
    never |= {(one["budget"], one["method"]) for one in content.get("alike", [])}
    methods = [one for one in content.get("screen", {}).get("kept", content["methods"]) if one != baseline]
    budgets = [one for one in content["budgets"] if (one, baseline) not in never]
    return [(budget, method) for budget in budgets for method in methods if (budget, method) not in never]


def ends(interval: Interval) -> dict[str, float]:
    """An interval as plain values."""
    return {"mean": plain(interval.mean), "low": plain(interval.low), "high": plain(interval.high)}


def contrast_at(content: Mapping[str, Any], scores: Scores, place: Place, *, level: float) -> dict[str, Any]:
    """The difference of a budget and method to the baseline at that budget, or the reason why there is none.

    Args:
        content: as :func:`~monai_ssl.study.table.collect` makes it.
        scores: of the metric that ``content`` names.
        place: budget and method.
        level: of the interval.
    """
    budget, method = place
    reference = (budget, content["primary"]["baseline"])
    seeds = scores.seeds(reference, place)
    entry = {"budget": budget, "method": method, "baseline": reference[1], "seeds": seeds}
    reason = scores.refusal(seeds, reference, place)
    if reason:
        return {**entry, "reason": reason}
    arrays = scores.array(reference, seeds), scores.array(place, seeds)
    found = paired_contrast(*arrays, level=level, unit=unit_of(content["metric"]))
    notes = [f"{method} against {reference[1]} with {budget_words(budget)}: {found}"]
    notes += ["less is better"] if content["metric"] in LOWER_IS_BETTER else []
    return {
        **entry,
        "effect": ends(found.effect),
        "p_value": found.p_value,
        "p_cases": plain(found.p_cases, _P_DECIMALS),
        "p_wilcoxon": plain(found.p_wilcoxon, _P_DECIMALS),
        "words": "; ".join([*notes, *filter(None, [seed_words(seeds, scores.planned)])]),
    }


def _decided(contrast: dict[str, Any], metric: str, level: float, p_holm: float | None = None) -> dict[str, Any]:
    """The contrast with what it shows: by its own p value, or by the one that Holm has adjusted."""
    if "reason" in contrast:
        return contrast
    p_value = contrast["p_value"]
    found = (p_value if p_holm is None else p_holm) < 1 - level
    decision = verdict(contrast["effect"]["mean"], found, metric)
    family = {} if p_holm is None else {"p_holm": plain(p_holm, _P_DECIMALS)}
    words = [contrast["words"], *([] if p_holm is None else [f"Holm {p_words(p_holm)}"]), decision]
    return {
        **contrast,
        "p_value": plain(p_value, _P_DECIMALS),
        **family,
        "found": found,
        "verdict": decision,
        "words": "; ".join(words),
    }


def _family_words(family: Sequence[Mapping[str, Any]], baseline: str, level: float) -> str:
    if not family:
        return "There is no contrast but the primary one."
    methods = list(dict.fromkeys(entry["method"] for entry in family))
    words = (
        f"{number_of(len(family), 'contrast')} besides the primary one: {joined(methods)} against {baseline} at every "
        f"budget where both can be. One family, corrected by Holm: the chance of any false find in it is at most "
        f"{(1 - level) * 100:g} %."
    )
    untold = sum("reason" in entry for entry in family)
    return words + (f" {untold} of them without a result count in its size." if untold else "")


def _not_worse(content: Mapping[str, Any], scores: Scores, contrast: Mapping[str, Any], level: float) -> dict[str, Any]:
    margin = float(content["margin"])
    entry = {**{name: contrast[name] for name in ("budget", "method", "baseline", "seeds")}, "margin": margin}
    if "reason" in contrast:
        return {**entry, "reason": contrast["reason"]}
    sign = -1.0 if content["metric"] in LOWER_IS_BETTER else 1.0
    budget, method, baseline = contrast["budget"], contrast["method"], contrast["baseline"]
    arrays = (sign * scores.array((budget, one), contrast["seeds"]) for one in (baseline, method))
    unit = unit_of(content["metric"])
    result = non_inferiority(*arrays, margin=margin, level=level, unit=unit)
    no_width = plain(result.effect.low) == plain(result.effect.high)
    if no_width and content["metric"] in MEASURES and MEASURES[content["metric"]].rates:
        return {**entry, "reason": "no case tells the two apart, which says nothing of cases that would"}
    bound = sign * result.effect.low
    words = (
        f"{method} with {budget_words(budget)}: not worse than {baseline} by {margin:g} {unit} "
        f"{'' if result.shown else 'not '}shown (the interval's worse end is {bound:+.4f})"
    )
    return {**entry, "bound": plain(bound), "shown": result.shown, "words": words}
