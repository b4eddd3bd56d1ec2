"""The commands that find a bundle and copy it out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ssl.cli.console import print_table, settings_of
from monai_ssl.utils.errors import UserError

__all__ = ["bundles", "init", "path"]


def bundles() -> None:
    """List the bundles."""
    from monai_ssl.utils.bundle_files import bundle_metadata, bundle_names, bundle_path

    rows = []
    for name in bundle_names():
        info = bundle_metadata(name)
        rows.append((name, info.get("version", ""), info.get("description", ""), bundle_path(name)))
    print_table(("name", "version", "description", "path"), rows)


def path(name: Annotated[str, typer.Argument(help="A bundle's name.")]) -> None:
    """Print a bundle's folder and nothing else."""
    from monai_ssl.utils.bundle_files import bundle_path

    typer.echo(bundle_path(name))


def init(
    name: Annotated[str, typer.Argument(help="A bundle's name.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The new folder.")],
    run: Annotated[
        Path | None,
        typer.Option("--from", help="A run's output_dir: its model and values go into the copy."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="A model.pt that fits, or untrained: MONAI Label offers a bundle only if it has a model."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value for all configs of the copy; may be repeated."),
    ] = None,
) -> None:
    """Copy a bundle out, to change it or to serve it from MONAI Label."""
    from functools import partial

    from monai_ssl.utils.bundle_files import copy_bundle

    finish = None
    if weights is not None:
        if run is not None:
            raise UserError("--from and --weights exclude each other: a run brings its own model along.")
        from monai_ssl.networks.first_model import write_first_model

        finish = partial(write_first_model, weights=weights)
    typer.echo(f"Wrote {copy_bundle(name, directory, run, finish, settings_of(values or []))}")
