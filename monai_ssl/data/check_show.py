"""What the check of a data set looks like on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from monai_ssl.data.check_run import DataCheck

__all__ = ["fault_rows", "reading_bar", "summary"]


@contextmanager
def reading_bar() -> Iterator[Callable[[int, int], None]]:
    """Show a bar over the files on stderr, where that is a terminal; yields what is called with files read and all."""
    console = Console(stderr=True)
    columns = (TextColumn("files"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("files", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def fault_rows(result: DataCheck) -> list[tuple[str, ...]]:
    """Return the faults as rows of level, part, case, file, fault, remedy.

    Args:
        result: of the check.
    """
    return [(fault.level, fault.part, fault.case, fault.file, fault.text, fault.remedy) for fault in result.faults]


def summary(result: DataCheck) -> str:
    """Return the line that ends the report.

    Args:
        result: of the check.
    """
    found = (
        f"{_count(result.errors, 'error')} and {_count(result.warnings, 'warning')}" if result.faults else "No fault"
    )
    read = f"{_count(result.cases, 'case')}, {_count(result.files, 'file')}, {result.size / 1e6:.1f} MB"
    return f"{found} in {read}."


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
