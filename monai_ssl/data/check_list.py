"""A data list read to its end: its cases, and every fault of its entries instead of the first one."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_ssl.data.check_facts import Fault
from monai_ssl.data.datalist import PARTS, absolute_path, list_folder, read_datalist
from monai_ssl.data.entries import AllowedLabels, channels_of, checked_entry, json_kind, label_pairs
from monai_ssl.data.formats import stem_of
from monai_ssl.data.nnunet import refuse_unsupported_labels
from monai_ssl.data.patients import patient_rule
from monai_ssl.utils.errors import UserError

__all__ = ["Case", "Listing", "read_listing"]


@dataclass(frozen=True)
class Case:
    """One entry of a list.

    Args:
        part: of the list.
        name: of the image file, without its suffix.
        image: as listed.
        image_path: absolute.
        label: as listed; None where there is no label file, and always for an unlabelled case.
        label_path: absolute.
        patient: None where nothing names one.
        boxes: of a detection list, by centre and size in mm.
    """

    part: str
    name: str
    image: str
    image_path: str
    label: str | None = None
    label_path: str | None = None
    patient: str | None = None
    boxes: tuple[tuple[float, ...], ...] = ()


@dataclass
class Listing:
    """What a list declares.

    Args:
        cases: of all parts, in the order of the list.
        classes: names by value, background included; empty where the list names none, or names classes of boxes.
        channels: of an image; None where the list does not tell.
        faults: of the list and its entries.
    """

    cases: list[Case] = field(default_factory=list)
    classes: dict[int, str] = field(default_factory=dict)
    channels: int | None = None
    faults: list[Fault] = field(default_factory=list)


def read_listing(
    path: Path, dataset_dir: str | os.PathLike[str] | None = None, patient_regex: str | None = None
) -> Listing:
    """Read a list and check each entry. No image and no label is looked for.

    The label of an unlabelled entry is dropped here.

    Args:
        path: the JSON file.
        dataset_dir: folder that its paths are relative to; if None, the list's own.
        patient_regex: as in :func:`~monai_ssl.data.patients.patient_rule`, for entries without ``patient``.

    Raises:
        UserError: if ``dataset_dir`` is no folder, or ``patient_regex`` no expression.
    """
    listing, base = Listing(), list_folder(path, dataset_dir)
    data = _top_level(path, listing.faults)
    allowed = AllowedLabels(class_labels=True, boxes=True, names=list(_pairs(data).values()))
    entries = [(part, e) for part in PARTS for e in _entries(data, part, allowed, listing.faults)]
    listing.channels = _channels(data, listing.faults)
    of_boxes = any("box" in entry for _, entry in entries)
    if not any(isinstance(entry.get("label"), int) for _, entry in entries):
        classes = _classes(path, data, listing.faults)
        listing.classes = {} if of_boxes else classes
    patients = _patients(entries, patient_regex, listing.faults)
    for (part, entry), patient in zip(entries, patients, strict=True):
        label = entry.get("label") if part != "unlabeled" else None
        file = label if isinstance(label, str) else None
        if label is None and "box" not in entry and part in ("training", "validation"):
            listing.faults.append(Fault("no_label", "has no label", part, case_name(entry["image"]), entry["image"]))
        image_path, label_path = absolute_path(entry["image"], base), file and absolute_path(file, base)
        boxes = tuple(map(tuple, entry["box"])) if isinstance(label, list) else ()
        listing.cases.append(
            Case(part, case_name(entry["image"]), entry["image"], image_path, file, label_path, patient, boxes)
        )
    return listing


def case_name(image: str) -> str:
    """Return the name of an image file without its suffix."""
    return stem_of(image) or image


def _top_level(path: Path, faults: list[Fault]) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        json.dumps(data, ensure_ascii=False).encode()  # half a character pair can be written as JSON and is no text
        if isinstance(data, dict) and any(part in data for part in PARTS):
            return data
    except (OSError, ValueError, RecursionError):
        pass  # which the other way of reading tells
    try:
        return read_datalist(path)
    except UserError as error:
        told = _without(path, error)
    faults.append(Fault("list", told, file=path.name))
    return {}


def _without(path: Path, error: Exception) -> str:
    return str(error).removeprefix(f"{path}: ").rstrip(".")


def _entries(data: dict[str, Any], part: str, allowed: AllowedLabels, faults: list[Fault]) -> list[dict[str, Any]]:
    entries = data.get(part, [])
    if not isinstance(entries, list):
        faults.append(Fault("list", f"`{part}` must be a list of entries, got {json_kind(entries)}", part))
        return []
    good = []
    for number, entry in enumerate(entries, 1):
        try:
            good.append(checked_entry(entry, f"entry {number}", part, allowed))
        except UserError as error:
            image = entry.get("image") if isinstance(entry, dict) else None
            file = image if isinstance(image, str) else ""
            faults.append(Fault("entry", str(error).rstrip("."), part, f"entry {number}", file))
    return good


def _classes(path: Path, data: dict[str, Any], faults: list[Fault]) -> dict[int, str]:
    if (labels := data.get("labels")) is None:
        return {}
    try:
        refuse_unsupported_labels(path, labels)
    except UserError as error:
        faults.append(Fault("labels", _without(path, error)))
        return {}
    classes = _pairs(data)
    names = list(classes.values())
    if not classes or list(classes) != list(range(len(labels))) or len(set(names)) != len(names):
        faults.append(
            Fault("labels", f"`labels` must name the values 0, 1, 2, ... once each, got {json.dumps(labels)}")
        )
        return {}
    return classes


def _pairs(data: dict[str, Any]) -> dict[int, str]:
    return dict(label_pairs(data.get("labels")))


def _channels(data: dict[str, Any], faults: list[Fault]) -> int | None:
    if (channels := channels_of(data)) is not None:
        return channels
    for key in ("modality", "channel_names"):
        if (named := data.get(key)) is not None and not isinstance(named, str):
            faults.append(Fault("list", f"`{key}` must name the channels, got {json.dumps(named)}"))
    return 1 if data.get("tensorImageSize") == "3D" else None


def _patients(entries: list[tuple[str, dict[str, Any]]], regex: str | None, faults: list[Fault]) -> list[str | None]:
    named = [entry.get("patient") for _, entry in entries]
    if regex is None:
        if None in named and set(named) != {None}:
            part, entry = entries[named.index(None)]
            text = f"has no `patient`, as {named.count(None)} of {len(named)} cases, and others have one"
            faults.append(Fault("some_patients", text, part, case_name(entry["image"]), entry["image"]))
        return named
    patient_of = patient_rule([entry for _, entry in entries], regex)[1] if None in named else None
    found: list[str | None] = []
    for part, entry in entries:
        try:
            found.append(patient_of(entry) if patient_of else entry["patient"])
        except UserError:
            found.append(None)
            text = f"has no patient by {regex!r}"
            faults.append(Fault("patient_regex", text, part, case_name(entry["image"]), entry["image"]))
    return found
