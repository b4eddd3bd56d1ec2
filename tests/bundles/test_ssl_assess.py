"""What a pretraining left is assessed, embeds scans and restores them, from files to files."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow

from monai_ssl.networks.encoder import encode, encoder_keys, feature_shapes
from monai_ssl.networks.frozen_features import random_network
from monai_ssl.networks.heads import ReconstructionHead
from monai_ssl.networks.pretext_network import PretextNetwork
from tests.bundles.helpers import BUNDLE as SEGMENTATION
from tests.bundles.helpers import as_own_process, read_json, run_bundle, write_nifti
from tests.test_architecture import ROOT

BUNDLE = ROOT / "bundles" / "ssl_pretraining"
PATCH = [16, 16, 16]
NETWORK = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [4, 8],
    "strides": [2],
    "norm": "INSTANCE",
}
FAST = {"device": "cpu", "random_seeds": 1}


def run(config, **settings):
    run_bundle(config, bundle=BUNDLE, **settings)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """What a pretraining with a reconstruction head leaves; read only."""
    folder = tmp_path_factory.mktemp("pretrained")
    network = random_network(NETWORK, 7)
    shapes = feature_shapes(network, 1, PATCH)
    pretext = PretextNetwork(network, {"reconstruction": ReconstructionHead(shapes, 1, PATCH)})
    torch.save({name: network.state_dict()[name] for name in encoder_keys(network)}, folder / "model.pt")
    torch.save(pretext.state_dict(), folder / "pretext.pt")
    head = {"_target_": "monai_ssl.networks.ReconstructionHead", "shapes": shapes, "channels": 1, "patch_size": PATCH}
    values = {"modality": "MRI", "orientation": "RAS", "spacing": [1.0] * 3, "intensity_range": [0.0, 1.0]}
    values |= {"patch_size": PATCH, "in_channels": 1, "network_def": NETWORK, "heads": {"reconstruction": head}}
    masking = {"_target_": "monai_ssl.transforms.RandBlockMaskd", "keys": "masked", "ratio": 0.5, "block": 8}
    (folder / "preprocessing.json").write_text(json.dumps({**values, "masking": [masking]}))
    return folder


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Six scans of each of two classes, a level apart after a patient's own scale is taken out; read only."""
    folder = tmp_path_factory.mktemp("classes")
    rng, cases = np.random.default_rng(0), []
    for number in range(12):
        label = number % 2
        values = rng.normal(size=(18, 17, 16)) ** (3 if label else 1)  # a heavy tail survives the z-score
        write_nifti(folder / f"scan_{number:02}.nii.gz", values.astype(np.float32))
        cases.append({"image": f"scan_{number:02}.nii.gz", "label": label})
    (folder / "dataset.json").write_text(json.dumps({"training": cases}))
    return folder


@pytest.mark.parametrize("region", ["whole", "center"])
def test_classes_are_probed_and_figures_kept(pretrained, classes, tmp_path, region):
    settings = {"weights": str(pretrained / "model.pt"), "dataset_dir": str(classes), "output_dir": str(tmp_path)}
    settings |= {"folds": 2, "repeats": 2, "region": region, **FAST}
    run("assess.yaml", **settings)
    figures = read_json(tmp_path / "assessment.json")
    assert (figures["labels"], figures["cases"], figures["weights"]) == ("class", 12, "model.pt")
    assert (figures["region"], figures["levels"], figures["seed"]) == (region, "deepest", 0)
    assert set(figures["features"]) == {"pretrained", "random", "intensity"}
    assert figures["features"]["intensity"]["linear: roc_auc"]["mean"] == 1.0
    assert set(figures["differences"]) == {"pretrained - random", "pretrained - intensity"}
    assert "pretrained minus random weights" in (tmp_path / "assessment.md").read_text()
    with pytest.raises(RuntimeError) as raised:
        run("assess.yaml", **settings)
    assert "holds assessment.json already" in str(raised.value.__cause__)
    run("assess.yaml", **settings, overwrite="true")
    assert read_json(tmp_path / "assessment.json") == figures


def test_masks_are_read_out_of_voxels(pretrained, mri, tmp_path):
    settings = {"weights": str(pretrained / "model.pt"), "dataset_dir": str(mri), "voxels_per_class": 50, **FAST}
    run("assess.yaml", output_dir=str(tmp_path), part="test", **settings)
    figures = read_json(tmp_path / "assessment.json")
    assert (figures["labels"], figures["training_cases"], figures["cases"]) == ("mask", 2, 2)
    assert figures["part"] == "test"
    assert figures["lengths"] == {"pretrained": 12, "random": 12, "intensity": 27}
    assert 0 < figures["features"]["pretrained"]["dice"]["mean"] < 1
    with pytest.raises(RuntimeError) as raised:
        run("assess.yaml", output_dir=str(tmp_path / "one"), **settings)
    assert "1 of 1 evaluation cases have a Dice: two are needed" in str(raised.value.__cause__)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network_def#channels": [4, 9]}, "contradicts"),
        ({"region": "half"}, "region must be one of whole, center"),
        ({"random_seed": 3}, "unknown setting 'random_seed'; did you mean 'random_seeds'"),
    ],
)
def test_wrong_settings_are_one_line(pretrained, classes, tmp_path, change, message):
    settings = {"weights": str(pretrained / "model.pt"), "dataset_dir": str(classes), "output_dir": str(tmp_path)}
    with pytest.raises(SystemExit, match=message):
        run("assess.yaml", **settings, **FAST, **change)


