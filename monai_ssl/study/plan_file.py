"""The plan of a label-efficiency study: one YAML file, checked before anything runs.

A minimal plan (paths are relative to the plan's own folder)::

    bundle: semi_segmentation
    data: Task04_Hippocampus
    budgets: [2, 10%, all]
    methods: [supervised, mean_teacher, {label: no noise, method: mean_teacher, settings: {"objective#noise": 0.0}}]
    seeds: 5
    steps: 1500
    test: 40
    primary: {method: mean_teacher, baseline: supervised, budget: 2}

A method may start from a pretraining, which the study carries out::

    {label: masked, method: supervised, pretraining: {method: masked_inpainting, steps: 1500}}

One may choose itself which cases are labelled next, from budget to budget::

    {label: unsure, method: mean_teacher, acquisition: uncertainty}
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.study.plan import Method, Plan, Primary, Screen, slug
from monai_ssl.study.plan_fields import (
    bundle_folder,
    check_keys,
    check_settings,
    data_list,
    method_file,
    one_of,
    parse_budget,
    parse_budgets,
    parse_checkpoint,
    parse_margin,
    parse_metric,
    parse_seeds,
    whole_number,
)
from monai_ssl.study.pretraining import parse_pretraining, refuse_pretrained
from monai_ssl.study.rounds import check_rounds, parse_acquisition
from monai_ssl.utils.errors import UserError

__all__ = ["read_plan"]

_REQUIRED = ("bundle", "data", "budgets", "methods", "seeds", "steps", "primary")
_CASES = ("validation", "test", "patient_regex", "split_seed")
_OPTIONAL = (*_CASES, "metric", "margin", "settings", "evaluation", "screen")
_OF_METHOD = ("label", "settings", "evaluation", "checkpoint", "pretraining", "acquisition")


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan and check everything that can be checked without running it.

    Args:
        path: the YAML file; its keys are the attributes of :class:`Plan`.

    Raises:
        UserError: with the file, the key, the rule and the remedy.
    """
    file = Path(path)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: the plan cannot be read ({error}). Give the path of a YAML file.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML: {' '.join(str(error).split())}.") from error
    try:
        plan = _parse(content, file.absolute().parent)
        check_rounds(plan)
        return plan
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _parse(content: Any, folder: Path) -> Plan:
    given = check_keys(content, "the plan", _REQUIRED, _OPTIONAL)
    bundle = bundle_folder(given["bundle"], folder)
    budgets = parse_budgets(given["budgets"])
    methods = _methods(given["methods"], bundle, folder)
    labels = [method.label for method in methods]
    metric = parse_metric(given.get("metric"), bundle)
    settings = check_settings(given.get("settings"), "settings", bundle, "train.yaml")
    if any(method.pretraining for method in methods):
        refuse_pretrained(settings, "settings")
    regex = given.get("patient_regex")
    if not isinstance(regex, (str, type(None))):
        raise UserError(f"`patient_regex` must be a regular expression in quotes, got {regex!r}.")
    return Plan(
        bundle=bundle,
        data=data_list(given["data"], folder),
        budgets=budgets,
        methods=methods,
        seeds=parse_seeds(given["seeds"], "seeds"),
        steps=whole_number(given["steps"], "steps", 1),
        primary=_primary(given["primary"], labels, budgets),
        validation=whole_number(given.get("validation", 0), "validation", 0),
        test=whole_number(given.get("test", 0), "test", 0),
        metric=metric,
        settings=settings,
        evaluation=check_settings(given.get("evaluation"), "evaluation", bundle, "evaluate.yaml"),
        screen=_screen(given.get("screen"), len(labels), budgets),
        patient_regex=regex,
        split_seed=whole_number(given.get("split_seed", 0), "split_seed", 0),
        margin=parse_margin(given.get("margin"), metric),
    )


def _methods(given: Any, bundle: Path, folder: Path) -> tuple[Method, ...]:
    if not isinstance(given, list) or not given:
        raise UserError(f"`methods` must be a list of names or of mappings with `method`, got {given!r}.")
    methods: dict[str, Method] = {}
    for number, entry in enumerate(given, 1):
        where = f"entry {number} of `methods`"
        entry = {"method": entry} if isinstance(entry, str) else entry
        check_keys(entry, where, ("method",), _OF_METHOD)
        method = method_file(entry["method"], bundle, where)
        label = entry.get("label", method)
        if not isinstance(label, str) or not slug(label):
            raise UserError(f"{where}: `label` must be a name with letters or digits, got {label!r}.")
        if slug(label) in methods:
            raise UserError(
                f"{where}: label {label!r} is taken by {methods[slug(label)].label!r} (case and signs do not count): "
                "give it a `label` of its own."
            )
        settings = check_settings(entry.get("settings"), f"settings` of `{label}", bundle, "train.yaml")
        pretraining = parse_pretraining(entry.get("pretraining"), label, bundle, folder)
        if pretraining is not None:
            refuse_pretrained(settings, f"settings` of `{label}")
        methods[slug(label)] = Method(
            label,
            method,
            settings,
            check_settings(entry.get("evaluation"), f"evaluation` of `{label}", bundle, "evaluate.yaml"),
            parse_checkpoint(entry.get("checkpoint"), f"checkpoint` of `{label}", bundle),
            pretraining,
            parse_acquisition(entry.get("acquisition"), label, bundle),
        )
    return tuple(methods.values())


def _primary(given: Any, labels: Collection[str], budgets: Collection[str]) -> Primary:
    check_keys(given, "`primary`", ("method", "baseline", "budget"))
    primary = Primary(
        one_of(given["method"], "primary: method", labels),
        one_of(given["baseline"], "primary: baseline", labels),
        one_of(parse_budget(given["budget"], "primary: budget"), "primary: budget", budgets),
    )
    if primary.method == primary.baseline:
        raise UserError(f"`primary` must compare two methods, got {primary.method!r} as both.")
    return primary


def _screen(given: Any, methods: int, budgets: Collection[str]) -> Screen | None:
    if given is None:
        return None
    check_keys(given, "`screen`", ("budget", "seeds", "keep"))
    budget = one_of(parse_budget(given["budget"], "screen: budget"), "screen: budget", budgets)
    keep = whole_number(given["keep"], "screen: keep", 1)
    if keep >= methods - 1:
        raise UserError(
            f"`screen: keep` must be below {methods - 1}, the number of methods without the baseline, got {keep}: "
            "keep fewer, or leave `screen` out."
        )
    return Screen(budget, parse_seeds(given["seeds"], "screen: seeds"), keep)
