"""Our own app behind the real server, from no label to the suggested study; the tests build on each other."""

from __future__ import annotations

import json
import shutil
import time

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.label.app_folder import make_app
from monai_ssl.networks.first_model import write_first_model
from monai_ssl.utils.bundle import is_untrained
from tests.label.helpers import (
    DETECTION,
    PRETRAINING,
    SEGMENTATION,
    TINY,
    OwnServer,
    checksum,
    configure,
    said,
    write_label,
)

pytestmark = [
    pytest.mark.label,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def app(apps, tmp_path_factory):
    """Made as the command makes it, then changed as a user may change it."""
    folder = tmp_path_factory.mktemp("own") / "app"
    make_app(folder, ["segmentation", "detection"], labels=["bright"])
    for name in (SEGMENTATION, PRETRAINING, DETECTION):
        bundle = folder / "model" / name
        configure(bundle, **{key: value for key, value in TINY[name].items() if key != "epoch_length"})
        if name != PRETRAINING:
            write_first_model(bundle, "untrained")
    return folder


@pytest.fixture(scope="module")
def own_studies(studies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "all"
    shutil.copytree(studies, folder)
    return folder


@pytest.fixture(scope="module")
def server(app, own_studies):
    with OwnServer(app, own_studies) as running:
        yield running


@pytest.fixture
def model(app):
    return app / "model" / SEGMENTATION / "models" / "model.pt"


def put_label(server, number, tmp_path, value=1):
    study = server.studies / f"study_{number}.nii.gz"
    return server.put_label(study.name[:-7], write_label(study, tmp_path / study.name, value))


def train(server, model, **params):
    server.json("POST", f"/train/{model}", json={"device": "cpu", **params})
    return server.end_of_training()


def suggestion(server, strategy, wanted, seconds=300):
    """The next sample, once the ranking in the background has got so far."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sample = server.json("POST", f"/activelearning/{strategy}", json={})
        if wanted(sample):
            return sample
        time.sleep(1)
    raise TimeoutError(f"{sample}\n{server.text()[-4000:]}")


def test_it_offers_models_strategies_and_choices_that_a_person_understands(server):
    info = server.json("GET", "/info/")
    assert list(info["models"]) == [SEGMENTATION, DETECTION]
    assert info["models"][SEGMENTATION]["labels"] == {"bright": 1}
    assert list(info["trainers"]) == [SEGMENTATION, DETECTION, PRETRAINING]
    assert next(iter(info["strategies"])) == "uncertainty_coverage"
    assert set(info["strategies"]) == {"uncertainty_coverage", "uncertainty", "coverage", "random", "first"}
    assert set(info["trainers"][SEGMENTATION]["config"]) == {
        *("steps", "device", "learn_from", "start_from", "validation"),
    }
    assert info["train_stats"][SEGMENTATION] == {}


def test_before_any_model_studies_come_by_name_and_the_answer_says_so(server):
    given = [server.json("POST", "/activelearning/uncertainty", json={}) for _ in range(2)]
    assert [sample["id"] for sample in given] == ["study_0", "study_1"], "a study that was passed over comes last"
    assert given[0]["note"] == "no model has ranked the studies yet: they come by name"


def test_a_pretraining_lets_studies_be_ranked_by_coverage(server):
    task = train(server, PRETRAINING, steps=3)
    assert task["status"] == "DONE", task["details"]
    stats = server.json("GET", "/info/")["train_stats"][PRETRAINING]
    assert (stats["epoch"], stats["total_epochs"]) == (3, 3)
    suggestion(server, "coverage", lambda sample: "note" not in sample)
    assert "note" in server.json("POST", "/activelearning/uncertainty", json={}), "nothing is known of uncertainty yet"


def test_the_first_label_trains_with_all_other_studies_and_every_study_is_ranked(server, app, model, tmp_path):
    before = checksum(model)
    put_label(server, 0, tmp_path)
    task = train(server, SEGMENTATION, steps=6)
    assert task["status"] == "DONE", task["details"]
    text = said(server)
    assert "learning from 6 unlabelled studies of this server" in text
    assert "1 labelled studies, and 0 for validation" in text
    assert checksum(model) != before
    assert not is_untrained(model)
    stats = server.json("GET", "/info/")["train_stats"][SEGMENTATION]
    assert (stats["epoch"], stats["total_epochs"], stats["best_metric"]) == (6, 6, 0.0)
    assert stats["total_time"].endswith(" s")
    sample = suggestion(server, "uncertainty", lambda sample: "uncertainty" in sample)
    assert 0 < sample["uncertainty"] < 1
    ranking = json.loads((app / "suggestions" / "suggestions.json").read_text())
    assert ranking["strategy"] == "uncertainty_coverage"
    assert len(ranking["suggested"]) == 6, "labelled studies are never suggested"
    most = max(ranking["scans"], key=lambda scan: scan["uncertainty"])
    assert most["uncertainty"] >= sample["uncertainty"]
    assert all({"uncertainty", "distance"} <= scan.keys() for scan in ranking["scans"])


def test_a_mask_lies_on_its_study(server, tmp_path):
    mask = nib.load(server.infer(SEGMENTATION, "study_3", tmp_path))
    study = nib.load(server.studies / "study_3.nii.gz")
    assert mask.shape == study.shape
    np.testing.assert_allclose(mask.affine, study.affine, atol=1e-4)


def test_labelled_studies_alone_is_a_choice(server, model, tmp_path):
    put_label(server, 1, tmp_path)
    before = checksum(model)
    task = train(server, SEGMENTATION, steps=4, learn_from="labelled studies alone")
    assert task["status"] == "DONE", task["details"]
    assert "unlabelled studies of this server" not in said(server)
    assert f"started from {model}" in said(server)
    assert checksum(model) != before


def test_studies_for_validation_were_never_learned_from(server, app, tmp_path):
    for number in (2, 3):
        put_label(server, number, tmp_path)
    task = train(server, SEGMENTATION, steps=4, validation=0.5)
    assert task["status"] == "DONE", task["details"]
    assert "2 labelled studies, and 2 for validation" in said(server)
    parts = json.loads((app / "model" / SEGMENTATION / "models" / "holdout.json").read_text())
    assert parts["validation"] == ["study_2.nii.gz", "study_3.nii.gz"]
    assert set(parts["learned"]) == {"study_0.nii.gz", "study_1.nii.gz"}
    assert 0 <= server.json("GET", "/info/")["train_stats"][SEGMENTATION]["best_metric"] <= 1


def test_a_label_of_an_unknown_class_is_told_at_once_and_kept(server, model, tmp_path):
    answer = put_label(server, 4, tmp_path, value=7)
    assert "has the value 7; there are 0 background, 1 bright" in answer["warning"]
    assert (server.studies / "labels" / "final" / "study_4.nii.gz").is_file()
    before = checksum(model)
    task = train(server, SEGMENTATION, steps=4, validation=0)
    assert task["status"] == "ERROR"
    assert "study_4.nii.gz: has the value 7" in task["details"][-1]
    assert checksum(model) == before
    assert "warning" not in put_label(server, 4, tmp_path)


def test_a_file_that_comes_with_the_request_is_answered_for(server):
    with open(server.studies / "study_3.nii.gz", "rb") as stream:
        answer = server.request("POST", f"/infer/{SEGMENTATION}?output=image", files={"file": ("x.nii.gz", stream)})
    assert answer.status_code == 200, answer.text[:500]


def test_a_file_of_a_session_is_answered_for(server):
    """As 3D Slicer sends a volume that is not among the studies."""
    with open(server.studies / "study_3.nii.gz", "rb") as stream:
        session = server.json("PUT", "/session/", files={"files": ("x.nii.gz", stream)})["session_id"]
    path = f"/infer/{SEGMENTATION}?session_id={session}&output=image"
    assert server.request("POST", path, data={"params": "{}"}).status_code == 200


def test_choices_that_are_none_end_the_training_with_one_line(server, model):
    before = checksum(model)
    for params, words in (
        ({"steps": "many"}, "steps must be a number"),
        ({"learn_from": "the web"}, "learn_from must be one of"),
    ):
        task = train(server, SEGMENTATION, **params)
        assert task["status"] == "ERROR"
        assert words in task["details"][-1]
        assert "Traceback" not in said(server)
    assert checksum(model) == before


def test_of_two_requests_at_once_one_trains_and_cancel_keeps_the_model(server, model):
    before = checksum(model)
    body = {"json": {"device": "cpu", "steps": 100_000}}
    codes = [server.request("POST", f"/train/{SEGMENTATION}", **body).status_code for _ in range(2)]
    assert codes == [200, 429]
    server.wait_for("labeled stream")
    server.json("DELETE", "/train/")
    assert server.end_of_training()["status"] == "STOPPED"
    assert checksum(model) == before


def test_a_second_server_on_the_same_folder_is_refused(server, app, own_studies):
    with pytest.raises(RuntimeError, match="another server has this app"), OwnServer(app, own_studies):
        pass


def test_boxes_train_the_detector_beside_masks(server, app, tmp_path):
    """A study's boxes are a label of the detection alone."""
    boxes = tmp_path / "study_5.json"
    study = nib.load(server.studies / "study_5.nii.gz")
    center = (study.affine @ [*(np.array(study.shape) / 2), 1])[:3] * [-1, -1, 1]
    boxes.write_text(json.dumps({"markups": [{"center": list(center), "size": [6.0, 6.0, 6.0]}]}))
    server.put_label("study_5", boxes)
    task = train(server, DETECTION, steps=2)
    assert task["status"] == "DONE", task["details"]
    assert "1 labelled studies, and 0 for validation" in said(server)
    task = train(server, SEGMENTATION, steps=2, validation=0)
    assert task["status"] == "DONE", task["details"]
    assert "5 labelled studies, and 0 for validation" in said(server)


def test_killed_and_started_again_it_has_its_models(server, app, own_studies, model):
    """Last of all, since it ends the server of the others."""
    before = checksum(model)
    server.json("POST", f"/train/{SEGMENTATION}", json={"device": "cpu", "steps": 100_000})
    server.wait_for("labeled stream")
    server.kill()
    assert checksum(model) == before
    with OwnServer(app, own_studies) as again:
        info = again.json("GET", "/info/")
        assert info["models"][SEGMENTATION]["description"].startswith("Segmentation of")
        assert info["datastore"]["total"] == 7
