"""Serve our app with MONAI Label's own server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from monai_ssl.label.app_folder import make_app
from monai_ssl.label.checks import check_environment, check_port, check_studies, is_address, is_loopback
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock

__all__ = ["serve"]

_FOLDER = "monai_ssl"  # of the app, beside the studies that its models learn from


def serve(
    studies: str,
    app: str | os.PathLike[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    models: Sequence[str] = ("segmentation", "detection"),
    labels: Sequence[str] | None = None,
    objects: Sequence[str] | None = None,
    modality: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Check everything, write the app's folder where it is missing, and serve until the process is stopped.

    Args:
        studies: folder of NIfTI files, or the address of DICOMweb.
        app: folder for models, configs and logs; default: ``monai_ssl`` in the folder of studies.
        host: address to listen at.
        port: likewise.
        models: see :func:`~monai_ssl.label.app_folder.make_app`.
        labels: likewise.
        objects: likewise.
        modality: likewise.
        say: gets each line for the person who starts the server.

    Raises:
        UserError: when something is missing, before the server starts.
    """
    if warning := check_environment():
        say(f"Warning: {warning}.")
    where, count = check_studies(studies)
    check_port(host, port)
    if app is None and is_address(studies):
        raise UserError("--app must name a folder for the models where the studies are those of a DICOMweb server.")
    folder = (Path(where) / _FOLDER if app is None else Path(app)).resolve()
    try:
        for name in make_app(folder, models, labels, objects, modality):
            say(f"Wrote {folder / 'model' / name}, whose configs can be changed before the first training.")
        lock = _hold(folder)  # until the process ends
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror}). Choose another one with --app.") from error
    if count == 0:
        say(f"Warning: {where} has no NIfTI file yet; what is put there while the server runs is found.")
    if not is_loopback(host):
        say(f"Warning: {host} can be reached from other machines, and the server has no login: everyone there can read")
        say("and change all studies and labels. Use 127.0.0.1 and a tunnel (ssh -L) where that is not meant.")
    say(f"Serving {'the studies' if count < 0 else f'{count} studies'} of {where} at http://{host}:{port}")
    try:
        _run(str(folder), where, host, port, modality)
    finally:
        lock.release()


def _hold(folder: Path) -> FolderLock:
    try:
        return FolderLock(folder)
    except UserError as error:
        raise UserError(
            f"{folder}: another server has this app. Stop it, or choose another folder with --app."
        ) from error


def _run(app: str, studies: str, host: str, port: int, modality: str | None) -> None:
    # all but the path is read by MONAI Label when it is imported
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if modality:
        search = json.dumps({"Modality": {"CT": "CT", "MRI": "MR"}[modality]})
        os.environ.setdefault("MONAI_LABEL_DICOMWEB_SEARCH_FILTER", search)
    os.environ.setdefault("MONAI_LABEL_DICOMWEB_CACHE_EXPIRY", "30")  # seconds until new studies and labels are seen
    os.environ.setdefault("MONAI_LABEL_AUTO_UPDATE_SCORING", "false")
    os.environ.setdefault("MONAI_LABEL_DATASTORE_FILE_EXT", json.dumps(["*.nii.gz", "*.nii"]))
    from monailabel.main import Main

    main = Main(actions=("start_server",))
    words = ["start_server", "--app", app, "--studies", studies, "--host", host, "--port", str(port)]
    main.action_start_server(main.args_parser().parse_args([*words, "--uvicorn_app", "monai_ssl.label.web:app"]))
