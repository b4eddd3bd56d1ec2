"""The companion command ``monai-ssl``.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from monai_ssl.cli.app import app
from monai_ssl.cli.bundle import bundles, init, inspect, path
from monai_ssl.cli.data import check, split
from monai_ssl.cli.report import report
from monai_ssl.cli.server import label
from monai_ssl.cli.training import demo, study

__all__ = ["app", "main"]

for command in (demo, split, check, study, report, bundles, path, init, inspect, label):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    app()
