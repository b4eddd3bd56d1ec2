"""The first stage of a staged study: which methods go on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from monai_ssl.metrics.segmentation import LOWER_IS_BETTER
from monai_ssl.study.plan import Plan, screen_runs
from monai_ssl.study.state import Study
from monai_ssl.utils.keys import ListParts

__all__ = ["Choice", "choose", "most_kept"]


@dataclass(frozen=True)
class Choice:
    """What a screen decided.

    Attributes:
        budget: its labelled budget.
        seeds: its seeds.
        part: part of the data list that it looked at.
        means: mean of the metric over seeds by label; ``None`` where a run failed or has no figure.
        kept: labels that go on, in the plan's order.
    """

    budget: str
    seeds: tuple[int, ...]
    part: str
    means: dict[str, float | None]
    kept: tuple[str, ...]

    def content(self) -> dict[str, Any]:
        """Plain values for ``study.json``."""
        note = f"The screen at {self.budget} labels ({len(self.seeds)} seeds) chose by {self.part} cases: "
        note += ", ".join(f"{label} {'no figure' if m is None else f'{m:.4f}'}" for label, m in self.means.items())
        note += f". Went on: {', '.join(self.kept)}."
        if self.part == ListParts.TEST:
            note += " It looked at the test cases, so the figures of what went on flatter it: confirm on other cases."
        return {**vars(self), "seeds": list(self.seeds), "kept": list(self.kept), "note": note}


def choose(study: Study) -> Choice | None:
    """Keep the best methods of the screen, the baseline, and the method of the primary contrast.

    The ``keep`` best are the methods, the baseline aside, with the best mean of the metric over the screen's seeds, on
    the validation cases where the study has any, else on the test cases; of equals the first in the plan. The primary
    contrast was named before anything ran, so its method goes on in any case. A method with a failed run does not.

    Args:
        study: the study; its screen is done.

    Returns:
        The choice, or ``None`` where the plan has no screen.
    """
    plan = study.plan
    if plan.screen is None:
        return None
    part = str(ListParts.VALIDATION if study.screens_on_validation else ListParts.TEST)
    figures: dict[str, list[float | None]] = {method.label: [] for method in plan.methods}
    for spec in study.possible(screen_runs(plan)):
        done = study.is_finished(spec)
        mean = json.loads(study.metrics(spec, part).read_text(encoding="utf-8"))["mean"][plan.metric] if done else None
        figures[spec.method.label].append(mean)
    means = {label: _mean(values) for label, values in figures.items()}
    sign = 1 if plan.metric in LOWER_IS_BETTER else -1
    known = {label: mean for label, mean in means.items() if mean is not None and label != plan.primary.baseline}
    best = sorted(known, key=lambda label: sign * known[label])[: plan.screen.keep]
    kept = tuple(label for label in means if label in (*best, plan.primary.baseline, plan.primary.method))
    return Choice(plan.screen.budget, plan.screen.seeds, part, means, kept)


def most_kept(plan: Plan) -> tuple[str, ...]:
    """As many labels as can go on after the screen, for an estimate; all where the plan has no screen."""
    labels = [method.label for method in plan.methods]
    named = (plan.primary.baseline, plan.primary.method)
    others = [label for label in labels if label not in named]
    return tuple(label for label in labels if plan.screen is None or label in (*named, *others[: plan.screen.keep]))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
