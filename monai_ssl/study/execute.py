"""One training or evaluation of a bundle, in its own process, by the bundle's own configs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ssl.utils.errors import UserError

__all__ = ["bundle_command", "run_bundle"]


def bundle_command(bundle: str | os.PathLike[str], configs: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """The command ``python -m monai.bundle run ..`` for config files of a bundle.

    Args:
        bundle: the bundle's folder.
        configs: files below its ``configs/``, later ones over earlier ones, such as ``["train.yaml"]``.
        settings: values by name, as ``--name value``.
    """
    files = [str(Path(bundle) / "configs" / name) for name in configs]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", str(bundle)]
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    return command


def run_bundle(
    bundle: str | os.PathLike[str],
    configs: Sequence[str],
    settings: Mapping[str, Any],
    *,
    console: str | os.PathLike[str],
) -> None:
    """Run :func:`bundle_command`; its progress bar stays on the terminal, its messages go to a file.

    Args:
        bundle: see :func:`bundle_command`.
        configs: see :func:`bundle_command`.
        settings: see :func:`bundle_command`.
        console: file that receives what the process prints on its standard output.

    Raises:
        UserError: when the process fails.
    """
    with open(console, "ab") as stream:
        # MONAI warns of every config that it reads; these are our own
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        status = subprocess.run(bundle_command(bundle, configs, settings), stdout=stream, env=environment).returncode
    if status:
        raise UserError(f"{console}: the run ended with status {status}; the reason is above and in this file.")
