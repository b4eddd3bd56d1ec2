"""Draw a labelled budget, validation and test cases from a data list: whole patients, the same draw on every machine.

Patients stand in the order of a hash of seed and name, so that the draw depends on neither the list's order nor the
platform. Test cases come from the front of this order, validation cases from its end, and the labelled cases from what
is left, front first. So test and validation are the same for every budget, fewer labels are a subset of more labels,
and changing the number of validation cases changes neither the test cases nor, while it fits, a budget in cases.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from monai_ssl.data.datalist import PARTS, find_datalist, read_datalist
from monai_ssl.data.exclude import leave_out
from monai_ssl.data.nnunet import refuse_unsupported_labels
from monai_ssl.data.patients import BY_FILE_NAME, check_apart, image_of, patient_rule
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import write_json

__all__ = ["make_split", "write_split"]

Entry = dict[str, Any]
Group = tuple[str, list[Entry]]  # a patient and its cases

_CARRIED = (
    "name",
    "description",
    "reference",
    "licence",
    "license",
    "release",
    "modality",
    "channel_names",
    "labels",
    "box_mode",
    "tensorImageSize",
)


def make_split(
    data: dict[str, Any],
    *,
    labels: str | int,
    validation: int = 0,
    test: int = 0,
    seed: int = 0,
    patient_regex: str | None = None,
    exclude: Any = (),
) -> dict[str, Any]:
    """Split the labelled cases of a list by patients.

    ``training`` gets the labelled budget. ``unlabeled`` gets every other case that is left, by its image alone, and the
    list's own ``unlabeled`` cases, except those of patients in validation or test. Labelled ``validation`` or ``test``
    cases of the list are kept as they are; entries without a label there are left out. Where whole patients do not
    fill a number exactly, as many as fit are taken, and ``split.messages`` says so.

    Args:
        data: a list as :func:`~monai_ssl.data.datalist.read_datalist` returns it; not changed.
        labels: the labelled budget: a number of cases, a percentage of the cases left for training (``"10%"``, rounded
            half up, at least 1), or ``"all"``.
        validation: number of validation cases to draw; 0 keeps the list's own.
        test: number of test cases to draw; 0 keeps the list's own.
        seed: another seed is another draw.
        patient_regex: names the patient of entries without ``patient``, as in
            :func:`~monai_ssl.data.patients.patient_rule`.
        exclude: names of cases of any part that the split is without, see
            :func:`~monai_ssl.data.exclude.leave_out`.

    Raises:
        UserError: if a value is out of range, there are too few cases, the list itself mixes patients, or no case has
            a name to exclude.
    """
    drawn = {"validation": validation, "test": test}
    for argument, value in drawn.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UserError(f"`{argument}` must be a whole number of cases, 0 or more, got {value!r}.")
    data, left_out = _without(data, exclude)
    pool = _labeled_pool(data.get("training", []))
    held, messages = _own_parts(data, drawn)
    messages += [f"{left_out} {'case' if left_out == 1 else 'cases'} left out by `exclude`"] if left_out else []
    own_unlabeled = data.get("unlabeled", [])
    rule, patient_of = patient_rule([*pool, *held["validation"], *held["test"], *own_unlabeled], patient_regex)
    check_apart({"training": pool, **held}, patient_of)

    groups = _in_drawn_order(pool, patient_of, seed)
    test_groups, rest = _take(groups, test, "test")
    validation_groups, rest = _take(rest[::-1], validation, "validation")
    left = sum(len(cases) for _, cases in rest)
    asked = {"training": _budget(labels, left), **drawn}
    training_groups, unlabeled_groups = _take(rest[::-1], asked["training"], "labels")

    parts = {"training": _cases(training_groups), "unlabeled": _cases(unlabeled_groups)}
    parts["validation"] = held["validation"] or _cases(validation_groups)
    parts["test"] = held["test"] or _cases(test_groups)
    parts["unlabeled"] += _own_unlabeled(own_unlabeled, pool, parts, patient_of, messages)
    for part, number in asked.items():
        if number and len(parts[part]) != number:
            messages.append(f"`{part}`: {len(parts[part])} cases instead of {number}, since patients stay whole")
    counts = {part: len(parts[part]) for part in PARTS}
    return {
        **{key: data[key] for key in _CARRIED if key in data},
        "numTraining": counts["training"],
        "numTest": counts["test"],
        "split": {
            "seed": seed,
            "labels": labels,
            "asked": asked,
            "counts": counts,
            "patients": {part: len({patient_of(entry) for entry in parts[part]}) for part in PARTS},
            "patient_rule": rule,
            "messages": messages,
        },
        **{part: _written(part, parts[part], patient_of if rule != BY_FILE_NAME else None) for part in PARTS},
    }


def write_split(
    data: str | os.PathLike[str], output: str | os.PathLike[str], *, overwrite: bool = False, **choices: Any
) -> dict[str, Any]:
    """Read a list, split it and write the split, whole or not at all.

    Paths stay as the source list has them, so they are relative to the source list's folder wherever the split lies:
    give that folder as ``dataset_dir`` to a run (``--dataset_dir FOLDER --datalist split.json``).

    Args:
        data: the source list, or the folder that holds its ``dataset.json``.
        output: the JSON file to write; its folder is made.
        overwrite: replace an existing ``output``. The source list itself is never replaced.
        choices: the arguments of :func:`make_split`.

    Raises:
        UserError: if ``output`` exists already, or as :func:`make_split` does.
    """
    source, target = find_datalist(data, None), Path(output)
    if target.is_dir():
        raise UserError(f"{target}: `output` must be a JSON file, got a folder.")
    if target.exists() and target.samefile(source):
        raise UserError(f"{target}: `output` must not be the source list itself, whose labels would be lost.")
    if target.exists() and not overwrite:
        raise UserError(f"{target}: `output` exists already: choose another name or pass --overwrite.")
    listed = read_datalist(source, boxes=True)
    refuse_unsupported_labels(source, listed.get("labels"))
    try:
        split = make_split(listed, **choices)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    split["split"]["source"] = source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, split)
    return split


def _without(data: dict[str, Any], exclude: Any) -> tuple[dict[str, Any], int]:
    """Return the list without the cases to leave out, and how many there were."""
    known = [entry["image"] for part in PARTS for entry in data.get(part, [])]
    kept = {part: leave_out(data[part], exclude, known, None, "of the list") for part in PARTS if part in data}
    return {**data, **kept}, len(known) - sum(map(len, kept.values()))


def _labeled_pool(training: list[Entry]) -> list[Entry]:
    """Return the labelled cases sorted by image, each a different file."""
    for number, entry in enumerate(training, 1):
        if "label" not in entry:
            raise UserError(
                f"entry {number} of `training` ({entry['image']}) has no `label`: give one, or move the case "
                "to `unlabeled`."
            )
    pool = sorted(training, key=image_of)
    for one, other in itertools.pairwise(pool):
        if image_of(one) == image_of(other):
            raise UserError(f"{one['image']} is in `training` twice: remove one of the two entries.")
    return pool


def _own_parts(data: dict[str, Any], drawn: dict[str, int]) -> tuple[dict[str, list[Entry]], list[str]]:
    """Return the list's own labelled validation and test cases, and messages about those left out."""
    own, messages = {}, []
    for part, number in drawn.items():
        entries = data.get(part, [])
        own[part] = [entry for entry in entries if "label" in entry]
        if own[part] and number:
            raise UserError(
                f"`{part}` must be 0 or omitted, got {number}: the list has {len(own[part])} labelled `{part}` cases "
                "of its own, which are kept."
            )
        if len(entries) > len(own[part]):
            messages.append(f"`{part}`: {len(entries) - len(own[part])} entries of the list without a label left out")
    return own, messages