def check_geometry(path, image):
    result, original = nib.load(path), nib.load(image)
    assert result.shape == original.shape
    assert np.allclose(result.affine, original.affine, atol=1e-4)
    return np.asanyarray(result.dataobj)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two scans of one name, in orientation, spacing and size unlike the network's; read only."""
    folder, rng = tmp_path_factory.mktemp("scans"), np.random.default_rng(1)
    affine = np.array([[0, 0, 1.0, 5], [-1.0, 0, 0, 7], [0, 1.0, 0, -20], [0, 0, 0, 1]])
    for part in ("one", "two"):
        write_nifti(folder / part / "t1.nii.gz", rng.normal(5, 2, size=(21, 18, 35)).astype(np.float32), affine)
    entries = [{"image": f"{part}/t1.nii.gz"} for part in ("one", "two")]
    (folder / "dataset.json").write_text(
        json.dumps({"unlabeled": entries[:1], "training": [{**entries[1], "label": 1}]})
    )
    return folder


def test_scans_are_embedded_and_restored_in_their_own_geometry(pretrained, scans, tmp_path):
    run(
        "inference.yaml",
        weights=str(pretrained / "model.pt"),
        dataset_dir=str(scans),
        output_dir=str(tmp_path),
        device="cpu",
    )
    with open(tmp_path / "embeddings.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == ["two/t1.nii.gz", "one/t1.nii.gz"]
    assert list(rows[0]) == ["case", *(f"f{number}" for number in range(8))]
    for part in ("one", "two"):
        image = scans / part / "t1.nii.gz"
        masked, restored = (
            check_geometry(tmp_path / part / f"t1_{kind}.nii.gz", image) for kind in ("masked", "restored")
        )
        values = nib.load(image).get_fdata()
        wanted = (values - values.mean()) / values.std()
        hidden = masked == 0
        assert 0.4 < hidden.mean() < 0.6
        assert np.allclose(masked[~hidden], wanted[~hidden], atol=1e-3)
        assert restored.std() > 0
        assert not np.allclose(restored, wanted, atol=0.1)
    with pytest.raises(RuntimeError) as raised:
        run(
            "inference.yaml",
            weights=str(pretrained / "model.pt"),
            dataset_dir=str(scans),
            output_dir=str(tmp_path),
            device="cpu",
        )
    assert "embeddings.csv: is there already" in str(raised.value.__cause__)


def test_an_embedding_is_the_mean_of_the_deepest_map_of_the_prepared_scan(pretrained, tmp_path):
    values = np.random.default_rng(2).normal(size=(16, 16, 16)).astype(np.float32)
    image = write_nifti(tmp_path / "in" / "a.nii.gz", values)
    settings = {"weights": str(pretrained / "model.pt"), "image": str(image), "device": "cpu"}
    run("inference.yaml", output_dir=str(tmp_path / "out"), reconstructions="false", **settings)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["embeddings.csv"]
    row = (tmp_path / "out" / "embeddings.csv").read_text().splitlines()[1].split(",")
    network = random_network(NETWORK, 7).eval()
    scaled = torch.from_numpy((values - values.mean()) / values.std())[None, None]
    wanted = encode(network, scaled)[-1].mean(dim=(2, 3, 4))[0]
    assert np.allclose([float(value) for value in row[1:]], wanted.detach(), atol=1e-4)


def test_without_a_reconstruction_there_are_embeddings_alone(pretrained, scans, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("model.pt", "preprocessing.json"):
        (bare / name).write_bytes((pretrained / name).read_bytes())
    image = str(scans / "one" / "t1.nii.gz")
    run("inference.yaml", weights=str(bare / "model.pt"), image=image, output_dir=str(tmp_path / "out"), device="cpu")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["embeddings.csv"]


def test_monai_finds_every_property_of_inference(pretrained, scans, tmp_path):
    settings = {"weights": str(pretrained / "model.pt"), "dataset_dir": str(scans), "output_dir": str(tmp_path)}
    with as_own_process():
        config = str(BUNDLE / "configs" / "inference.yaml")
        trained = read_json(pretrained / "preprocessing.json")
        workflow = ConfigWorkflow(config, workflow_type="infer", initialize=[], **settings, **trained)
        workflow.initialize()
        assert workflow.check_properties() == []


def test_a_scan_is_prepared_as_in_the_segmentation_bundle():
    train = yaml.safe_load((SEGMENTATION / "configs" / "train.yaml").read_text())
    # its inference is the same, see test_configs.py, but for what MONAI Label needs
    wanted = [step for step in train["validate"]["image_loading"] if step["keys"] != "label"]
    wanted = [{**step, "keys": "image"} for step in wanted]
    for name in ("assess.yaml", "inference.yaml"):
        config = yaml.safe_load((BUNDLE / "configs" / name).read_text())
        assert config["image_loading"] == wanted, name
    labelled = yaml.safe_load((BUNDLE / "configs" / "assess.yaml").read_text())["masks"]["loading"]
    labelled = [step for step in labelled if step["keys"] != "label"]
    without = [{key: value for key, value in step.items() if key not in ("keys", "mode")} for step in labelled]
    assert without == [{k: v for k, v in step.items() if k not in ("keys", "mode")} for step in wanted]
