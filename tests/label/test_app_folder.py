from __future__ import annotations

import json

import pytest
import yaml

from monai_ssl.label.app_folder import DETECTION, PRETRAINING, SEGMENTATION, make_app
from monai_ssl.utils.bundle import is_untrained
from monai_ssl.utils.errors import UserError


def config(app, bundle, name="inference"):
    return yaml.safe_load((app / "model" / bundle / "configs" / f"{name}.yaml").read_text())


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app") / "own"
    made = make_app(folder, ["segmentation", "detection"], ["liver", "tumour"], ["nodule"], "CT")
    assert made == [PRETRAINING, SEGMENTATION, DETECTION]
    return folder


def test_classes_and_modality_are_in_every_file_that_has_them(app):
    for name in ("train", "inference", "evaluate"):
        assert config(app, SEGMENTATION, name)["class_names"] == ["background", "liver", "tumour"]
        assert config(app, DETECTION, name)["class_names"] == ["nodule"]
        for bundle in (SEGMENTATION, DETECTION):
            assert config(app, bundle, name)["modality"] == "CT"
    assert config(app, PRETRAINING, "train")["modality"] == "CT"
    metadata = json.loads((app / "model" / SEGMENTATION / "configs" / "metadata.json").read_text())
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert channels == {"0": "background", "1": "liver", "2": "tumour"}


def test_models_are_there_and_say_that_they_are_untrained(app):
    for bundle in (SEGMENTATION, DETECTION):
        assert is_untrained(app / "model" / bundle / "models" / "model.pt")
    assert not (app / "model" / PRETRAINING / "configs" / "inference.yaml").exists(), "nothing to show in a scan"
    assert "SSLApp" in (app / "main.py").read_text()


def test_what_is_there_stays(app):
    model = app / "model" / SEGMENTATION / "models" / "model.pt"
    model.write_bytes(b"trained")
    assert make_app(app, ["segmentation", "detection"], ["liver", "tumour"], modality="CT") == []
    assert make_app(app, ["segmentation"]) == []
    assert model.read_bytes() == b"trained"


@pytest.mark.parametrize("asked", [{"labels": ["spleen"]}, {"modality": "MRI"}, {"objects": ["lesion"]}])
def test_other_values_than_those_that_are_there_are_refused(app, asked):
    with pytest.raises(UserError, match="leave the option out, or give another folder with --app"):
        make_app(app, ["segmentation", "detection"], **asked)


def test_a_folder_of_another_app_is_left_alone(tmp_path):
    (tmp_path / "main.py").write_text("class MyApp: ...")
    with pytest.raises(UserError, match="belongs to another app"):
        make_app(tmp_path, ["segmentation"])
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]


def test_one_model_alone(tmp_path):
    assert make_app(tmp_path / "app", ["detection"]) == [PRETRAINING, DETECTION]
    assert not (tmp_path / "app" / "model" / SEGMENTATION).exists()
