"""The group of commands: its options and how it tells a mistake."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from monai_ssl.utils.errors import UserError

__all__ = ["app"]


class _Group(TyperGroup):
    """Prints a mistake of the user, or a path that cannot be written, as one line; with ``--debug`` the traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (UserError, PermissionError, FileExistsError, NotADirectoryError) as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False)


def _print_version(value: bool) -> None:
    if value:
        try:
            version = metadata.version("monai-ssl")
        except metadata.PackageNotFoundError:  # a checkout on the path
            from monai_ssl import __version__ as version
        typer.echo(f"monai-ssl {version}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Learn from many 3D scans and few labels: the companion of monai_ssl's MONAI bundles."""
