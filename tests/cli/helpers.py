from __future__ import annotations

from typer.testing import CliRunner

from monai_ssl.cli import app


def monai_ssl(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
