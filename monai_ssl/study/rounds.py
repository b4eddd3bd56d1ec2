"""Rounds of labelling: a method that chooses itself which cases are labelled next, from budget to budget.

At the smallest budget such a method has the cases that every method has. For each larger one the model of the budget
before is asked, by the bundle's ``suggest.yaml``, which of that run's unlabelled cases come next; they get the labels
that the study's list has. The run's list is ``cases.json`` in its own folder, made from the list of the round before
and ``suggest/suggestions.json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ssl.data.patients import image_of
from monai_ssl.metrics.acquisition import STRATEGIES
from monai_ssl.study.plan import Plan, RunSpec
from monai_ssl.study.plan_fields import one_of
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import BatchKeys, ListParts

__all__ = [
    "ACQUISITIONS",
    "CASES",
    "POOL",
    "SUGGESTIONS",
    "SUGGEST_CONFIG",
    "SUGGEST_STEP",
    "check_rounds",
    "has_chosen_cases",
    "labeling_rounds",
    "next_list",
    "parse_acquisition",
    "pool_list",
    "previous_round",
]

ACQUISITIONS = tuple(name for name in STRATEGIES if name != "first")
"""How the labelled cases of a method may be chosen."""

SUGGEST_STEP = "suggest"
"""Name of the process that chooses."""

SUGGEST_CONFIG = "suggest.yaml"
"""Its config."""

POOL = Path(SUGGEST_STEP) / "pool.json"
"""The list that it sees, below the run's folder: labelled cases, and those to choose from."""

SUGGESTIONS = Path(SUGGEST_STEP) / "suggestions.json"
"""What it wrote, below the run's folder."""

CASES = Path("cases.json")
"""The list of a run with chosen cases, below its folder."""

_RANDOM = "random"


def parse_acquisition(given: Any, label: str, bundle: Path) -> str:
    """Return how the labelled cases of a method are chosen, ``random`` unless given.

    Args:
        given: the name, or ``None``.
        label: of the method.
        bundle: the folder of the plan's bundle, which must be able to suggest.

    Raises:
        UserError: when it is none of :data:`ACQUISITIONS`, or the bundle suggests nothing.
    """
    key = f"acquisition` of `{label}"
    name = one_of(_RANDOM if given is None else given, key, ACQUISITIONS)
    if name != _RANDOM and not (bundle / "configs" / SUGGEST_CONFIG).is_file():
        raise UserError(f"`{key}` must be random: {bundle.name} has no configs/{SUGGEST_CONFIG}, which would choose.")
    return name


def check_rounds(plan: Plan) -> None:
    """Demand of a plan in which methods choose their cases that there are rounds, and that they can be compared.

    Args:
        plan: the plan.

    Raises:
        UserError: in one line.
    """
    choosing = [method for method in plan.methods if method.acquisition != _RANDOM]
    if not choosing:
        return
    why = f"`{choosing[0].label}` has an `acquisition`"
    shares = [budget for budget in plan.budgets if budget.endswith("%")]
    rounds = labeling_rounds(plan.budgets)
    if shares:
        raise UserError(f"`budgets` must be numbers of cases, or all, where {why}, got {shares[0]}: write the number.")
    if len(rounds) < 2:
        raise UserError(
            f"`budgets` must have two numbers of cases at least, the rounds, where {why}, got "
            f"{', '.join(plan.budgets)}."
        )
    for method in choosing:
        if method.checkpoint != "last":
            raise UserError(
                f"`checkpoint` of `{method.label}` must be last, since it has an `acquisition`: cases for validation "
                "would have to be chosen, too."
            )
    if plan.screen is not None:
        raise UserError(f"`screen` must be left out where {why}: a round needs the model of the round before.")
    named = {method.label: method for method in plan.methods}
    method, baseline = (named[label] for label in (plan.primary.method, plan.primary.baseline))
    same = method.trains_as(baseline, on_same_cases=True) and method.evaluation == baseline.evaluation
    if same and method.acquisition != baseline.acquisition and plan.primary.budget not in rounds[1:]:
        raise UserError(
            f"`primary: budget` must be one of {', '.join(rounds[1:])}, got {plan.primary.budget}, where "
            f"{method.label} and {baseline.label} have the same cases and so the same model."
        )


