"""Every pretext task from scans to weights, what it leaves behind, and what it does with awkward scans."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from monai_ssl.handlers.checkpoint import CheckpointWriter, read_checkpoint
from monai_ssl.networks import encoder_keys
from monai_ssl.utils.errors import find_user_error
from monai_ssl.utils.keys import RunFiles
from tests.bundles.helpers import PRETEXTS, load, numbers, pretrain, read_json, steps, train, write_nifti
from tests.helpers import same

DECODES = {"mae", "models_genesis", "volume_fusion"}  # these pretrain the decoder, too
NO_HEADS = DECODES  # their head is the network's own output
NEED_ANOTHER_SCAN = {"three_tasks", "contrastive_crops", "triplet"}
NOT_OF_A_PRETRAINING = {"best.pt", "validation_metrics.json", "metrics.json", "overlay.png", "transfer.json"} | {
    *("audit.csv", "froc.png", "reliability.png", "pseudo_labels"),
}


def write_scans(folder, arrays, affine=None):
    """A list of unlabelled scans; a label that cannot be read stands beside each."""
    for number, array in enumerate(arrays):
        write_nifti(folder / "images" / f"scan_{number}.nii.gz", array.astype(np.float32), affine)
    (folder / "label.nii.gz").write_bytes(b"never opened")
    scans = [{"image": f"images/scan_{number}.nii.gz", "label": "label.nii.gz"} for number in range(len(arrays))]
    (folder / "dataset.json").write_text(json.dumps({"unlabeled": scans}))
    return str(folder)


def smooth(count, shape=(24, 24, 24)):
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(count, 1, 6, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")[:, 0].numpy()


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return write_scans(tmp_path_factory.mktemp("scans"), smooth(5))


@pytest.fixture(scope="module")
def pretrained(scans, tmp_path_factory):
    """Folders of a run of every method, each made when it is first asked for."""
    folders = {}

    def pretrained(method):
        if method not in folders:
            folders[method] = tmp_path_factory.mktemp(method) / "run"
            pretrain(method, dataset_dir=scans, output_dir=str(folders[method]))
        return folders[method]

    return pretrained


@pytest.mark.parametrize("method", PRETEXTS)
def test_from_scans_to_weights(method, pretrained):
    run = pretrained(method)
    found = {path.name for path in run.iterdir()}
    assert found <= set(RunFiles)
    assert set(RunFiles) - found == NOT_OF_A_PRETRAINING
    rows = steps(run)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert all(math.isfinite(float(row["loss"])) for row in rows)

    definition = dict(read_json(run / "preprocessing.json")["network_def"])
    assert definition.pop("_target_") == "monai.networks.nets.UNet"
    network = UNet(**definition)
    weights = load(run / "model.pt")
    trained = network.state_dict() if method in DECODES else encoder_keys(network)
    assert set(weights) == set(trained)
    checkpoint = read_checkpoint(run / "resume.pt")
    assert checkpoint["iteration"] == 4
    assert checkpoint["fingerprint"] == read_json(run / "run_manifest.json")["fingerprint"]
    whole = load(run / "pretext.pt")
    assert all(same(value, whole[f"network.{name}"]) for name, value in weights.items())
    assert any(name.startswith("heads.") for name in whole) == (method not in NO_HEADS)


@pytest.mark.parametrize("method", PRETEXTS)
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(method, scans, pretrained, tmp_path, monkeypatch):
    save = CheckpointWriter._save

    def save_and_die(self, engine):
        save(self, engine)
        raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointWriter, "_save", save_and_die)
    run = tmp_path / "run"
    with pytest.raises(BaseException, match=r"^|KeyboardInterrupt"):
        pretrain(method, dataset_dir=scans, output_dir=str(run))
    assert read_checkpoint(run / "resume.pt")["iteration"] == 2
    monkeypatch.undo()
    pretrain(method, dataset_dir=scans, output_dir=str(run), resume="true", num_workers=0, cache_rate=1.0)
    expected = pretrained(method)
    for name in ("model.pt", "pretext.pt", "resume.pt"):
        assert same(load(run / name), load(expected / name)), name
    assert numbers(run) == numbers(expected)


AWKWARD = {
    "all background": lambda: [np.zeros((24, 24, 24))] * 3,
    "smaller than the patch": lambda: smooth(3, (9, 24, 13)),
    "one slice thin": lambda: smooth(3, (24, 24, 3)),
}


@pytest.mark.parametrize("case", AWKWARD)
@pytest.mark.parametrize("method", PRETEXTS)
def test_awkward_scans(method, case, tmp_path):
    data = write_scans(tmp_path / "data", AWKWARD[case]())
    pretrain(method, dataset_dir=data, output_dir=str(tmp_path / "run"), max_steps=2, epoch_length=2)
    assert all(math.isfinite(float(row["loss"])) for row in steps(tmp_path / "run"))
    assert all(value.isfinite().all() for value in load(tmp_path / "run" / "model.pt").values())


@pytest.mark.parametrize("method", PRETEXTS)
def test_thick_slices(method, tmp_path):
    data = write_scans(tmp_path / "data", smooth(3, (24, 24, 12)), np.diag([1.0, 1.0, 4.0, 1.0]))
    settings = {"spacing": [1, 1, 4], "patch_size": [16, 16, 8], "max_steps": 2, "epoch_length": 2}
    settings["network_def#strides"] = [[2, 2, 1]]
    pretrain(method, dataset_dir=data, output_dir=str(tmp_path / "run"), **settings)
    assert all(math.isfinite(float(row["loss"])) for row in steps(tmp_path / "run"))


def test_a_patch_that_does_not_go_through_is_refused_before_anything_is_written(tmp_path):
    settings = {"dataset_dir": write_scans(tmp_path / "data", smooth(2)), "output_dir": str(tmp_path / "run")}
    with pytest.raises(RuntimeError) as error:
        pretrain("volume_fusion", patch_size=[15, 16, 16], **settings)
    assert "patch_size [15, 16, 16] comes out of this network as [16, 16, 16]" in str(find_user_error(error.value))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", PRETEXTS)
def test_a_single_scan(method, tmp_path):
    settings = {"dataset_dir": write_scans(tmp_path / "data", smooth(1)), "output_dir": str(tmp_path / "run")}
    if method not in NEED_ANOTHER_SCAN:
        pretrain(method, max_steps=2, epoch_length=2, **settings)
        assert all(math.isfinite(float(row["loss"])) for row in steps(tmp_path / "run"))
        return
    with pytest.raises(RuntimeError) as error:
        pretrain(method, **settings)
    assert "list two unlabelled scans" in str(find_user_error(error.value))


@pytest.mark.parametrize("transfer", ["fine_tune", "feature_extraction", "two_stage", "sawtooth"])
@pytest.mark.parametrize("method", ["three_tasks", "mae"])
def test_a_segmentation_starts_from_it(method, transfer, pretrained, mri, tmp_path):
    run = tmp_path / "run"
    weights = str(pretrained(method) / "model.pt")
    settings = {"dataset_dir": str(mri), "output_dir": str(run), "pretrained": weights, "transfer": transfer}
    train("supervised", **settings)
    report = read_json(run / "transfer.json")
    taken = {*report["matched"], *report["adapted"]}
    assert set(report["encoder"]) <= taken <= set(load(weights))
    assert len(report["encoder"]) == report["encoder_size"]
    before, after = load(weights), load(run / "model.pt")
    still = {name for name in report["encoder"] if torch.equal(before[name], after[name])}
    assert (still == set(report["encoder"])) == (transfer == "feature_extraction")


def test_weights_of_another_network_are_refused(pretrained, mri, tmp_path):
    weights = tmp_path / "model.pt"
    torch.save({"layer.weight": torch.ones(3)}, weights)
    with pytest.raises(RuntimeError) as error:
        train("supervised", dataset_dir=str(mri), output_dir=str(tmp_path / "run"), pretrained=str(weights))
    assert "nothing of it fits the encoder of UNet" in str(find_user_error(error.value))
