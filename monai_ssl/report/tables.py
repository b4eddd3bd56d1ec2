"""Files of a run as tables, and what is said where one cannot be read."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "read_cases", "read_columns", "read_object"]

Columns = dict[str, NDArray[np.float64]]


def read_object(path: Path, name: str, notes: list[str]) -> dict[str, Any]:
    """A JSON object; empty, with a note, where the file is broken, and without one where there is none.

    Args:
        path: the file.
        name: what the note calls it, without folders of the machine.
        notes: gets the note.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        notes.append(f"{name} cannot be read, so what rests on it is left out.")
        return {}
    return content


def read_cases(path: Path, name: str, notes: list[str]) -> list[dict[str, Any]]:
    """The cases of a ``metrics.json``; see :func:`read_object`."""
    content = read_object(path, name, notes)
    cases = content.get("cases", [])
    if not isinstance(cases, list) or not all(isinstance(case, dict) and _is_case(case) for case in cases):
        notes.append(f"{name} holds no cases that can be read, so what rests on it is left out.")
        return []
    return cases


def read_columns(path: Path, name: str, notes: list[str]) -> Columns:
    """A CSV table of numbers with a column ``step``; an empty cell is NaN. See :func:`read_object`."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error):
        rows = []
    if not rows or "step" not in rows[0]:
        notes.append(f"{name} cannot be read as a table of steps, so its curves are left out.")
        return {}
    return {key: np.array([_number(row[key]) for row in rows]) for key in rows[0] if key}


def _is_case(case: dict[str, Any]) -> bool:
    mean, classes = case.get("mean", {}), case.get("classes", {})
    if "image" not in case or not isinstance(mean, dict) or not isinstance(classes, dict):
        return False
    return all(value is None or isinstance(value, (int, float)) for value in mean.values())


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return math.nan
