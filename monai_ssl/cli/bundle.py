"""The commands that find a bundle, copy it out and look into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ssl.cli.console import plain, print_table, settings_of
from monai_ssl.utils.errors import UserError

__all__ = ["bundles", "init", "inspect", "path"]


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


def inspect(
    folder: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder of a bundle, ours or a stranger's.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all that is in it to this file, too.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show what is not marked, too.")] = False,
) -> None:
    """Name what a bundle would reach outside of MONAI, torch, ignite and monai_ssl, before it is run.

    Nothing of it is run or imported. The command ends with 1 if something is marked.
    """
    from monai_ssl.utils.bundle_inspect import inspect_bundle
    from monai_ssl.utils.files import write_json

    result = inspect_bundle(folder)
    shown = result.findings if everything else result.marked
    if shown:
        rows = [(f.kind, f.file, f.place, f.text, "; ".join(f.marks)) for f in shown]
        print_table(("", "file", "place", "what", "why it is marked"), [tuple(map(plain, row)) for row in rows])
        typer.echo("")
    kinds = [finding.kind for finding in result.findings]
    counts = ", ".join(f"{kinds.count(kind)} {kind}s" for kind in ("target", "expression", "import"))
    files = len({finding.file for finding in result.findings})
    typer.echo(f"{len(result.marked)} marked in {files} files with {counts}.")
    if json_file is not None:
        write_json(json_file, result.as_dict())
        typer.echo(f"Wrote {json_file}")
    if result.marked:
        raise typer.Exit(1)
