"""N4 in training, evaluation and inference alike."""

from __future__ import annotations

import pytest

from monai_ssl.transforms.bias_correction import N4BiasCorrectiond
from tests.bundles.helpers import PRETRAINING, pretrain, read_json, run_bundle, train


@pytest.fixture
def corrected(monkeypatch):
    """Files of the scans that were corrected."""
    seen = []
    original = N4BiasCorrectiond.__call__

    def watched(self, data):
        seen.append(data["image"].meta["filename_or_obj"].rsplit("/", 1)[1])
        return original(self, data)

    monkeypatch.setattr(N4BiasCorrectiond, "__call__", watched)
    return seen


def test_a_network_is_used_on_what_it_was_trained_on(mri, tmp_path, corrected, mistake):
    scans = read_json(mri / "dataset.json")
    names = {part: [entry["image"].rsplit("/", 1)[1] for entry in scans[part]] for part in ("training", "test")}
    pretrain(dataset_dir=str(mri), output_dir=str(tmp_path / "ssl"), bias_correction="true", max_steps=2)
    assert read_json(tmp_path / "ssl" / "preprocessing.json")["bias_correction"] is True
    settings = {"dataset_dir": str(mri), "output_dir": str(tmp_path / "run"), "bias_correction": "true"}
    train("supervised", **settings, max_steps=2, pretrained=str(tmp_path / "ssl" / "model.pt"))
    assert read_json(tmp_path / "run" / "preprocessing.json")["bias_correction"] is True
    assert not read_json(tmp_path / "run" / "transfer.json")["warnings"]
    assert set(names["training"]) <= set(corrected)

    weights = str(tmp_path / "run" / "model.pt")
    corrected.clear()
    run_bundle("evaluate.yaml", weights=weights, dataset_dir=str(mri), output_dir=str(tmp_path / "eval"))
    assert corrected == names["test"]
    corrected.clear()
    image = mri / scans["test"][0]["image"]
    run_bundle("inference.yaml", weights=weights, image=str(image), output_dir=str(tmp_path / "out"))
    assert corrected == [image.name]
    settings = {"weights": str(tmp_path / "ssl" / "model.pt"), "image": str(image)}
    corrected.clear()
    run_bundle("inference.yaml", bundle=PRETRAINING, output_dir=str(tmp_path / "embeddings"), **settings)
    assert set(corrected) == {image.name}

    told = mistake("inference.yaml", weights=weights, image=str(image), dataset_dir=None, bias_correction=False)
    assert "bias_correction False contradicts" in told
    told = mistake("train.yaml", "supervised", output_dir=str(tmp_path / "run"), max_steps=4, resume=True)
    assert "bias_correction" in told


def test_without_the_setting_nothing_is_corrected(mri, tmp_path, corrected):
    train("supervised", dataset_dir=str(mri), output_dir=str(tmp_path / "run"), max_steps=2)
    assert read_json(tmp_path / "run" / "preprocessing.json")["bias_correction"] is False
    assert not corrected


def test_ct_is_refused_before_a_run_begins(tmp_path, mistake):
    assert "bias_correction is for MRI: a CT has no coils" in mistake("train.yaml", modality="CT", bias_correction=True)
    assert not (tmp_path / "run").exists()
