"""Which patient a case is from: the list's ``patient``, an expression on the file name, or the file name itself."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Any

from monai_ssl.data.formats import stem_of
from monai_ssl.utils.errors import UserError

__all__ = ["BY_FILE_NAME", "check_apart", "image_of", "patient_rule"]

BY_FILE_NAME = "file name without its suffix"
"""The rule where neither the list nor an expression names patients."""


def image_of(entry: dict[str, Any]) -> str:
    """Return an entry's image path, written the same way for the same file (``./a.nii`` is ``a.nii``)."""
    return posixpath.normpath(entry["image"])


def patient_rule(entries: list[dict[str, Any]], regex: str | None) -> tuple[str, Callable[[dict[str, Any]], str]]:
    """Return how patients are named, in words and as a function of an entry.

    Args:
        entries: all entries that the rule must serve.
        regex: names the patient of entries without ``patient``: its first group, or the whole match where it has none,
            searched in the file name, or in the path as listed if the expression has a ``/``. If None, the file name
            without its suffix is the patient.

    Raises:
        UserError: if ``regex`` is malformed or, on use, finds no patient; if only some entries have ``patient`` and
            there is no ``regex``.
    """
    without = [entry["image"] for entry in entries if "patient" not in entry]
    if not without:
        return "`patient` of the list", lambda entry: str(entry["patient"])
    if regex is not None:
        try:
            pattern = re.compile(regex)
        except re.error as error:
            raise UserError(f"`patient_regex` must be a regular expression, got {regex!r}: {error}.") from error
        words = f"{regex!r} in the path" if "/" in regex else f"{regex!r} in the file name"
        if len(without) < len(entries):
            words = f"`patient` of the list, else {words}"
        return words, lambda entry: str(entry["patient"]) if "patient" in entry else _matched(pattern, entry)
    if len(without) < len(entries):
        raise UserError(
            f"{without[0]} has no `patient`, but other cases have: give it to all {len(without)} such cases, or pass "
            "`patient_regex`."
        )
    return BY_FILE_NAME, _stem


def check_apart(parts: dict[str, list[dict[str, Any]]], patient_of: Callable[[dict[str, Any]], str]) -> None:
    """Refuse an image or a patient in two parts of a list.

    Args:
        parts: entries by the name of their part.
        patient_of: names the patient of an entry.

    Raises:
        UserError: naming the case and both parts.
    """
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for part, entries in parts.items():
        for entry in entries:
            for key in (("image", image_of(entry)), ("patient", patient_of(entry))):
                other, image = seen.setdefault(key, (part, entry["image"]))
                if other != part:
                    raise UserError(
                        f"{' '.join(key)} is in `{other}` ({image}) and in `{part}` ({entry['image']}): keep it in one "
                        "of them, or tell patients apart by `patient` or `patient_regex`."
                    )


def _matched(pattern: re.Pattern[str], entry: dict[str, Any]) -> str:
    text = image_of(entry) if "/" in pattern.pattern else posixpath.basename(image_of(entry))
    match = pattern.search(text)
    name = match and (match.group(1) if pattern.groups else match.group())
    if not name:
        raise UserError(
            f"`patient_regex` must name the patient of every case, but {pattern.pattern!r} finds none in {text}."
        )
    return name


def _stem(entry: dict[str, Any]) -> str:
    """Return the file name without a known suffix; the dots of other names stay, as in DICOM identifiers."""
    return stem_of(image_of(entry))
