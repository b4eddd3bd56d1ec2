"""The plan in a study's folder: frozen when the study begins, and allowed to grow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.study.plan import Plan
from monai_ssl.study.rounds import labeling_rounds
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write, write_json

__all__ = ["PLAN", "check_plan", "freeze_plan", "plan_growth"]

PLAN = "plan.yaml"
"""The frozen plan in the study's folder."""

_FROZEN = "# the plan of this study"
_GROWTH = "plan_growth.json"


def check_plan(plan: Plan, output: Path) -> None:
    """Demand that the study in a folder, if there is one, has this plan, but for more seeds, budgets and methods.

    Where methods choose their cases from one budget to the next, more budgets are larger ones.

    A data list or bundle that lies elsewhere now is no change: their content is checked where it is used.

    Args:
        plan: the plan.
        output: the study's folder.

    Raises:
        UserError: saying what has changed, or that the file there is no frozen plan.
    """
    path = output / PLAN
    if not path.exists():
        return
    head, _, text = path.read_text(encoding="utf-8").partition("\n")
    if not head.startswith(_FROZEN):
        raise UserError(f"{path}: is not a study's frozen plan: keep your plan elsewhere, or choose another folder.")
    if head != _head(text):
        raise UserError(f"{path}: was edited, and the frozen plan must stay: restore it, and edit your own plan.")
    changes = _changes(yaml.safe_load(text), plan.content())
    if changes:
        raise UserError(
            f"{path}: the plan has changed since the study began: {'; '.join(changes)}. Only seeds, budgets and "
            "methods may be added: give the old values, or start a study in another folder."
        )


def freeze_plan(plan: Plan, output: Path) -> None:
    """Write the plan into the study's folder, after :func:`check_plan`, and note what was added to an earlier one.

    Args:
        plan: the plan.
        output: the study's folder.

    Raises:
        UserError: see :func:`check_plan`.
    """
    check_plan(plan, output)
    if (output / PLAN).exists():
        added = _additions(yaml.safe_load((output / PLAN).read_text(encoding="utf-8")), plan.content())
        if added:
            write_json(output / _GROWTH, [*plan_growth(output), *added])
    text = yaml.safe_dump(plan.content(), sort_keys=False, allow_unicode=True, width=120)
    atomic_write(output / PLAN, lambda stream: stream.write(f"{_head(text)}\n{text}".encode()))


def plan_growth(output: Path) -> list[str]:
    """What was added to a study's plan after the study began, in words.

    Seeds that are added until a difference shows find differences that are not there, so a study says so.

    Args:
        output: the study's folder.
    """
    path = output / _GROWTH
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def _additions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    labels = [[method["label"] for method in plan["methods"]] for plan in (old, new)]
    pairs = {"seed": (old["seeds"], new["seeds"]), "budget": (old["budgets"], new["budgets"]), "method": labels}
    return [f"{name} {value}" for name, (before, now) in pairs.items() for value in now if value not in before]


def _head(text: str) -> str:
    return f"{_FROZEN} (do not edit: {hashlib.sha256(text.encode()).hexdigest()[:16]})"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    changes = []
    for key in ("budgets", "seeds"):
        changes += [f"{key} had {value}" for value in old[key] if value not in new[key]]
    changes += _changed_rounds(old, new)
    methods = {method["label"]: method for method in new["methods"]}
    for method in old["methods"]:
        if _placeless(methods.get(method["label"], {})) != _placeless(method):
            now = f"is now {methods[method['label']]}" if method["label"] in methods else "is gone"
            changes.append(f"method {method} {now}")
    if Path(old["bundle"]).name != Path(new["bundle"]).name:
        changes.append(f"bundle was {old['bundle']}, is now {new['bundle']}")
    names = dict.fromkeys([*old, *new])
    for key in (name for name in names if name not in ("budgets", "seeds", "methods", "bundle", "data")):
        if old.get(key) != new.get(key):
            changes.append(f"{key} was {old.get(key)}, is now {new.get(key)}")
    return changes


def _changed_rounds(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """New budgets below old ones, where methods choose their cases from one budget to the next."""
    choosing = [method["label"] for method in old["methods"] if "acquisition" in method]
    last = labeling_rounds(old["budgets"])[-1:] if choosing else ()
    return [
        f"budget {new_one} comes before {top}, for which {choosing[0]} would choose other cases then"
        for top in last
        for new_one in labeling_rounds(new["budgets"])
        if new_one not in old["budgets"] and int(new_one) < int(top)
    ]


def _placeless(method: Mapping[str, Any]) -> dict[str, Any]:
    """A method without the place of the bundle that pretrains."""
    pretraining = method.get("pretraining")
    return {**method, "pretraining": pretraining and {**pretraining, "bundle": Path(pretraining["bundle"]).name}}
