"""A training of the app without a server process."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from monai_ssl.label.app_folder import DETECTION, PRETRAINING, SEGMENTATION, make_app
from monai_ssl.label.options import LABELED_STUDIES, LAST_MODEL
from monai_ssl.label.options import PRETRAINING as FROM_PRETRAINING
from monai_ssl.utils.errors import UserError

pytestmark = [
    pytest.mark.label,
    pytest.mark.skipif(
        importlib.util.find_spec("monailabel") is None,
        reason="needs MONAI Label: make label-env, then make test-label",
    ),
]


class Store:
    def __init__(self, *labels):
        self.labels = labels

    def datalist(self):
        return [{"image": f"/s/{str(label).rsplit('/')[-1]}", "label": str(label)} for label in self.labels]


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A task of a bundle, and what it would run."""
    from monai_ssl.label import train_task
    from monai_ssl.label.app_folder import LABELS

    make_app(tmp_path / "app", ["segmentation", "detection"])
    calls = []
    monkeypatch.setattr(train_task.monai.bundle, "run", lambda **settings: calls.append(settings))

    def make(name):
        return train_task.SSLTrainTask(str(tmp_path / "app" / "model" / name), {}, LABELS[name]), calls

    return make


def test_a_request_becomes_settings_of_the_bundle(make):
    task, calls = make(SEGMENTATION)
    task({"model": SEGMENTATION, "steps": 120, "device": "cpu", "client_id": "me"}, Store("a.nii.gz", "b.json"))
    (settings,) = calls
    assert settings["train#dataset#data"] == [{"image": "/s/a.nii.gz", "label": "a.nii.gz"}]
    assert settings["validate#dataset#data"] == []
    assert (settings["max_steps"], settings["epoch_length"], settings["val_interval"]) == (150, 50, 50)
    assert [path.rsplit("/")[-1] for path in settings["config_file"]] == ["train.yaml"]
    assert "client_id" not in settings


def test_labelled_studies_alone_is_the_supervised_method(make):
    task, calls = make(SEGMENTATION)
    task({"learn_from": LABELED_STUDIES}, Store("a.nii.gz"))
    assert calls[0]["config_file"][1].endswith("configs/methods/supervised.yaml")


@pytest.mark.parametrize(
    ("trained", "start", "loaded"),
    [(True, LAST_MODEL, True), (True, FROM_PRETRAINING, False), (False, LAST_MODEL, False)],
)
def test_the_last_model_is_loaded_strictly_and_an_untrained_one_never(make, tmp_path, trained, start, loaded):
    task, calls = make(SEGMENTATION)
    model = tmp_path / "app" / "model" / SEGMENTATION / "models" / "model.pt"
    if trained:
        torch.save({"model": {}}, model)
    task({"start_from": start}, Store("a.nii.gz"))
    loaders = [handler for handler in calls[0]["train#handlers"] if handler["_target_"] == "CheckpointLoader"]
    assert [(loader["load_path"], loader["strict"]) for loader in loaders] == ([(str(model), True)] if loaded else [])
    task({"start_from": start}, Store("a.nii.gz"))
    assert len(calls[1]["train#handlers"]) == len(calls[0]["train#handlers"]), "the config in memory is not changed"


def test_pretraining_asks_for_no_label(make):
    task, calls = make(PRETRAINING)
    task({}, Store("a.nii.gz"))
    assert not {"train#dataset#data", "train#handlers"} & calls[0].keys()
    assert set(task.config()) == {"steps", "device"}


def test_boxes_of_markups(make, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"markups": [{"center": [1, 2, 3], "size": [4, 5, 6]}]}))
    empty = tmp_path / "b.json"
    empty.write_text('{"markups": []}')
    task, calls = make(DETECTION)
    task({"validation": 0}, Store(file, empty, "c.nii.gz"))
    assert calls[0]["train#dataset#data"] == [
        {"image": "/s/a.json", "box": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], "label": [0]},
        {"image": "/s/b.json", "box": [], "label": []},
    ]


def test_labels_of_a_dicomweb_server_become_nifti_on_the_grid_of_the_study(make, tmp_path):
    """A DICOM segmentation has no slices without a mask."""
    whole = np.zeros((6, 3, 4), np.uint8)
    whole[2:4] = np.arange(24).reshape(2, 3, 4)
    mask = SimpleITK.GetImageFromArray(whole)
    mask.SetSpacing((1.0, 2.0, 3.0))
    mask.SetOrigin((5.0, -6.0, 7.0))
    SimpleITK.WriteImage(mask, str(tmp_path / "1.2.3.nii.gz"))
    SimpleITK.WriteImage(mask[:, :, 2:4], str(tmp_path / "1.2.3.nrrd"))
    task, calls = make(SEGMENTATION)
    store = Store(tmp_path / "1.2.3.nrrd")
    store.datalist = lambda: [{"image": str(tmp_path / "1.2.3.nii.gz"), "label": str(tmp_path / "1.2.3.nrrd")}]
    task({"validation": 0}, store)
    file = Path(calls[0]["train#dataset#data"][0]["label"])
    assert file.name == "1.2.3.nii.gz"
    assert file.is_relative_to(tmp_path / "app")
    found = SimpleITK.ReadImage(str(file))
    assert np.array_equal(SimpleITK.GetArrayFromImage(found), whole)
    np.testing.assert_allclose(found.GetOrigin(), mask.GetOrigin())
    np.testing.assert_allclose(found.GetSpacing(), mask.GetSpacing())
    (tmp_path / "1.2.3.nrrd").write_bytes(b"NRRD")
    with pytest.raises(UserError, match=r"1\.2\.3\.nrrd: this label or its study cannot be read"):
        task({}, store)


@pytest.mark.parametrize("content", ["{", "{}", '{"markups": [{"center": [1, 2, 3]}]}', '{"markups": 3}'])
def test_a_label_that_holds_no_boxes_is_named(make, tmp_path, content):
    file = tmp_path / "a.json"
    file.write_text(content)
    task, _ = make(DETECTION)
    with pytest.raises(UserError, match=r"a\.json: is no file of boxes"):
        task({}, Store(file))


@pytest.mark.parametrize("request_", [{"steps": "$1"}, {"device": {"_target_": "x"}}, {"steps": "many"}])
def test_what_is_no_choice_never_reaches_the_bundle(make, request_):
    task, calls = make(SEGMENTATION)
    with pytest.raises(UserError):
        task(request_, Store("a.nii.gz"))
    assert calls == []
