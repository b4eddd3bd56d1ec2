"""The data lists of a study: test and validation cases drawn once, then nested labelled subsets for every seed.

``splits/held_out.json`` has all cases that may ever be trained on as ``training``; ``splits/<budget>/seed<k>.json`` is
what one run sees. Where a method's checkpoint is chosen, ``seed<k>-chosen.json`` has the same labelled cases, a fifth
of them for validation. All are drawn by whole patients, as :mod:`monai_ssl.data.split` does. Where a method starts from
a pretraining, ``splits/pretraining.json`` has the images of all cases that may ever be trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ssl.data.datalist import read_datalist
from monai_ssl.data.split import make_split
from monai_ssl.study.measures import MEASURES, task_of
from monai_ssl.study.plan import EXCLUDE, Plan, RunSpec, runs, slug
from monai_ssl.study.pretraining import PRETRAINING_LIST, pretraining_list
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import write_json
from monai_ssl.utils.keys import ListParts

__all__ = ["HELD_OUT", "draw_splits", "split_path", "write_splits"]

HELD_OUT = Path("splits") / "held_out.json"
"""The list of the test and validation cases, below the study's folder."""


def split_path(spec: RunSpec) -> Path:
    """Where the data list of a run lies below the study's folder; the same for every method with its checkpoint."""
    chosen = "" if spec.method.checkpoint == "last" else f"-{spec.method.checkpoint}"
    return Path("splits") / slug(spec.budget) / f"seed{spec.seed}{chosen}.json"


def draw_splits(plan: Plan) -> dict[Path, dict[str, Any]]:
    """Draw every data list of a study.

    For one seed, a smaller budget is a subset of a larger one. Test cases are those of :data:`HELD_OUT` in every list,
    and so are validation cases, but for a chosen checkpoint: there they come out of the budget. A budget of which
    nothing would be left for training has no such list. Cases that the plan's settings exclude are in none of them.

    Args:
        plan: the plan.

    Returns:
        The lists by their paths below the study's folder, :data:`HELD_OUT` first.

    Raises:
        UserError: when the data cannot be split so, there is no test case, or fewer than two with a box where boxes are
            to be found, or two budgets are the same number of cases.
    """
    try:
        held_out = make_split(
            read_datalist(plan.data, boxes=task_of(plan.bundle) == "detection"),
            labels="all",
            validation=plan.validation,
            test=plan.test,
            seed=plan.split_seed,
            patient_regex=plan.patient_regex,
            exclude=plan.settings.get(EXCLUDE, ()),
        )
        if not held_out["test"]:
            raise UserError("`test` must be 1 or more, since the list has no labelled `test` cases of its own.")
        _check_boxes(plan, held_out[ListParts.TEST])
        drawn = {HELD_OUT: held_out}
        if any(method.pretraining for method in plan.methods):
            drawn[PRETRAINING_LIST] = pretraining_list(held_out)
        for spec in runs(plan):
            if split_path(spec) not in drawn:
                split = make_split(held_out, labels=spec.budget, seed=spec.seed)
                if spec.method.checkpoint == "last":
                    drawn[split_path(spec)] = split
                elif (chosen := _with_own_validation(split, spec.seed)) is not None:
                    drawn[split_path(spec)] = chosen
    except UserError as error:
        raise UserError(f"{plan.data}: {error}") from error
    _check_budgets_differ(plan, drawn)
    return drawn


def write_splits(splits: Mapping[Path, dict[str, Any]], output: Path) -> None:
    """Write data lists, or demand that those which are there are the same.

    Args:
        splits: as :func:`draw_splits` returns them.
        output: the study's folder.

    Raises:
        UserError: when a list that is there differs, since runs of two data sets do not compare.
    """
    for name, split in splits.items():
        path = output / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, split)
        elif json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(split)):
            raise UserError(
                f"{path}: the cases that the plan draws now are others: the data list has changed since the study "
                "began. Bring the old list back, or start a study in another folder."
            )


def _with_own_validation(split: dict[str, Any], seed: int) -> dict[str, Any] | None:
    """A fifth of the labelled cases for validation, one patient at least; None where that leaves none for training."""
    budget = split["training"]
    for number in range(max(1, round(len(budget) / 5)), len(budget)):
        try:
            inner = make_split({"training": budget}, labels="all", validation=number, seed=seed)
            break
        except UserError:  # fewer cases than the first patient has
            continue
    else:
        return None
    parts = {str(part): inner[part] for part in (ListParts.TRAINING, ListParts.VALIDATION)}
    made = split["split"]
    counts, patients = ({**made[key], **{p: inner["split"][key][p] for p in parts}} for key in ("counts", "patients"))
    messages = [*made["messages"], f"{counts[ListParts.VALIDATION]} labelled cases of the budget choose the checkpoint"]
    return {
        **split,
        "numTraining": counts[ListParts.TRAINING],
        "split": {**made, "counts": counts, "patients": patients, "messages": messages},
        **parts,
    }


def _check_boxes(plan: Plan, test: Sequence[Mapping[str, Any]]) -> None:
    listed = [case["box"] for case in test if "box" in case]  # boxes that come from masks are not known here
    sick = sum(map(bool, listed))
    if task_of(plan.bundle) == "detection" and len(listed) == len(test) and sick < 2:
        raise UserError(
            f"`test` has {len(test)} cases, of which {sick} have a box: {MEASURES[plan.metric].title} needs two at "
            "least. Set more cases aside, or draw others with `split_seed`."
        )


def _check_budgets_differ(plan: Plan, drawn: dict[Path, dict[str, Any]]) -> None:
    seen: dict[int, str] = {}
    for spec in runs(plan):
        if split_path(spec) not in drawn:
            continue
        asked = drawn[split_path(spec)]["split"]["asked"]["training"]
        if seen.setdefault(asked, spec.budget) != spec.budget:
            raise UserError(
                f"`budgets` has {seen[asked]} and {spec.budget}, which are both {asked} cases here: remove one of them."
            )
