"""The bundle as MONAI Label's stock train task runs it: one config, six overrides, no data list, no method file."""

from __future__ import annotations

import csv
import shutil
import warnings
from pathlib import Path

import monai.bundle
import nibabel as nib
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.networks.nets import UNet

from monai_ssl.data.datalist import load_cases
from monai_ssl.utils.errors import find_user_error
from tests.bundles.helpers import BUNDLE, as_own_process, load, read_json
from tests.helpers import same

CHANNELS, STRIDES = [4, 8], [2]
RUN_FILES = {"model.pt", "resume.pt", "steps.csv", "preprocessing.json", "run_manifest.json", "log.txt", "progress.png"}


@pytest.fixture
def bundle(tmp_path):
    """A copy in an app's ``model`` folder, small enough for a second a run."""
    folder = tmp_path / "app" / "model" / BUNDLE.name
    shutil.copytree(BUNDLE, folder, ignore=shutil.ignore_patterns("models", "eval"))
    edit(folder, epoch_length=2, patch_size=[16, 16, 16])
    edit(folder, "network_def", channels=CHANNELS, strides=STRIDES)
    return folder


def edit(bundle, block=None, **values):
    path = bundle / "configs" / "train.yaml"
    config = yaml.safe_load(path.read_text())
    (config[block] if block else config).update(values)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def initial_model(bundle):
    """What a first ``model.pt`` of an app may be; other weights than the run's own initialisation."""
    network = UNet(3, 1, 2, CHANNELS, STRIDES, num_res_units=1, norm="INSTANCE", dropout=0.1)
    (bundle / "models").mkdir()
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    return network.state_dict()


def label_train(bundle, data, validation=0, epochs=2):
    """What ``monailabel.tasks.train.bundle.BundleTrainTask`` does, single GPU or CPU, local."""
    config, model = str(bundle / "configs" / "train.yaml"), bundle / "models" / "model.pt"
    parser = ConfigParser()
    parser.read_config(config)
    handlers = parser.get("train#handlers", [])
    if model.exists():
        loader = {"_target_": "CheckpointLoader", "load_path": str(model), "load_dict": {"model": "$@network"}}
        handlers.insert(0, {**loader, "strict": False})
    cases = [{key: case[key] for key in ("image", "label")} for case in data]
    overrides = {
        "bundle_root": str(bundle),
        "train#trainer#max_epochs": epochs,
        "train#dataset#data": cases[validation:],
        "device": "cpu",
        "train#handlers": handlers,
        "validate#dataset#data": cases[:validation],
    }
    with as_own_process(), warnings.catch_warnings():
        # MONAI's own name for its loader is also the name of a class of ignite's; MONAI Label gives no dotted path
        warnings.filterwarnings("ignore", message=".*CheckpointLoader")
        monai.bundle.run(
            run_id="run",
            init_id=None,
            final_id=None,
            meta_file=str(bundle / "configs" / "metadata.json"),
            config_file=config,
            **overrides,
        )


@pytest.fixture
def labelled(mri):
    cases = load_cases(None, "training", str(mri)) + load_cases(None, "test", str(mri))
    for case in cases:
        assert Path(case["label"]).is_file()
    return cases


@pytest.fixture
def binary(labelled, tmp_path):
    """One foreground class, as the bundle's default ``class_names`` say."""
    cases = []
    for index, case in enumerate(labelled):
        label = nib.load(case["label"])
        path = tmp_path / "studies" / "labels" / "final" / f"case{index}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image((label.get_fdata() > 0).astype("uint8"), label.affine), path)
        cases.append({"image": case["image"], "label": str(path)})
    return cases


def steps(run):
    with open(run / "steps.csv", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("validation", [0, 1])
@pytest.mark.parametrize("there", [False, True], ids=["first", "again"])
def test_a_server_trains_the_bundle(there, validation, bundle, binary, monkeypatch):
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", str(bundle.parents[1]))
    before = initial_model(bundle) if there else None
    label_train(bundle, binary, validation)

    assert {path.name for path in (bundle / "models").iterdir()} == {"model.pt", "runs"}
    (run,) = (bundle / "models" / "runs").iterdir()
    files = {path.name for path in run.iterdir()} - {".lock", "tensorboard"}
    assert files == RUN_FILES | ({"validation_metrics.json"} if validation else set())
    deployed = load(bundle / "models" / "model.pt")
    assert same(dict(deployed), dict(load(run / "model.pt")))
    assert deployed.keys() == UNet(3, 1, 2, CHANNELS, STRIDES, num_res_units=1, norm="INSTANCE").state_dict().keys()
    if there:
        assert any(not torch.equal(deployed[name], before[name]) for name in before)
    # ramps and learning rate follow the epochs that the server asked for, not max_steps
    rows = steps(run)
    assert len(rows) == 4
    assert float(rows[-1]["lr"]) < float(rows[1]["lr"])
    # no data list and no unlabelled study: the labelled ones train alone
    assert "consistency" not in rows[0]
    if validation:
        assert len(read_json(run / "validation_metrics.json")["cases"]) == 1


def test_a_second_training_gets_a_folder_of_its_own(bundle, binary, monkeypatch):
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", str(bundle.parents[1]))
    label_train(bundle, binary, epochs=1)
    first = load(bundle / "models" / "model.pt")
    label_train(bundle, binary, epochs=1)
    assert len(list((bundle / "models" / "runs").iterdir())) == 2
    assert not same(dict(load(bundle / "models" / "model.pt")), dict(first))


def test_student_and_teacher_start_from_the_servers_weights(bundle, binary, mri, monkeypatch):
    """Without a step, noise and dropout, the student's weights stay and the teacher says the same from the start."""
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", str(bundle.parents[1]))
    before = initial_model(bundle)
    edit(bundle, learning_rate=0.0)
    edit(bundle, "network_def", dropout=0.0)
    edit(bundle, "objective", noise=0.0)
    edit(bundle, "train", unlabeled_dataset=_unlabeled(bundle, mri))
    label_train(bundle, binary)
    (run,) = (bundle / "models" / "runs").iterdir()
    assert float(steps(run)[0]["consistency"]) < 1e-10
    assert same(dict(load(bundle / "models" / "model.pt")), dict(before))


def _unlabeled(bundle, mri):
    dataset = yaml.safe_load((bundle / "configs" / "train.yaml").read_text())["train"]["unlabeled_dataset"]
    return {**dataset, "data": load_cases(None, "unlabeled", str(mri))}


def test_outside_of_a_server_the_run_is_in_models_itself(bundle, binary, monkeypatch):
    monkeypatch.delenv("MONAI_LABEL_APP_DIR", raising=False)
    label_train(bundle, binary, epochs=1)
    assert {path.name for path in (bundle / "models").iterdir()} == RUN_FILES | {".lock", "tensorboard"}
    with pytest.raises(RuntimeError) as error:
        label_train(bundle, binary, epochs=1)
    assert "holds a run already" in str(find_user_error(error.value))
