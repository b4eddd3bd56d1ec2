"""The bundle as MONAI Label's stock train task runs it: one config, six overrides, no data list, no method file."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import warnings
from pathlib import Path
from types import ModuleType

import monai.bundle
import nibabel as nib
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.networks.nets import UNet
from safetensors.torch import load_file

from monai_ssl.data.cases import load_cases
from monai_ssl.networks.first_model import write_first_model
from monai_ssl.utils.errors import find_user_error
from tests.bundles.helpers import BUNDLE, PRETRAINING, as_own_process, load, read_json
from tests.helpers import same

CHANNELS, STRIDES = [4, 8], [2]
MODELS = {"model.pt", "model.safetensors"}
RUN_FILES = {"resume.pt", "steps.csv", "preprocessing.json", "run_manifest.json", "log.txt", "progress.png", *MODELS}


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


class Store:
    """As much of a datastore as a bundle asks for: unlabelled studies by name."""

    def __init__(self):
        self.files = {}

    def get_unlabeled_images(self):
        return list(self.files)

    def list_images(self):
        return list(self.files)

    def get_image_uri(self, name):
        return self.files[name]


@pytest.fixture
def server(bundle, monkeypatch):
    """This process belongs to a server of the bundle's app; gives its datastore, without an unlabelled study so far."""
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", str(bundle.parents[1]))
    store = Store()
    names = ("monailabel", "monailabel.interfaces", "monailabel.interfaces.utils", "monailabel.interfaces.utils.app")
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    app = type("App", (), {"datastore": lambda self: store})()
    sys.modules[names[-1]].app_instance = lambda: app
    return store


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
def test_a_server_trains_the_bundle(there, validation, bundle, binary, server):
    before = initial_model(bundle) if there else None
    label_train(bundle, binary, validation)

    assert {path.name for path in (bundle / "models").iterdir()} == {*MODELS, "runs"}
    (run,) = (bundle / "models" / "runs").iterdir()
    files = {path.name for path in run.iterdir()} - {".lock", "tensorboard"}
    assert files == RUN_FILES | ({"validation_metrics.json"} if validation else set())
    deployed = load(bundle / "models" / "model.pt")
    assert same(load_file(bundle / "models" / "model.safetensors"), dict(deployed))
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


def test_a_second_training_gets_a_folder_of_its_own(bundle, binary, server):
    label_train(bundle, binary, epochs=1)
    first = load(bundle / "models" / "model.pt")
    label_train(bundle, binary, epochs=1)
    assert len(list((bundle / "models" / "runs").iterdir())) == 2
    assert not same(dict(load(bundle / "models" / "model.pt")), dict(first))


def test_student_and_teacher_start_from_the_servers_weights(bundle, binary, mri, server):
    """Without a step, noise and dropout, the student's weights stay and the teacher says the same from the start."""
    before = initial_model(bundle)
    edit(bundle, **yaml.safe_load((bundle / "configs" / "methods" / "mean_teacher.yaml").read_text()))
    edit(bundle, learning_rate=0.0)
    edit(bundle, "network_def", dropout=0.0)
    edit(bundle, "objective", noise=0.0)
    give_unlabelled(server, mri)
    label_train(bundle, binary)
    (run,) = (bundle / "models" / "runs").iterdir()
    assert float(steps(run)[0]["consistency"]) < 1e-10
    assert same(dict(load(bundle / "models" / "model.pt")), dict(before))


def give_unlabelled(server, mri):
    server.files = {Path(case["image"]).name: case["image"] for case in load_cases(None, "unlabeled", str(mri))}


def test_a_server_gives_its_unlabelled_studies_and_a_broken_one_is_passed_over(
    bundle, binary, mri, server, tmp_path, capsys
):
    give_unlabelled(server, mri)
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    server.files["broken"] = str(tmp_path / "broken.nii.gz")
    label_train(bundle, binary)
    (run,) = (bundle / "models" / "runs").iterdir()
    assert float(steps(run)[-1]["entropy"]) > 0
    log = (run / "log.txt").read_text()
    assert "unlabeled stream: 4 cases, 2 a step" in log
    assert log.count(f"{tmp_path / 'broken.nii.gz'}: cannot be read and prepared") == 1


def test_without_a_label_it_is_said_what_to_do(bundle, server):
    with pytest.raises(RuntimeError) as error:
        label_train(bundle, [])
    assert "no study has a label yet" in str(find_user_error(error.value))
    assert not (bundle / "models").exists()


@pytest.fixture
def pretrained(bundle, mri, server):
    """The app's pretraining as the server runs it: without a label, but for studies there is nothing."""
    folder = bundle.with_name(PRETRAINING.name)
    shutil.copytree(PRETRAINING, folder, ignore=shutil.ignore_patterns("models", "eval"))
    edit(folder, epoch_length=2, patch_size=[16, 16, 16])
    edit(folder, "network_def", channels=CHANNELS, strides=STRIDES)
    give_unlabelled(server, mri)
    for _ in range(2):  # again, where the server loads the first one's weights as far as they fit
        label_train(folder, [], epochs=1)
    return folder / "models" / "model.pt"


def encoder(path):
    """Weights that a pretraining and the segmentation share."""
    weights = load(path)
    return {name: value for name, value in weights.get("model", weights).items() if ".0.conv.unit0.conv" in name}


@pytest.mark.parametrize("there", [False, True], ids=["without a model", "with an untrained one"])
def test_an_apps_pretraining_goes_before_an_untrained_model(there, bundle, binary, pretrained):
    edit(bundle, learning_rate=0.0)
    path = bundle / "configs" / "inference.yaml"
    config = yaml.safe_load(path.read_text())
    config["network_def"] |= {"channels": CHANNELS, "strides": STRIDES}
    path.write_text(yaml.safe_dump(config))
    model = bundle / "models" / "model.pt"
    if there:
        write_first_model(bundle, "untrained")
        assert not same(encoder(model), encoder(pretrained))
    label_train(bundle, binary, epochs=1)
    assert encoder(model)
    assert same(encoder(model), encoder(pretrained))
    assert not json.loads((bundle / "configs" / "metadata.json").read_text())["description"].startswith("Untrained")
    # the second training goes on from the first and leaves the pretraining alone
    torch.save({name: value + 1 for name, value in load(model).items()}, model)
    label_train(bundle, binary, epochs=1)
    assert not same(encoder(model), encoder(pretrained))


def test_outside_of_a_server_the_run_is_in_models_itself(bundle, binary, monkeypatch):
    monkeypatch.delenv("MONAI_LABEL_APP_DIR", raising=False)
    label_train(bundle, binary, epochs=1)
    assert {path.name for path in (bundle / "models").iterdir()} == RUN_FILES | {".lock", "tensorboard"}
    with pytest.raises(RuntimeError) as error:
        label_train(bundle, binary, epochs=1)
    assert "holds a run already" in str(find_user_error(error.value))
