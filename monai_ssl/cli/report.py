"""The command that writes the report page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report", "tell_report"]


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study, or of a run of any bundle.")],
    output: Annotated[Path | None, typer.Option(help="The page; default: report.html in DIR.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page.")] = False,
    device: Annotated[
        str | None, typer.Option(help="For the predictions that are shown, such as cpu; default: the bundle's choice.")
    ] = None,
) -> None:
    """Write a study or a run as one HTML page, and its figures as PNG and SVG."""
    tell_report(folder, output, overwrite, device)


def tell_report(folder: Path, output: Path | None, overwrite: bool, device: str | None) -> None:
    """Write the page and say where it is, and what is not in it."""
    from monai_ssl.report import write_report

    written = write_report(folder, output, overwrite=overwrite, device=device)
    for note in dict.fromkeys(written.notes):
        typer.echo(f"Note: {note}")
    typer.echo(f"Wrote {written.path}, one page for any browser; its figures are in {folder}/figures.")
