"""What a page may say: no folder of the machine, numbers in one form."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["figure_words", "operating_words", "outline_words", "without_folders"]

# up to the last slash before a mark that ends a path: names of folders have spaces
_FOLDERS = re.compile(r"(?<![\w.~-])~?/(?:[^'\",:;()\[\]<>\n]*/)?(?=[^/\s])")


def without_folders(text: str) -> str:
    """Leave of every absolute path its last name: a page goes to people who need not know a machine's folders."""
    return _FOLDERS.sub("", text)


def figure_words(value: Any, digits: int = 3) -> str:
    """A number with so many decimals, a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def outline_words() -> str:
    """How to read slices with outlines."""
    return "The reference is solid, the prediction dashed; left of a picture is the patient's right."


def operating_words() -> str:
    """How to read slices with boxes."""
    return (
        "Missed boxes come first, then found ones, then false alarms; true boxes are solid, predictions dashed, and "
        "left of a picture is the patient's right. Shown are the predictions above the score that leaves one false "
        "positive a scan over all cases."
    )
