"""Requests to the guarded application, without a server process."""

from __future__ import annotations

import importlib.util
import json
import shutil

import pytest

from monai_ssl.label.app_folder import make_app
from tests.label.helpers import SEGMENTATION

pytestmark = [
    pytest.mark.label,
    pytest.mark.filterwarnings("ignore"),  # of what MONAI Label imports
]


@pytest.fixture(scope="module")
def client(studies, tmp_path_factory):
    if importlib.util.find_spec("monailabel") is None:
        pytest.skip("needs MONAI Label: make label-env, then make test-label")
    from fastapi.testclient import TestClient
    from monailabel.config import settings
    from monailabel.interfaces.utils.app import clear_cache

    folder = tmp_path_factory.mktemp("web")
    shutil.copytree(studies, folder / "studies")
    make_app(folder / "app", ["segmentation"])
    before = settings.MONAI_LABEL_APP_DIR, settings.MONAI_LABEL_STUDIES
    settings.MONAI_LABEL_APP_DIR, settings.MONAI_LABEL_STUDIES = str(folder / "app"), str(folder / "studies")
    from monai_ssl.label.web import app

    yield TestClient(app, raise_server_exceptions=False)
    settings.MONAI_LABEL_APP_DIR, settings.MONAI_LABEL_STUDIES = before
    clear_cache()


def test_it_answers(client):
    info = client.get("/info/").json()
    assert info["name"].startswith("monai_ssl ")
    assert info["datastore"]["total"] == 7


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", f"/train/{SEGMENTATION}", {"steps": "$__import__('os').system('touch pwned')"}, 400, "is code"),
        ("POST", f"/train/{SEGMENTATION}", {"device": {"_target_": "os.system"}}, 400, "is code"),
        ("POST", f"/train/{SEGMENTATION}", {"run": ["@network"]}, 400, "is code"),
        ("POST", "/train/nothing", {}, 404, "there is no model 'nothing'"),
        ("POST", f"/infer/{SEGMENTATION}?image=nothing", None, 404, "there is no study 'nothing'"),
        ("POST", f"/infer/{SEGMENTATION}?image=/etc/passwd", None, 400, "image: must be a name"),
        ("POST", "/infer/nothing?image=study_3", None, 404, "There is no model 'nothing'"),
        ("POST", "/activelearning/best", {}, 404, "no such strategy 'best'"),
        ("DELETE", "/datastore/label?id=../../x&tag=final", None, 400, "id: must be a name"),
        ("DELETE", "/datastore/image?id=nothing", None, 404, "nothing not found"),
        ("PUT", "/datastore/image?image=../../x", None, 400, "image: must be a name"),
        ("GET", "/datastore/image?image=nothing", None, 404, "NOT Found"),
    ],
)
def test_a_bad_request_gets_one_line(client, method, path, body, status, words):
    answer = client.request(method, path, **({} if body is None else {"json": body}))
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text


@pytest.mark.parametrize(
    "params", [{"image": "OUTSIDE"}, {"image": "/etc/passwd"}, {"device": "$print(1)"}, {"model_filename": "../x.pt"}]
)
def test_a_form_cannot_name_a_file_of_the_machine(client, studies, params):
    text = json.dumps(params).replace("OUTSIDE", str(studies / "study_3.nii.gz"))
    answer = client.post(f"/infer/{SEGMENTATION}?image=study_3&output=image", data={"params": text})
    assert answer.status_code in (400, 404), answer.text[:500]
    assert answer.json()["detail"].count("\n") == 0


def test_other_web_pages_are_refused(client):
    assert client.post(f"/train/{SEGMENTATION}", headers={"Origin": "http://elsewhere.org"}).status_code == 403
    assert client.get("/info/", headers={"Origin": "http://testserver"}).status_code == 200
