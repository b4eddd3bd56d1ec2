from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from monai_ssl.label.checks import check_environment, check_port, check_studies, is_loopback
from monai_ssl.utils.errors import UserError


def pretend(monkeypatch, missing=(), **versions):
    monkeypatch.setattr(sys, "version_info", (3, 11, 0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else object())
    known = {"monailabel": "0.8.5", "pydicom": "2.4.5", **versions}
    monkeypatch.setattr(importlib.metadata, "version", known.__getitem__)


def test_all_that_is_missing_is_named_with_the_remedy(monkeypatch):
    pretend(monkeypatch, missing=("monailabel", "torchvision"))
    with pytest.raises(
        UserError, match=r"there is no monailabel, torchvision\. Make its environment with `make label-env"
    ):
        check_environment()


def test_versions(monkeypatch):
    pretend(monkeypatch)
    assert check_environment() == ""
    pretend(monkeypatch, monailabel="0.9.0")
    assert check_environment() == "MONAI Label is 0.9.0; monai_ssl was tested with 0.8.5"
    pretend(monkeypatch, pydicom="3.0.1")
    with pytest.raises(UserError, match=r"pydicom 3\.0\.1: it needs one below 3"):
        check_environment()
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    with pytest.raises(UserError, match=r"Python 3\.10 or 3\.11, and this is 3\.12"):
        check_environment()


def test_ports():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port} of 127.0.0.1 cannot be used"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    for host, port in (("127.0.0.1", 70_000), ("no.such.host.invalid", 8000)):
        with pytest.raises(UserError, match="cannot be used"):
            check_port(host, port)


def test_folders(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        check_studies(str(tmp_path / "none"))
    for name in ("a.nii", "b.nii.gz", "c.txt", "d.nrrd"):
        (tmp_path / name).touch()
    assert check_studies(str(tmp_path)) == (str(tmp_path.resolve()), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "b.nii.gz", "c.txt", "d.nrrd"]


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    """Root may write everywhere, so the refusal is made."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(UserError, match=r"cannot be written to \(Permission denied\), and labels are saved there"):
        check_studies(str(tmp_path))


@pytest.mark.parametrize("status", [200, 401, 404])
def test_addresses(status, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path: f"/bin/{name}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/dicom-web/"
        if status == 404:
            with pytest.raises(UserError, match="answers 404"):
                check_studies(address)
        else:
            assert check_studies(address) == (address.rstrip("/"), -1)
    with pytest.raises(UserError, match="does not answer"):
        check_studies(address)
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(UserError, match=r"itkimage2segimage, which is not here: pip install dcmqi"):
        check_studies(address)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback(host, own):
    assert is_loopback(host) is own
