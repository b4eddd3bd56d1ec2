"""One entry of a data list: what it must hold, said of it by its place in the list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from monai_ssl.data.boxes import checked_boxes
from monai_ssl.utils.errors import UserError

__all__ = ["AllowedLabels", "channels_of", "checked_entry", "json_kind", "label_pairs"]

_MAY_BE_STRINGS = ("unlabeled", "test")  # Decathlon's `test` is a list of image paths


class AllowedLabels(NamedTuple):
    """What ``label`` may be beside a path.

    Attributes:
        class_labels: a whole number from 0, the image's class.
        boxes: a list, the class of each of the entry's boxes.
        names: of the classes; empty where the list names none.
    """

    class_labels: bool
    boxes: bool
    names: list[str]


def checked_entry(entry: Any, where: str, part: str, allowed: AllowedLabels) -> dict[str, Any]:
    """Return one entry with a checked ``image``, ``label`` and ``patient``; empty ones are left out.

    Args:
        entry: as it was read; a plain string is an image in the parts that may have such.
        where: the entry's place, which begins a message.
        part: of the list; the label of an ``unlabeled`` entry is not looked at.
        allowed: what its label may be.

    Raises:
        UserError: if something is missing or of the wrong kind.
    """
    if isinstance(entry, str) and part in _MAY_BE_STRINGS:
        entry = {"image": entry}
    if not isinstance(entry, dict):
        raise UserError(f"{where} must be an object with `image`, got {json_kind(entry)}.")
    if not isinstance(entry.get("image"), str) or not entry["image"]:
        raise UserError(f"{where} must have `image`, the path of one file as a string, got {entry.get('image')!r}.")
    for key in ("image",) if part == "unlabeled" else ("image", "label"):
        if "\0" in str(entry.get(key)):
            raise UserError(f"{where} must have a path as `{key}`, and {entry[key]!r} has a character that none has.")
    entry = {key: value for key, value in entry.items() if key not in ("label", "patient") or value not in (None, "")}
    if part != "unlabeled":
        entry = _checked_label(entry, f"{where} ({entry['image']})", allowed)
    if "patient" in entry:
        if isinstance(entry["patient"], bool) or not isinstance(entry["patient"], (str, int)):
            raise UserError(f"{where} ({entry['image']}): `patient` must be a string, got {entry['patient']!r}.")
        entry["patient"] = str(entry["patient"])
    return entry


def label_pairs(labels: Any) -> list[tuple[int, str]]:
    """Sort a list's ``labels``, Decathlon's or nnU-Net's, as (value, name); empty if they have neither form."""
    if not isinstance(labels, dict):
        return []
    for pairs in (list(labels.items()), [(value, name) for name, value in labels.items()]):
        if all(str(value).isdecimal() and len(str(value)) < 10 and isinstance(name, str) for value, name in pairs):
            return sorted((int(value), name) for value, name in pairs)
    return []


def channels_of(data: Mapping[str, Any]) -> int | None:
    """Count the channels that a list names, as ``channel_names`` of nnU-Net or ``modality`` of the Decathlon.

    Args:
        data: the list.

    Returns:
        None where it names none.
    """
    for key in ("channel_names", "modality"):
        if isinstance(named := data.get(key), (dict, list)) and named:
            return len(named)
    return None


def json_kind(value: Any) -> str:
    """Name a JSON value's type as JSON does."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _checked_label(entry: dict[str, Any], where: str, allowed: AllowedLabels) -> dict[str, Any]:
    label = entry.get("label", "")
    if allowed.boxes and (isinstance(label, list) or ("box" in entry and label == "")):
        if allowed.names and allowed.names[0].lower() == "background":
            raise UserError(f"{where}: has boxes, so `labels` must name their classes from 0 without a background.")
        return checked_boxes(entry, where, len(allowed.names) or None)
    if isinstance(label, str) or (allowed.class_labels and type(label) is int and label >= 0):
        return entry
    rule = "a path as a string" + (", or a class as a whole number from 0" if allowed.class_labels else "")
    rule += ", or a list of one class for each box" if allowed.boxes else ""
    hint = "" if allowed.boxes or "box" not in entry else "; a list of boxes is for the bundle focalmix_detection"
    raise UserError(f"{where}: `label` must be {rule}, got {label!r}{hint}.")
