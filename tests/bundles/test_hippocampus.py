"""The main job on real volumes: few labels, many scans, a model that has learned something."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.data.split import write_split
from tests.bundles.helpers import run_bundle, train

SETTINGS = {
    "max_steps": 180,
    "epoch_length": 60,
    "save_interval": 60,
    "val_interval": 60,
    "learning_rate": 0.01,
    "warmup_steps": 10,
    "patch_size": [32, 48, 32],
    "network_def#channels": [8, 16, 32, 64],
    "network_def#strides": [2, 2, 2],
    "cache_rate": 1.0,
}


@pytest.fixture(scope="module")
def lists(hippocampus, tmp_path_factory):
    path = tmp_path_factory.mktemp("lists") / "split.json"
    write_split(hippocampus, path, labels=8, validation=2, test=6, seed=3)
    return {"dataset_dir": str(hippocampus), "datalist": str(path)}


@pytest.mark.parametrize(("method", "least"), [("supervised", 0.6), ("mean_teacher", 0.5)])
def test_a_model_that_has_learned_from_labels_to_label_maps(method, least, lists, hippocampus, tmp_path):
    train(method, **{**SETTINGS, **lists, "output_dir": str(tmp_path / "run")})
    weights = {"weights": str(tmp_path / "run" / "model.pt")}
    run_bundle("evaluate.yaml", **lists, **weights, output_dir=str(tmp_path / "test"))
    metrics = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert len(metrics["cases"]) == 6
    assert metrics["mean"]["dice"] > least
    assert min(metrics["classes"][name]["dice"] for name in ("Anterior", "Posterior")) > least - 0.2

    case = metrics["cases"][0]["image"]
    run_bundle(
        "inference.yaml", **weights, image=str(hippocampus / "imagesTr" / case), output_dir=str(tmp_path / "out")
    )
    scan = nib.load(hippocampus / "imagesTr" / case)
    (path,) = (tmp_path / "out").iterdir()
    answer = nib.load(path)
    assert answer.shape == scan.shape
    assert np.array_equal(answer.affine, scan.affine)
    # inference says what evaluation scored
    predicted = np.asarray(answer.dataobj)
    reference = np.asarray(nib.load(hippocampus / "labelsTr" / case).dataobj)
    for value, name in ((1, "Anterior"), (2, "Posterior")):
        overlap = 2 * np.sum((predicted == value) & (reference == value))
        dice = overlap / (np.sum(predicted == value) + np.sum(reference == value))
        assert dice == pytest.approx(metrics["cases"][0]["classes"][name]["dice"], abs=1e-6)