def labeling_rounds(budgets: Iterable[str]) -> tuple[str, ...]:
    """The budgets in which cases are labelled one after the other: numbers of cases, rising."""
    return tuple(sorted((budget for budget in budgets if budget.isdecimal()), key=int))


def has_chosen_cases(plan: Plan, spec: RunSpec) -> bool:
    """Whether another run's model chooses cases of this one: not in the first round, nor where all are labelled."""
    return spec.method.acquisition != _RANDOM and spec.budget in labeling_rounds(plan.budgets)[1:]


def previous_round(plan: Plan, spec: RunSpec) -> RunSpec | None:
    """The run whose model chooses cases of this one: that of the next smaller budget; ``None`` where none does."""
    if not has_chosen_cases(plan, spec):
        return None
    rounds = labeling_rounds(plan.budgets)
    return RunSpec(rounds[rounds.index(spec.budget) - 1], spec.method, spec.seed)


def pool_list(before: Mapping[str, Any], held_out: Mapping[str, Any]) -> dict[str, Any]:
    """The list that is chosen from: a run's labelled cases, and those of its unlabelled ones that have a label to give.

    Args:
        before: the list of the round before.
        held_out: the list of :data:`~monai_ssl.study.splits.HELD_OUT`.
    """
    labels = _by_image(held_out[ListParts.TRAINING])
    pool = [case for case in before[ListParts.UNLABELED] if case[BatchKeys.IMAGE] in labels]
    return {str(ListParts.TRAINING): before[ListParts.TRAINING], str(ListParts.UNLABELED): pool}


def next_list(
    before: Mapping[str, Any],
    suggested: Sequence[str],
    held_out: Mapping[str, Any],
    drawn: Mapping[str, Any],
    strategy: str,
) -> dict[str, Any]:
    """The list of a round: that of the round before, in which the suggested cases have their labels now.

    Args:
        before: the list of the round before.
        suggested: images of the chosen cases.
        held_out: the list of :data:`~monai_ssl.study.splits.HELD_OUT`, which has their labels.
        drawn: the list that is drawn at random for this budget and seed; this one has as many labelled cases.
        strategy: one of :data:`ACQUISITIONS`; it is noted.

    Raises:
        UserError: when the suggestions are not as many different cases of :func:`pool_list` as are due.
    """
    due = len(drawn[ListParts.TRAINING]) - len(before[ListParts.TRAINING])
    pool = _by_image(pool_list(before, held_out)[ListParts.UNLABELED])
    if len(suggested) != due or len({*suggested} & pool.keys()) != due:
        raise UserError(f"`suggested` must be {due} different cases of {POOL}, got {', '.join(suggested) or 'none'}.")
    labels = _by_image(held_out[ListParts.TRAINING])
    parts = {
        str(ListParts.TRAINING): sorted(
            [*before[ListParts.TRAINING], *(labels[image] for image in suggested)], key=image_of
        ),
        str(ListParts.UNLABELED): [
            case for case in before[ListParts.UNLABELED] if case[BatchKeys.IMAGE] not in suggested
        ],
    }
    patients = {part: len({case.get("patient", image_of(case)) for case in cases}) for part, cases in parts.items()}
    made = drawn["split"]
    chosen = [*before["split"].get("acquisition", {}).get("chosen", []), [*suggested]]
    split = {
        **made,
        "patients": {**made["patients"], **patients},
        "acquisition": {"strategy": strategy, "chosen": chosen},
    }
    return {**drawn, "split": split, **parts}


def _by_image(cases: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {case[BatchKeys.IMAGE]: case for case in cases}
