"""Which argument a component stumbled over, where its own message does not say."""

from __future__ import annotations

import inspect
import re
import traceback
from types import FrameType

__all__ = ["texts_for_numbers"]

_NUMBER = re.compile(r"\b(int|float|bool)\b")
_TEXT = re.compile(r"\b(str|Any|Literal|Path|PathLike)\b")


def texts_for_numbers(error: BaseException) -> str:
    """Name the arguments that are text where a number is wanted, of the constructor in which ``error`` was raised.

    What the command line cannot read as a number arrives as text, and is met wherever it is first computed with:
    ``'<=' not supported between instances of 'float' and 'str'`` names no setting.

    Args:
        error: with the traceback that it was caught with.

    Returns:
        A clause such as ``burn_in is 'abc', and has to be float``; empty where no argument stands out.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        wrong = [
            f"{name} is {frame.f_locals[name]!r}, and has to be {annotation}"
            for name, annotation in _annotations(frame).items()
            if isinstance(frame.f_locals.get(name), str) and _NUMBER.search(annotation) and not _TEXT.search(annotation)
        ]
        if wrong:
            return "; ".join(wrong)
    return ""


def _annotations(frame: FrameType) -> dict[str, str]:
    """The annotations of the constructor that a frame runs, by argument; empty where it runs something else."""
    if frame.f_code.co_name != "__init__" or not frame.f_code.co_varnames:
        return {}
    owner = frame.f_locals.get(frame.f_code.co_varnames[0])
    for kind in type(owner).__mro__:
        constructor = vars(kind).get("__init__")
        if inspect.isfunction(constructor) and constructor.__code__ is frame.f_code:
            parameters = inspect.signature(constructor).parameters.values()
            return {p.name: _words(p.annotation) for p in parameters if p.annotation is not p.empty}
    return {}


def _words(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
