"""How budgets, units, p values and verdicts are called in tables and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai_ssl.metrics.segmentation import LOWER_IS_BETTER
from monai_ssl.study.measures import MEASURES

__all__ = ["budget_words", "effect_words", "joined", "number_of", "p_words", "seed_words", "unit_of", "verdict"]


def unit_of(metric: str) -> str:
    """What a metric is measured in."""
    return MEASURES[metric].unit if metric in MEASURES else metric


def budget_words(budget: str) -> str:
    """A labelled budget in a sentence: ``2 labels``, ``10% of the labels``, ``all labels``."""
    if budget.endswith("%"):
        return f"{budget} of the labels"
    return "all labels" if budget == "all" else number_of(int(budget), "label")


def number_of(count: int, name: str) -> str:
    """A number with its noun: ``1 run``, ``2 runs``."""
    return f"{count} {name}{'' if count == 1 else 's'}"


def joined(names: Sequence[str]) -> str:
    """Names in a sentence: ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def p_words(value: float) -> str:
    """A p value: ``p = 0.032``, ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def seed_words(seeds: Sequence[int], planned: Sequence[int]) -> str:
    """Seeds of a figure, such as ``3 of 5 planned seeds``; empty where all of them are there."""
    return "" if len(seeds) >= len(planned) else f"{len(seeds)} of {number_of(len(planned), 'planned seed')}"


def verdict(difference: float, found: bool, metric: str) -> str:
    """``better``, ``worse``, or ``not shown``.

    Args:
        difference: of the method to the baseline, in the metric's own sign.
        found: whether it is told from none.
        metric: its name, of :data:`~monai_ssl.study.measures.MEASURES`.
    """
    if not found:
        return "not shown"
    return "better" if (difference < 0) == (metric in LOWER_IS_BETTER) else "worse"


def effect_words(effect: dict[str, Any], metric: str) -> str:
    """A difference with its interval, such as ``+0.031 Dice, 95 % interval 0.010 to 0.052``."""
    ends = f"{effect['low']:.3f} to {effect['high']:.3f}"
    less = ", less being better" if metric in LOWER_IS_BETTER else ""
    return f"{effect['mean']:+.3f} {unit_of(metric)} (95 % interval {ends}{less})"
