"""The one exception that a user's mistake raises, and how it reaches the terminal."""

from __future__ import annotations

import ast
import errno
import logging
import re
import sys
import threading
import traceback
from types import TracebackType

from monai_ssl.utils.wrong_arguments import texts_for_numbers

__all__ = ["UserError", "find_user_error", "show_user_errors_as_one_line"]

logger = logging.getLogger(__name__)

# how MONAI begins its message where a component of a config cannot be made
_NOT_MADE = re.compile(r"Failed to instantiate component '([^']+)'")

# and where an expression of a config fails; the expression follows as Python would write it
_NOT_EVALUATED = re.compile(r"Failed to evaluate ConfigExpression:\s*(.+)", re.DOTALL)

_NO_MEMORY = re.compile(r"(DefaultCPUAllocator|can't allocate memory|CUDA out of memory)[^.]*")


class UserError(Exception):
    """A mistake in what the user gave: a file, a setting, a value.

    Its message is one line that names the file or the argument, the rule and the remedy. The bundles and the
    command line print that line alone, without a traceback (``--debug true`` brings the traceback back).
    """


def find_user_error(error: BaseException | None) -> UserError | None:
    """The ``UserError`` that caused ``error``, however deep MONAI, ignite or torch wrapped it; else ``None``.

    A full disk counts as one, whichever file was being written, and so does an argument that a component of a bundle's
    config refuses with a ``ValueError`` or ``TypeError``, or that an expression of the config cannot compute with.
    """
    seen: set[int] = set()
    component = expression = ""
    while error is not None and id(error) not in seen:
        if isinstance(error, UserError):
            return UserError(_without_worker_traceback(str(error)))
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return UserError(
                f"{error.filename or 'a file of the run'}: no space left on the disk; the last checkpoint is intact. "
                "Free space and go on with --resume true."
            )
        if (refused := _refused_memory(error)) is not None:
            return UserError(
                f"out of memory ({refused}). Lower the batch sizes, patch_size or cache_rate, or give --amp true; in "
                "evaluation and inference --device cpu. The last checkpoint is intact: go on with --resume true."
            )
        if isinstance(error, RuntimeError) and (found := _NOT_MADE.match(str(error))):
            component, expression = found[1], ""
        elif isinstance(error, RuntimeError) and (found := _NOT_EVALUATED.match(str(error))):
            component, expression = "", found[1]
        elif component and isinstance(error, (ValueError, TypeError)):
            refused = texts_for_numbers(error) or " ".join(str(error).split()).rstrip(".")
            return UserError(f"{component}: {refused}. Check its settings; --debug true shows where they are used.")
        elif expression and _raised_in_expression(error):
            return UserError(
                f"{_as_in_config(expression)}: {' '.join(str(error).split())}. Check the settings that it names; "
                "--debug true shows where it is used."
            )
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _raised_in_expression(error: BaseException) -> bool:
    # and not deeper, in what the expression calls: a training is an expression's call, too
    frames = traceback.extract_tb(error.__traceback__)
    computed = isinstance(error, (ValueError, TypeError, LookupError, ArithmeticError, AttributeError))
    return computed and bool(frames) and frames[-1].filename == "<string>"


def _as_in_config(expression: str) -> str:
    # MONAI shows the string as Python would, in several pieces where it is long, and references as it resolved them
    text = str(ast.literal_eval(expression))
    return re.sub(r"__local_refs\['([^']+)'\]", r"@\1", text).replace("::", "#")


def _refused_memory(error: BaseException) -> str | None:
    """What an error says of memory that was not to be had; None where it is another one."""
    text = " ".join(str(error).split())
    # torch's by their names, as torch is heavy to import
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "AcceleratorOutOfMemoryError"):
        return text.split(". GPU ")[0] or type(error).__name__
    if isinstance(error, RuntimeError) and (found := _NO_MEMORY.search(text)):
        return found[0]
    return None


def show_user_errors_as_one_line() -> None:
    """From now on an uncaught ``UserError`` prints one line on stderr, and the process ends with status 1."""
    if sys.excepthook is not _hook:
        _hook.previous = sys.excepthook  # type: ignore[attr-defined]
        sys.excepthook = _hook
        threading.excepthook = _thread_hook


def _hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    mistake = find_user_error(error)
    if mistake is None:
        _hook.previous(kind, error, traceback)  # type: ignore[attr-defined]
        return
    sys.stderr.write(f"Error: {mistake}\n")


def _thread_hook(failure: threading.ExceptHookArgs) -> None:
    # a writer in the background (TensorBoard's) meets the full disk that the main thread reports
    if find_user_error(failure.exc_value) is None:
        threading.__excepthook__(failure)


def _without_worker_traceback(message: str) -> str:
    # a loader's worker process hands its exception over as text that ends with the message
    marker = f"{UserError.__module__}.{UserError.__qualname__}: "
    if message.startswith(f"Caught {UserError.__name__} in"):
        message = message.rsplit(marker, 1)[-1]
    return " ".join(message.split())
