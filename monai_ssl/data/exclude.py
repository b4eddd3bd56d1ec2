"""Cases that are left out of a training by their names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from monai_ssl.data.formats import stem_of
from monai_ssl.utils.errors import UserError

__all__ = ["leave_out", "names_of"]

_CaseT = TypeVar("_CaseT", bound=Mapping[str, Any])


def names_of(exclude: Any) -> tuple[str, ...]:
    """Return names as a setting gives them: a list, or text with commas, as the command line has it.

    Args:
        exclude: empty or None for none.

    Raises:
        UserError: if it is neither.
    """
    if isinstance(exclude, str):
        exclude = [name.strip() for name in exclude.strip(" []").split(",")]
    if exclude is None or isinstance(exclude, (list, tuple)):
        return tuple(str(name) for name in exclude or () if name != "")
    raise UserError(f"`exclude` must be names of cases, as [case_1,case_2], got {exclude!r}.")


def leave_out(
    cases: Sequence[_CaseT], exclude: Any, known: Iterable[str], where: object, which: str = "to train on"
) -> list[_CaseT]:
    """Return the cases whose name and image path are not among those to leave out.

    Args:
        cases: each with ``image``, as listed.
        exclude: see :func:`names_of`; the name of an image file without its suffix, or its path as listed.
        known: image paths, as listed, of all cases that may be left out.
        where: the list or folder, for the message; None where the caller says so.
        which: of the cases there are known, for the message.

    Raises:
        UserError: for a name that none of the known cases has, with the nearest.
    """
    names = names_of(exclude)
    if not names:
        return list(cases)
    choices = {choice for image in known for choice in (image, stem_of(image))}
    for name in names:
        if name not in choices:
            near = difflib.get_close_matches(name, sorted(choices), n=1)
            told = f"{where}: " if where is not None else ""
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise UserError(f"{told}`exclude` has {name!r}, and no case {which} has this name{hint}")
    return [case for case in cases if not {case["image"], stem_of(case["image"])} & set(names)]