def _in_drawn_order(pool: list[Entry], patient_of: Callable[[Entry], str], seed: int) -> list[Group]:
    groups: dict[str, list[Entry]] = {}
    for entry in pool:
        groups.setdefault(patient_of(entry), []).append(entry)
    return sorted(groups.items(), key=lambda group: hashlib.sha256(f"{seed}:{group[0]}".encode()).digest())


def _take(groups: list[Group], number: int, argument: str) -> tuple[list[Group], list[Group]]:
    """Cut off the longest run of whole patients from the front with at most `number` cases."""
    left = sum(len(cases) for _, cases in groups)
    if number > left:
        raise UserError(f"`{argument}` asks for {number} cases, but there are {left} labelled cases left to draw from.")
    taken = total = 0
    while taken < len(groups) and total + len(groups[taken][1]) <= number:
        total += len(groups[taken][1])
        taken += 1
    if number and not taken:
        patient, cases = groups[0]
        raise UserError(
            f"`{argument}` = {number} is too few for a whole patient: the first in this draw, {patient}, has "
            f"{len(cases)} cases. Ask for at least {len(cases)}, or try another seed."
        )
    return groups[:taken], groups[taken:]


def _budget(labels: str | int, left: int) -> int:
    """Turn the labelled budget into a number of cases."""
    text = str(labels).strip()
    if not left:
        raise UserError("`training` has no labelled cases left after validation and test: ask for fewer of these.")
    if text == "all":
        return left
    number = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text)
    if number and 0 < Fraction(number[1]) <= 100:
        return max(1, int(Fraction(number[1]) * left / 100 + Fraction(1, 2)))
    if re.fullmatch(r"[0-9]+", text) and int(text) > 0:
        return int(text)
    raise UserError(f"`labels` must be a number of cases from 1, a percentage up to 100%, or all, got {text!r}.")


def _own_unlabeled(
    own: list[Entry],
    pool: list[Entry],
    parts: dict[str, list[Entry]],
    patient_of: Callable[[Entry], str],
    messages: list[str],
) -> list[Entry]:
    """Return the list's own unlabelled cases without repeats and without patients of validation and test."""
    evaluated = {patient_of(entry) for part in ("validation", "test") for entry in parts[part]}
    seen = {image_of(entry) for entries in (pool, parts["validation"], parts["test"]) for entry in entries}
    kept: dict[str, Entry] = {}
    left_out = 0
    for entry in own:
        if patient_of(entry) in evaluated:
            left_out += 1
        elif image_of(entry) not in seen:
            kept.setdefault(image_of(entry), entry)
    if left_out:
        messages.append(f"`unlabeled`: {left_out} cases of patients in validation or test left out")
    return list(kept.values())


def _cases(groups: Iterable[Group]) -> list[Entry]:
    return [entry for _, cases in groups for entry in cases]


def _written(part: str, entries: list[Entry], patient_of: Callable[[Entry], str] | None) -> list[Entry]:
    """Return entries as they go into the file: sorted by image, and unlabelled ones without any label."""
    keep = (lambda entry: {"image": entry["image"]}) if part == "unlabeled" else dict
    written = [{**keep(entry), **({"patient": patient_of(entry)} if patient_of else {})} for entry in entries]
    return sorted(written, key=image_of)
