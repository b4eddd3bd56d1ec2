from __future__ import annotations

import socket

import pytest

from monai_ssl.label import server
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def started(monkeypatch):
    """What MONAI Label's server would be started with."""
    calls = []
    monkeypatch.setattr(server, "check_environment", lambda: "")
    monkeypatch.setattr(server, "_run", lambda *args: calls.append(args))
    return calls


@pytest.fixture
def studies(tmp_path):
    folder = tmp_path / "studies"
    folder.mkdir()
    (folder / "a.nii.gz").touch()
    return folder


def test_the_app_lies_with_its_studies_and_nothing_else_hears(started, studies, port):
    lines = []
    server.serve(str(studies), port=port, models=["segmentation"], say=lines.append)
    folder = studies / "monai_ssl"
    assert started == [(str(folder), str(studies), "127.0.0.1", port, None)]
    assert (folder / "model" / "semi_segmentation" / "models" / "model.pt").is_file()
    assert lines[-1] == f"Serving 1 studies of {studies} at http://127.0.0.1:{port}"
    assert not any("no login" in line for line in lines)
    lines.clear()
    server.serve(str(studies), port=port, models=["segmentation"], say=lines.append)
    assert len(lines) == 1, "nothing is written a second time"


def test_an_address_that_others_reach_is_warned_of(started, studies, tmp_path, port):
    lines = []
    app = tmp_path / "app"
    server.serve(str(studies), app, "0.0.0.0", port, models=["segmentation"], say=lines.append)
    assert any("0.0.0.0 can be reached from other machines, and the server has no login" in line for line in lines)


def test_an_empty_folder_is_served_with_a_warning(started, tmp_path, port):
    lines = []
    server.serve(str(tmp_path), port=port, models=["segmentation"], say=lines.append)
    assert any("has no NIfTI file yet" in line for line in lines)


def test_nothing_starts_and_nothing_is_written_where_something_is_missing(
    started, studies, tmp_path, port, monkeypatch
):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(UserError, match=f"--port {port}"):
            server.serve(str(studies), port=port)
    with pytest.raises(UserError, match="is no folder"):
        server.serve(str(tmp_path / "none"), port=port)
    monkeypatch.setattr(server, "check_studies", lambda studies: (studies, -1))
    with pytest.raises(UserError, match="--app must name a folder"):
        server.serve("http://127.0.0.1:8042/dicom-web", port=port)
    assert not started
    assert [path.name for path in studies.iterdir()] == ["a.nii.gz"]


def test_one_server_a_folder(started, studies, tmp_path, port):
    app = tmp_path / "app"
    server.serve(str(studies), app, port=port, models=["segmentation"])
    lock = FolderLock(app)
    with pytest.raises(UserError, match="another server has this app"):
        server.serve(str(studies), app, port=port, models=["segmentation"])
    lock.release()
    server.serve(str(studies), app, port=port, models=["segmentation"])
    assert len(started) == 2


def test_a_folder_that_cannot_be_made(started, studies, port):
    with pytest.raises(UserError, match=r"cannot be written to \(.*\). Choose another one with --app"):
        server.serve(str(studies), studies / "a.nii.gz" / "app", port=port, models=["segmentation"])
