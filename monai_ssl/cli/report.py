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
    datalist: Annotated[
        Path | None, typer.Option("--datalist", help="Of a run: the list that was scored, for pictures of its cases.")
    ] = None,
    dataset_dir: Annotated[
        Path | None, typer.Option("--dataset_dir", help="What the list's paths are relative to; default: its folder.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Of a run: its model, where it is in another folder.")
    ] = None,
) -> None:
    """Write a study or a run as one HTML page, and its figures as PNG and SVG."""
    tell_report(folder, output, overwrite, device, datalist, dataset_dir, weights)


def tell_report(
    folder: Path,
    output: Path | None,
    overwrite: bool,
    device: str | None,
    datalist: Path | None = None,
    dataset_dir: Path | None = None,
    weights: Path | None = None,
) -> None:
    """Write the page and say where it is, and what is not in it."""
    from monai_ssl.report import GivenData, write_report

    given = GivenData(*(None if path is None else path.absolute() for path in (datalist, dataset_dir, weights)))
    written = write_report(folder, output, overwrite=overwrite, device=device, given=given)
    for note in dict.fromkeys(written.notes):
        typer.echo(f"Note: {note}")
    typer.echo(f"Wrote {written.path}, one page for any browser; its figures are in {folder}/figures.")
