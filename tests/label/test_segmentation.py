"""The bundles in MONAI Label's own app, from no label to several, in the order in which a person would meet it.

The tests share one server and build on each other, since a server and a training take half a minute to start.
"""

from __future__ import annotations

import json
import shutil
import time

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.utils.bundle import is_untrained
from tests.label.helpers import PRETRAINING, SEGMENTATION, Server, checksum, said, write_label

pytestmark = [
    pytest.mark.label,
    pytest.mark.timeout(600),
    # MONAI Label's client, on import and by every request
    pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]
MODELS = [SEGMENTATION, PRETRAINING]
SCORING = {"epistemic_model": SEGMENTATION, "epistemic_simulation_size": "2"}


@pytest.fixture(scope="module")
def server(segmentation_app, studies):
    with Server(segmentation_app, studies, MODELS, **SCORING) as running:
        yield running


@pytest.fixture
def model(segmentation_app):
    return segmentation_app / "model" / SEGMENTATION / "models" / "model.pt"


def check_geometry(mask, study):
    """A mask lies voxel by voxel on its study."""
    mask, study = nib.load(mask), nib.load(study)
    assert mask.shape == study.shape
    np.testing.assert_allclose(mask.affine, study.affine, atol=1e-4)
    assert set(np.unique(mask.get_fdata())) <= {0.0, 1.0}


def put_label(server, studies, tmp_path, number, value=1):
    name = f"study_{number}"
    study = studies / f"{name}.nii.gz"
    server.put_label(name, write_label(study, tmp_path / "labels" / f"{name}.nii.gz", value))


def newest_run(model):
    return max((model.parent / "runs").iterdir(), key=lambda run: run.stat().st_mtime)


