"""What ``study.json`` holds of a study that was never run: figures with a known truth."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

BUDGETS = {"2": 2, "4": 4, "8": 8, "all": 32}
# of the baseline, without noise; each method's gain is added
MEANS = {"2": 0.6, "4": 0.7, "8": 0.75, "all": 0.8}


def make_content(
    gains: dict[str, float] | None = None,
    *,
    seeds: int = 5,
    cases: int = 30,
    noise: float = 0.01,
    metric: str = "dice",
    budgets: tuple[str, ...] = tuple(BUDGETS),
    **changes: Any,
) -> dict[str, Any]:
    """Content of a finished study; with ``hausdorff_95`` the figures are 1 - Dice, so that all is mirrored."""
    rng = np.random.default_rng(0)
    gains = {"sup": 0.0, **({"mt": 0.05, "cps": 0.0} if gains is None else gains)}
    shared = noise * (3 * rng.normal(size=(1, cases)) + rng.normal(size=(seeds, 1)))
    scores, impossible = [], []
    for budget in budgets:
        for method, gain in gains.items():
            place = {"budget": budget, "method": method}
            values = MEANS[budget] + gain + shared + noise * rng.normal(size=(seeds, cases))
            if budget == "all" and method != "sup":
                why = "all labels leave no unlabelled case"
                impossible += [{**place, "seed": seed, "reason": why} for seed in range(seeds)]
                continue
            values = values if metric != "hausdorff_95" else 1 - values
            lists = {"labels": [BUDGETS[budget]] * seeds, "means": values.mean(1).tolist(), "values": values.tolist()}
            scores.append({**place, "seeds": list(range(seeds)), **lists})
    content = {
        "metric": metric,
        "steps": 100,
        "primary": {"method": "mt", "baseline": "sup", "budget": "2"},
        "margin": None if metric == "hausdorff_95" else 0.005,
        "methods": list(gains),
        "chosen": [],
        "budgets": list(budgets),
        "ceiling": budgets[-1] if len(budgets) > 1 else None,
        "seeds": list(range(seeds)),
        "growth": [],
        "patient_rule": "`patient` of the list",
        "cases": [f"c{number}.nii.gz" for number in range(cases)],
        "scores": scores,
        "missing": [],
        "impossible": impossible,
    }
    return {**content, **changes}


def array(content: dict[str, Any], budget: str, method: str) -> np.ndarray:
    """The figures of one place, seeds by cases."""
    (entry,) = (one for one in content["scores"] if (one["budget"], one["method"]) == (budget, method))
    return np.array(entry["values"], dtype=float)


def without(content: dict[str, Any], budget: str, method: str, *seeds: int) -> dict[str, Any]:
    """The content before some runs of a place were finished; without seeds, before any was."""
    content = copy.deepcopy(content)
    for entry in list(content["scores"]):
        if (entry["budget"], entry["method"]) == (budget, method):
            kept = [i for i, seed in enumerate(entry["seeds"]) if seeds and seed not in seeds]
            for name in ("seeds", "labels", "means", "values"):
                entry[name] = [entry[name][i] for i in kept]
            content["missing"] += [
                {"budget": budget, "method": method, "seed": seed} for seed in seeds or content["seeds"]
            ]
    content["scores"] = [entry for entry in content["scores"] if entry["seeds"]]
    return content
