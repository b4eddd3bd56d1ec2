"""What is given beside a bundle's config files, held against what those files have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from monai_ssl.utils.errors import UserError

__all__ = ["check_given", "entry"]

# a word would be taken for the list of its letters
_NAMES = "class_names"
_RANGE = "intensity_range"


def check_given(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse settings that the files do not have, text where they have numbers, names or a component, and nonsense.

    Nonsense is one name for several classes, and a range of intensities that ends where it begins, or before.

    Args:
        given: values by name; a name leads into a setting by ``::``. An expression or a reference may be anything.
        known: the content of the files.

    Raises:
        UserError: with the nearest name, or with the value that the file has.
    """
    for name, value in given.items():
        top, *inner = name.lstrip("+").split("::")
        if top not in known:
            nearest = _nearest(top, known)
            hint = f"; did you mean {nearest!r}?" if nearest else "."
            raise UserError(f"unknown setting {top!r}{hint}")
        if name == _NAMES and _is_words(value):
            raise UserError(f"{name} takes a list, as \"['{value}']\", got {value!r}.")
        if name == _NAMES and isinstance(value, (list, tuple)) and len(set(map(str, value))) < len(value):
            raise UserError(f"{name} takes a name for each class, got one for several: {', '.join(map(str, value))}.")
        if name == _RANGE and _is_reversed(value):
            raise UserError(f"{name} takes the lower end first and a higher one, got {list(value)}.")
        default = entry(known[top], inner)
        if isinstance(default, Mapping) and "_target_" in default and (_is_words(value) or _is_number(value)):
            at = name.replace("::", "#")
            raise UserError(
                f"{at} is a component, {default['_target_']}, got {value!r}; give its arguments (--{at}#NAME VALUE), "
                f"another class (--{at}#_target_ CLASS) or a file that has it whole."
            )
        if _is_number(default) and _is_words(value):
            raise UserError(f"{name.replace('::', '#')} takes a number, such as {default}, got {value!r}.")
        if isinstance(default, list) and default and all(map(_is_number, default)):
            parts = value if isinstance(value, (list, tuple)) else [value]
            if any(map(_is_words, parts)):
                raise UserError(f"{name.replace('::', '#')} takes numbers, such as {default}, got {value!r}.")


def entry(value: Any, names: Iterable[str]) -> Any:
    """What lies in nested dictionaries and lists under a path of keys and positions; None where nothing does."""
    for name in names:
        try:
            value = value[int(name)] if isinstance(value, list) else value[name]
        except (LookupError, TypeError, ValueError):
            return None
    return value


def _nearest(name: str, known: Iterable[str]) -> str | None:
    # steps is short for max_steps, though stages is nearer by its letters
    longer = [other for other in known if name in other.split("_")]
    return next(iter(longer or difflib.get_close_matches(name, known, n=1)), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_reversed(value: Any) -> bool:
    ends = value if isinstance(value, (list, tuple)) and len(value) == 2 else (0, 1)
    return all(map(_is_number, ends)) and not ends[0] < ends[1]


def _is_words(value: Any) -> bool:
    # YAML reads 1e-3 as text, and so do its readers; an expression's value is not known yet
    if not isinstance(value, str) or value[:1] in ("$", "@", "%"):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False
