"""Checks of single values of a plan; every message names the key, the rule and the remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.data.datalist import find_datalist
from monai_ssl.study.measures import MEASURES, measures_of, task_of
from monai_ssl.study.plan import Checkpoint
from monai_ssl.utils.bundle_files import bundle_path
from monai_ssl.utils.errors import UserError

__all__ = [
    "bundle_folder",
    "check_keys",
    "check_settings",
    "data_list",
    "method_file",
    "one_of",
    "parse_budget",
    "parse_budgets",
    "parse_checkpoint",
    "parse_margin",
    "parse_metric",
    "parse_seeds",
    "whole_number",
]

# the same for every method, or a run's own place
_STUDY_OWNS = {
    *("bundle_root", "dataset_dir", "datalist", "output_dir", "run_dir", "seed", "max_steps", "resume", "overwrite"),
    *("weights", "part", "checkpoint", "imports", "initialize", "run"),
}


def check_keys(given: Any, where: str, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """Return a mapping that has all required keys and no unknown ones.

    Args:
        given: what the file says.
        where: how messages call it.
        required: keys that must be there.
        optional: keys that may be there.

    Raises:
        UserError: naming the nearest known key for an unknown one.
    """
    known = [*required, *optional]
    if not isinstance(given, dict):
        raise UserError(f"{where} must be a mapping with {', '.join(required)}, got {given!r}.")
    for key in given:
        if key not in known:
            raise UserError(f"unknown key {key!r} in {where}{_nearest(key, known)}")
    for key in required:
        if given.get(key) is None:
            raise UserError(f"`{key}` is missing in {where}: it needs {', '.join(required)}.")
    return given


def whole_number(given: Any, key: str, least: int) -> int:
    """Return an integer from ``least``.

    Raises:
        UserError: when it is none.
    """
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise UserError(f"`{key}` must be a whole number from {least}, got {given!r}.")
    return given


def one_of(given: Any, key: str, known: Collection[str]) -> str:
    """Return one of the known names.

    Raises:
        UserError: naming the nearest.
    """
    if given not in known:
        raise UserError(f"`{key}` must be one of {', '.join(known)}, got {given!r}{_nearest(given, known)}")
    return str(given)


def parse_budget(given: Any, key: str) -> str:
    """Return a labelled budget in one spelling: ``2``, ``10%``, which may be given as ``0.1``, or ``all``.

    Raises:
        UserError: when it is no budget.
    """
    text = str(given).strip().lower()
    fraction = re.fullmatch(r"0?\.[0-9]+", text)
    if fraction and Fraction(text) > 0:
        text = f"{float(100 * Fraction(text)):.10f}%"
    share = re.fullmatch(r"0*([0-9]+(?:\.[0-9]*[1-9])?)(?:\.?0*)%", text)
    if share and 0 < Fraction(share[1]) <= 100:
        return f"{share[1]}%"
    if text == "all" or (not isinstance(given, bool) and re.fullmatch(r"[1-9][0-9]*", text)):
        return text
    raise UserError(f"`{key}` must be a number of cases from 1, a share such as 10% or 0.1, or all, got {given!r}.")


def parse_budgets(given: Any) -> tuple[str, ...]:
    """Return different labelled budgets.

    Raises:
        UserError: when it is no list of them, or one is there twice.
    """
    if not isinstance(given, list) or not given:
        raise UserError(f"`budgets` must be a list such as [2, 10%, all], got {given!r}.")
    return _different([parse_budget(budget, "budgets") for budget in given], "budgets")


def parse_seeds(given: Any, key: str) -> tuple[int, ...]:
    """Return seeds: a number ``n`` stands for 0 to ``n - 1``.

    Raises:
        UserError: when it is neither a number from 1 nor a list of different whole numbers from 0.
    """
    if isinstance(given, list) and given:
        return _different([whole_number(seed, key, 0) for seed in given], key)
    if isinstance(given, list):
        raise UserError(f"`{key}` must be a number of seeds or a list of them, got an empty list.")
    return tuple(range(whole_number(given, key, 1)))


def parse_metric(given: Any, bundle: Path) -> str:
    """Return the figure that the study is about, by default the first that the bundle gives.

    Raises:
        UserError: when the bundle does not give it.
    """
    task = task_of(bundle)
    known = measures_of(task)
    if given in MEASURES and given not in known:
        why = "ends" if task == "detection" else "does not end"
        raise UserError(
            f"`metric` must be one of {', '.join(known)}, got {given!r}, which {bundle.name} does not give: it is a "
            f"bundle of {task}, since its name {why} in _detection."
        )
    return one_of(known[0] if given is None else given, "metric", known)


def parse_margin(given: Any, metric: str) -> float | None:
    """Return the loss that does not matter: that of :data:`~monai_ssl.study.measures.MEASURES` unless given.

    Raises:
        UserError: when it is not above 0.
    """
    if given is None:
        return MEASURES[metric].margin
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given < float("inf"):
        raise UserError(f"`margin` must be above 0, in the unit of {metric}, got {given!r}.")
    return float(given)


def parse_checkpoint(given: Any, key: str, bundle: Path) -> Checkpoint:
    """Return which checkpoint of a run is scored, ``last`` unless given.

    Raises:
        UserError: when it is neither ``last`` nor ``chosen``, or the bundle cannot choose.
    """
    if one_of(given or "last", key, ("last", "chosen")) == "last":
        return "last"
    if "checkpoint" not in yaml.safe_load((bundle / "configs" / "train.yaml").read_text(encoding="utf-8")):
        raise UserError(f"`{key}` must be last: {bundle.name} has no setting `checkpoint`, so it keeps the last one.")
    return "chosen"


def bundle_folder(given: Any, folder: Path) -> Path:
    """Find a bundle by its folder or its name.

    Raises:
        UserError: when there is none.
    """
    path = (folder / str(given)).resolve()
    if not path.is_dir() and "/" not in str(given):
        try:
            path = bundle_path(str(given))
        except UserError as error:
            raise UserError(str(error).replace("`name`", "`bundle`", 1)) from error
    if not (path / "configs" / "train.yaml").is_file():
        raise UserError(f"`bundle` must be a bundle's name or folder, but {path} has no configs/train.yaml.")
    return path


def data_list(given: Any, folder: Path) -> Path:
    """Find the data list; a relative path is relative to the plan's folder.

    Raises:
        UserError: when there is none.
    """
    try:
        return find_datalist((folder / Path(str(given)).expanduser()).resolve(), None)
    except UserError as error:
        raise UserError(str(error).replace("`datalist`", "`data`")) from error


def method_file(given: Any, bundle: Path, where: str) -> str:
    """Return a method that the bundle has.

    Raises:
        UserError: naming the nearest.
    """
    known = sorted(path.stem for path in (bundle / "configs" / "methods").glob("*.yaml"))
    if given not in known:
        raise UserError(
            f"{where}: `method` must be a file of {bundle.name}/configs/methods ({', '.join(known)}), "
            f"got {given!r}{_nearest(given, known)}"
        )
    return str(given)


def check_settings(given: Any, key: str, bundle: Path, config: str) -> dict[str, Any]:
    """Return overrides of a config whose top-level names the config has, and that are not the study's to set.

    Args:
        given: the mapping, or ``None``.
        key: how messages call it.
        bundle: the bundle's folder.
        config: file below its ``configs/``.

    Raises:
        UserError: naming the nearest known setting for an unknown one.
    """
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise UserError(f"`{key}` must be a mapping of the bundle's settings, got {given!r}.")
    known = yaml.safe_load((bundle / "configs" / config).read_text(encoding="utf-8"))
    for name in given:
        top = re.split("#|::", str(name))[0]
        if top in _STUDY_OWNS:
            raise UserError(f"`{key}` must leave {top!r} to the study, which sets it alike for all methods.")
        if top not in known:
            raise UserError(f"`{key}` has {top!r}, which {bundle.name}/configs/{config} has not{_nearest(top, known)}")
    return given


def _different(values: list[Any], key: str) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"`{key}` has {value} twice: remove one of the two.")
    return tuple(values)


def _nearest(given: Any, known: Collection[str]) -> str:
    near = difflib.get_close_matches(str(given), [name for name in known if name not in _STUDY_OWNS], n=1)
    return f"; did you mean {near[0]!r}?" if near else "."