def wait_for_steps(model, before):
    """Until a new run has done its first steps."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        runs = set((model.parent / "runs").iterdir()) - before
        if any((run / "steps.csv").is_file() and (run / "steps.csv").read_text().count("\n") > 2 for run in runs):
            return
        time.sleep(0.2)
    raise TimeoutError("no step was done")


def test_the_app_lists_model_and_trainers(server):
    info = server.json("GET", "/info/")
    assert set(info["models"]) == {SEGMENTATION}
    assert set(info["trainers"]) == set(MODELS)
    assert info["models"][SEGMENTATION]["labels"] == {"foreground": 1}
    assert info["models"][SEGMENTATION]["description"].startswith("Untrained: Segmentation of 3D CT")
    assert {"random", "first"} <= set(info["strategies"])
    # MONAI Label's trainer of bundles has no way to say more: progress is in GET /train/
    assert info["train_stats"] == {name: {} for name in MODELS}


def test_it_gives_a_next_sample(server, studies):
    sample = server.json("POST", "/activelearning/random", json={})
    assert sample["path"] == str(studies / f"{sample['id']}.nii.gz")


def test_an_untrained_model_answers_in_the_studys_own_geometry(server, studies, tmp_path):
    affines = set()
    for number in range(3):
        name = f"study_{number}"
        check_geometry(server.infer(SEGMENTATION, name, tmp_path), studies / f"{name}.nii.gz")
        affines.add("".join(nib.aff2axcodes(nib.load(studies / f"{name}.nii.gz").affine)))
    assert len(affines) > 1, "one orientation shows little"


def test_without_a_label_the_segmentation_says_what_to_do(server, model):
    before = checksum(model)
    task = server.train(SEGMENTATION)
    assert task["status"] == "ERROR"
    assert task["details"][-1] == (
        "Error: no study has a label yet: label one, submit it, and train again. "
        "Training ssl_pretraining needs no label."
    )
    assert "Traceback" not in said(server)
    assert checksum(model) == before


def test_pretraining_needs_no_label(server, segmentation_app):
    task = server.train(PRETRAINING, epochs=2)
    assert task["status"] == "DONE", task["details"]
    assert "learning from 7 studies, with and without a label, of this server" in said(server)
    assert any(line.startswith("step 4/4 ") for line in task["details"]), "progress reaches the client"
    assert (segmentation_app / "model" / PRETRAINING / "models" / "model.pt").is_file()


def test_the_first_label_trains_from_the_pretraining_with_all_other_studies(server, model, studies, tmp_path):
    before, mask = checksum(model), server.infer(SEGMENTATION, "study_1", tmp_path).read_bytes()
    assert is_untrained(model)
    put_label(server, studies, tmp_path, 0)
    task = server.train(SEGMENTATION, epochs=3)
    assert task["status"] == "DONE", task["details"]
    text = said(server)
    assert "learning from 6 unlabelled studies of this server" in text
    assert "labeled stream: 1 cases" in text
    assert f"pretrained weights of {model.parents[2] / PRETRAINING / 'models' / 'model.pt'}: 11 matched" in text
    assert f"{model} is untrained, and its weights are not used" in text
    assert checksum(model) != before
    assert not is_untrained(model)
    metadata = json.loads((model.parents[1] / "configs" / "metadata.json").read_text())
    assert metadata["description"].startswith("Segmentation of")
    # the server takes the new file by itself
    file = server.infer(SEGMENTATION, "study_1", tmp_path)
    check_geometry(file, studies / "study_1.nii.gz")
    assert file.read_bytes() != mask


def test_through_the_client_training_goes_on_from_what_is_there(server, model, studies, tmp_path):
    from monailabel.client import MONAILabelClient

    client = MONAILabelClient(server.url, str(tmp_path))
    before = checksum(model)
    assert set(client.info()["models"]) >= {SEGMENTATION}
    sample = client.next_sample("first", {})
    assert sample["id"] != "study_0", "it has a label"
    file, result = client.infer(SEGMENTATION, sample["id"], {})
    check_geometry(file, studies / f"{sample['id']}.nii.gz")
    assert result["label_names"] == {"foreground": 1}
    client.save_label("study_1", str(write_label(studies / "study_1.nii.gz", tmp_path / "study_1.nii.gz")), "final")
    client.train_start(SEGMENTATION, {"max_epochs": 2, "device": "cpu"})
    task = server.end_of_training()
    assert task["status"] == "DONE", task["details"]
    text = said(server)
    assert "learning from 5 unlabelled studies of this server" in text
    assert "labeled stream: 2 cases" in text
    assert f"started from {model}: 15 matched" in text
    assert "pretrained weights" not in text, "a trained model goes first"
    assert checksum(model) != before
    assert not client.train_status(check_if_running=True)


def test_a_batch_of_proposals_leaves_the_studies_unlabelled(server, studies):
    path = f"/batch/infer/{SEGMENTATION}?images=unlabeled&run_sync=true"
    answers = server.json("POST", path, json={"device": "cpu", "multi_gpu": False, "max_workers": 1})
    assert set(answers) == {f"study_{number}" for number in range(2, 7)}
    for name in answers:
        check_geometry(studies / "labels" / "original" / f"{name}.nii.gz", studies / f"{name}.nii.gz")
    assert server.json("GET", "/info/")["datastore"]["completed"] == 2


def test_uncertainty_is_scored_for_every_unlabelled_study(server):
    result = server.json("POST", f"/scoring/{SEGMENTATION}?run_sync=true", json={"device": "cpu", "max_workers": 1})
    assert (result["total"], result["executed"]) == (5, 5)
    objects = server.json("GET", "/datastore/?output=all")["objects"]
    entropies = {name: entry["image"]["info"].get("epistemic_entropy") for name, entry in objects.items()}
    assert {name for name, entropy in entropies.items() if entropy is not None} == set(entropies) - {
        "study_0",
        "study_1",
    }
    assert all(0 < entropy < 1 for entropy in entropies.values() if entropy is not None)


def test_a_broken_study_is_named_and_passed_over(server, model, studies, tmp_path):
    """With three labels one of them is for validation, too."""
    put_label(server, studies, tmp_path, 2)
    broken = studies / "broken.nii.gz"
    broken.write_bytes((studies / "study_3.nii.gz").read_bytes()[:2000])
    try:
        time.sleep(2)  # the server watches the folder
        before = checksum(model)
        task = server.train(SEGMENTATION, epochs=3)
        assert task["status"] == "DONE", task["details"]
        text = said(server)
        assert "learning from 5 unlabelled studies of this server" in text
        assert text.count(f"{broken}: cannot be read and prepared") == 1
        assert "It is skipped." in text
        assert checksum(model) != before
        assert len(json.loads((newest_run(model) / "validation_metrics.json").read_text())["cases"]) == 1
        answer = server.request("POST", f"/infer/{SEGMENTATION}?image=broken&output=image", data={"params": "{}"})
        assert answer.status_code == 500
        server.infer(SEGMENTATION, "study_3", tmp_path)
    finally:
        broken.unlink()


def test_a_second_request_is_refused_and_a_cancel_leaves_the_model(server, model, tmp_path):
    before, runs = checksum(model), set((model.parent / "runs").iterdir())
    server.start_training(SEGMENTATION, epochs=5000)
    wait_for_steps(model, runs)
    answer = server.request("POST", f"/train/{SEGMENTATION}", json={"max_epochs": 1})
    assert (answer.status_code, answer.json()["detail"]) == (429, "++++++++++ Train Task is Already Running")
    server.json("DELETE", "/train/")
    assert server.end_of_training()["status"] == "STOPPED"
    assert checksum(model) == before
    server.infer(SEGMENTATION, "study_4", tmp_path)


def test_a_label_of_an_unknown_class_is_named_and_the_model_stays(server, model, studies, tmp_path):
    before = checksum(model)
    put_label(server, studies, tmp_path, 2, value=7)
    task = server.train(SEGMENTATION, epochs=3, val_split=0.0)
    assert task["status"] == "ERROR"
    assert task["details"][-1].startswith("Error: ")
    assert "study_2.nii.gz: has the value 7; labels must be whole numbers from 0 to 1" in task["details"][-1]
    assert "Traceback" not in said(server)
    assert checksum(model) == before
    put_label(server, studies, tmp_path, 2)


def test_a_server_that_was_killed_in_training_goes_on(server, segmentation_app, model, studies, tmp_path):
    """Last of all, since it ends the server of the others."""
    before, runs = checksum(model), set((model.parent / "runs").iterdir())
    server.start_training(SEGMENTATION, epochs=5000)
    wait_for_steps(model, runs)
    server.kill()
    assert checksum(model) == before
    shutil.copy(studies / "study_6.nii.gz", studies / "new.nii.gz")
    with Server(segmentation_app, studies, MODELS) as again:
        info = again.json("GET", "/info/")
        assert set(info["models"]) == {SEGMENTATION}, "a pretraining is nothing to look at, trained or not"
        assert info["models"][SEGMENTATION]["description"].startswith("Segmentation of")
        assert info["datastore"] | {"label_tags": {}} == {"total": 8, "completed": 3, "label_tags": {}}
        check_geometry(again.infer(SEGMENTATION, "new", tmp_path), studies / "new.nii.gz")
