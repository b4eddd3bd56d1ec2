"""What must be there before the server starts, asked for first, so that nothing fails half-way."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

from monai_ssl.utils.errors import UserError

__all__ = ["check_environment", "check_port", "check_studies", "is_address", "is_loopback"]

_TESTED = "0.8.5"  # of MONAI Label
_NEEDED = ("monailabel", "torchvision", "pydicom_seg", "fastapi", "uvicorn", "dicomweb_client", "watchdog", "timeloop")
_HOW = "Make its environment with `make label-env` in a checkout, or see docs/monai_label.md, and call it from there."


def check_environment() -> str:
    """Check Python and the packages of MONAI Label; nothing is installed.

    Returns:
        A warning, or nothing.

    Raises:
        UserError: naming all that is missing.
    """
    if not (3, 10) <= sys.version_info[:2] < (3, 12):
        found = ".".join(map(str, sys.version_info[:2]))
        raise UserError(f"MONAI Label needs Python 3.10 or 3.11, and this is {found}. {_HOW}")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"MONAI Label cannot run here: there is no {', '.join(missing)}. {_HOW}")
    pydicom = importlib.metadata.version("pydicom")
    if int(pydicom.split(".")[0]) > 2:
        raise UserError(f"MONAI Label cannot run with pydicom {pydicom}: it needs one below 3. {_HOW}")
    version = importlib.metadata.version("monailabel")
    return "" if version == _TESTED else f"MONAI Label is {version}; monai_ssl was tested with {_TESTED}"


def check_port(host: str, port: int) -> None:
    """Check that a server can listen there.

    Raises:
        UserError: when the port is taken or not allowed, or there is no such address.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--port {port} of {host} cannot be used ({reason}). Choose another one.") from error


def check_studies(studies: str) -> tuple[str, int]:
    """Check the folder of the studies, or the DICOMweb server.

    Args:
        studies: a folder or an address.

    Returns:
        The absolute folder or the address, and the number of studies: of a folder NIfTI files; of an address -1.

    Raises:
        UserError: when it is missing, cannot be written to (labels are saved there), or does not answer, and for an
            address when the program that writes DICOM segmentations is missing.
    """
    if is_address(studies):
        if _segmentation_writer() is None:
            raise UserError(
                "labels for a DICOMweb server are written by itkimage2segimage, which is not here: pip install dcmqi."
            )
        _check_answer(studies)
        return studies.rstrip("/"), -1
    folder = Path(studies).resolve()
    if not folder.is_dir():
        raise UserError(f"--studies {studies}: is no folder. Make it and put NIfTI files into it.")
    try:
        probe = folder / ".monai_ssl.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written to ({error.strerror}), and labels are saved there. Copy the studies."
        ) from error
    return str(folder), sum(path.name.endswith((".nii", ".nii.gz")) for path in folder.iterdir())


def is_address(studies: str) -> bool:
    """Whether these are the studies of a DICOMweb server."""
    return studies.startswith(("http://", "https://"))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at that address."""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _segmentation_writer() -> str | None:
    # MONAI Label would try to download it from the internet
    beside = str(Path(sys.executable).parent)
    return shutil.which("itkimage2segimage", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))


def _check_answer(address: str) -> None:
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/studies?limit=1", timeout=10):
            pass
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):  # MONAI Label has its own settings for a login
            raise UserError(f"--studies {address}: answers {error.code}. Is this the address of DICOMweb?") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"--studies {address}: does not answer ({reason}). Is the server on?") from error
