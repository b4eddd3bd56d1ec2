"""The detector in MONAI Label's own app; the tests share one server and build on each other."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from monai_ssl.data.box_files import read_boxes, write_markups
from tests.bundles.helpers import run_bundle
from tests.label.helpers import DETECTION, PRETRAINING, TINY, Server, checksum, said

pytestmark = [pytest.mark.label, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(detection_app, chests):
    with Server(detection_app, chests[0], [DETECTION]) as running:
        yield running


@pytest.fixture
def model(detection_app):
    return detection_app / "model" / DETECTION / "models" / "model.pt"


def markups(file):
    """Centre and size of the regions of a markups file, all in LPS, sorted."""
    content = json.loads(file.read_text())
    assert content["@schema"].endswith("markups-schema-v1.0.3.json#")
    assert {region["coordinateSystem"] for region in content["markups"]} <= {"LPS"}
    assert {region["type"] for region in content["markups"]} <= {"ROI"}
    return np.array(sorted([*region["center"], *region["size"]] for region in content["markups"])).reshape(-1, 6)


def put_boxes(server, chests, tmp_path, number):
    """What a person draws in 3D Slicer: markups in LPS."""
    case = json.loads(chests[1].read_text())["training"][number]
    file = tmp_path / f"study_{number}.mrk.json"
    boxes = np.array(case["box"], np.float32).reshape(-1, 6)
    write_markups(file, boxes, np.array(case["label"], int), np.ones(len(boxes)), ["nodule"])
    file = file.rename(tmp_path / f"study_{number}.json")
    server.put_label(f"study_{number}", file)


def test_the_app_lists_the_detector(server):
    info = server.json("GET", "/info/")
    assert info["models"][DETECTION]["type"] == "detection"
    assert info["models"][DETECTION]["description"].startswith("Untrained: Detection")
    assert set(info["trainers"]) == {DETECTION}


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
def test_boxes_are_those_of_the_bundle_in_lps(server, detection_app, chests, tmp_path):
    """The bundle's own inference writes RAS; where a person sees boxes, the first two axes change sign."""
    bundle, study = detection_app / "model" / DETECTION, chests[0] / "study_0.nii.gz"
    shown = markups(server.infer(DETECTION, "study_0", tmp_path))
    run_bundle(
        "inference.yaml",
        bundle=bundle,
        image=str(study),
        output_dir=str(tmp_path / "own"),
        score_threshold=TINY[DETECTION]["markups_threshold"],
        device="cpu",
    )
    own = read_boxes(tmp_path / "own" / "study_0_boxes.json")["box"].astype(float)
    own[:, :2] *= -1
    assert len(own) > 3
    np.testing.assert_allclose(shown, np.array(sorted(own.tolist())), atol=1e-3)


def test_without_a_label_the_detector_says_what_to_do(server, model):
    before = checksum(model)
    task = server.train(DETECTION)
    assert task["status"] == "ERROR"
    assert task["details"][-1].startswith("Error: no study has a label yet")
    assert "Traceback" not in said(server)
    assert checksum(model) == before


def test_boxes_of_a_person_train_with_all_other_studies(server, detection_app, model, chests, tmp_path):
    """Read as RAS they would lie outside of their scans, which is refused. A pretraining of another network is told."""
    weights = detection_app / "model" / PRETRAINING / "models" / "model.pt"
    weights.parent.mkdir(parents=True)
    torch.save({"model.0.conv.weight": torch.zeros(2, 2)}, weights)
    before, shown = checksum(model), markups(server.infer(DETECTION, "study_3", tmp_path))
    for number in (0, 1):
        put_boxes(server, chests, tmp_path, number)
    task = server.train(DETECTION, epochs=2)
    assert task["status"] == "DONE", task["details"]
    text = said(server)
    assert "learning from 3 unlabelled studies of this server" in text
    assert "labeled stream: 2 cases" in text
    assert f"{weights}: nothing of it fits" in text
    assert checksum(model) != before
    assert not np.array_equal(markups(server.infer(DETECTION, "study_3", tmp_path)), shown)
