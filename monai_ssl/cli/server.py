"""The command that serves studies to annotators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ssl.cli.console import listed
from monai_ssl.utils.errors import UserError

__all__ = ["label"]


def label(
    studies: Annotated[str, typer.Option(help="Folder of NIfTI files, or the address of a DICOMweb server.")],
    app_folder: Annotated[
        Path | None, typer.Option("--app", help="For models and configs; default: monai_ssl in the studies' folder.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; the server has no login.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="OHIF's page expects 8000.")] = 8000,
    models: Annotated[str, typer.Option(help="segmentation, detection, or both.")] = "segmentation,detection",
    labels: Annotated[
        str | None, typer.Option(help="Classes of the segmentation, as in liver,tumour; default: foreground.")
    ] = None,
    objects: Annotated[str | None, typer.Option(help="Classes of the detection; default: object.")] = None,
    modality: Annotated[
        str | None, typer.Option(help="CT or MRI; default: MRI for the segmentation, CT for the detection.")
    ] = None,
) -> None:
    """Serve studies to 3D Slicer and OHIF with MONAI Label, learn from all of them, and say which to label next."""
    from monai_ssl.label.app_folder import MODELS
    from monai_ssl.label.server import serve

    chosen = listed(models) or []
    if not chosen or set(chosen) - MODELS.keys():
        raise UserError(f"--models must be of {', '.join(MODELS)}, got {models!r}.")
    if modality not in (None, "CT", "MRI"):
        raise UserError(f"--modality must be CT or MRI, got {modality!r}.")
    serve(studies, app_folder, host, port, chosen, listed(labels), listed(objects), modality, say=typer.echo)
