"""What the commands share: tables on the terminal, and lists and settings in their options."""

from __future__ import annotations

from typing import Any

from monai_ssl.utils.errors import UserError

__all__ = ["listed", "plain", "print_table", "settings_of"]


def settings_of(pairs: list[str]) -> dict[str, Any]:
    """Read the ``KEY=VALUE`` of ``--set``, values as YAML.

    Raises:
        UserError: if one is no such pair.
    """
    import yaml

    found = {}
    for word in pairs:
        key, equals, text = word.partition("=")
        try:
            if not (key and equals):
                raise ValueError
            found[key.strip()] = yaml.safe_load(text)
        except (ValueError, yaml.YAMLError):
            raise UserError(
                f"--set must be KEY=VALUE with a YAML value, such as spacing=[1,1,2], got {word!r}."
            ) from None
    return found


def listed(text: str | None) -> list[str] | None:
    """Take an option apart at its commas."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def plain(text: str, longest: int = 200) -> str:
    """Make text of a stranger fit for a terminal: nothing in it moves the cursor or hides, and it is cut."""
    cut = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in cut)


def print_table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Write a table, to a file or another program without wrapping."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 10_000
    console.print(table)
