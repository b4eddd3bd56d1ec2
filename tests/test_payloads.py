"""Every way in which the package reads weights, against every hostile file: none runs, none exhausts, all are named."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.networks.nets import UNet
from monai.transforms import Compose, LoadImaged
from torch import nn

from monai_ssl.data.scans import ScanDataset
from monai_ssl.handlers.checkpoint import ModelWriter, Resume, read_checkpoint
from monai_ssl.handlers.selection import ModelSelection
from monai_ssl.handlers.weights_report import WeightsReport
from monai_ssl.networks.first_model import write_first_model
from monai_ssl.networks.frozen_features import load_encoder
from monai_ssl.networks.heads import NetworkOutput
from monai_ssl.networks.pretrained import load_pretrained
from monai_ssl.networks.restoration import load_restoration
from monai_ssl.networks.student import has_teacher, load_student
from monai_ssl.networks.transfer import load_weights
from monai_ssl.utils.bundle import is_untrained
from monai_ssl.utils.bundle_files import copy_bundle
from monai_ssl.utils.errors import UserError
from tests.payloads import ARMED, HOSTILE

SECONDS = 10  # a file of a few megabytes is refused in far less, on a busy machine too


def network() -> nn.Module:
    return nn.Linear(2, 2)


def select(path: Path, iteration: int) -> None:
    selection = ModelSelection(path, Engine(lambda engine, batch: None), 1, 1)
    engine = Engine(lambda engine, batch: None)
    engine.state.iteration = iteration
    selection._start(engine)


def report(path: Path) -> None:
    engine = Engine(lambda engine, batch: None)
    WeightsReport(path, network()).attach(engine)
    engine.state.iteration = 0
    engine._fire_event(Events.STARTED)


def write_best(path: Path) -> None:
    class Run:
        class objective:
            deployed_state = staticmethod(lambda: network().state_dict())

        class state:
            iteration = 1

    ModelWriter([path.with_name("model.pt")], best=path)._save(Run())


def resume(path: Path) -> None:
    engine = Engine(lambda engine, batch: None)
    engine.state.device = torch.device("cpu")
    Resume(path, {})._load(engine)


READERS: dict[str, Callable[[Path], Any]] = {
    "--weights": lambda path: load_weights(network(), path),
    "--weights of an assessment": lambda path: load_encoder(network(), path),
    "--pretrained": lambda path: load_pretrained(network(), path),
    "--student": lambda path: load_student(network(), path),
    "the label server's student": has_teacher,
    "--resume": resume,
    "resume.pt": read_checkpoint,
    "best.pt as the run goes on": lambda path: select(path, 2),
    "best.pt at the end": write_best,
    "the model that MONAI Label loads": report,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_bundle("semi_segmentation", tmp_path_factory.mktemp("bundle") / "semi_segmentation")


def refused(read: Callable[[Path], Any], path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError) as told:
        read(path)
    assert time.monotonic() - start < SECONDS
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600


@pytest.mark.parametrize("form", HOSTILE)
def test_no_hostile_file_is_run_wherever_it_is_read(form: str, tmp_path: Path, bundle: Path) -> None:
    victim = tmp_path / "victim"
    suffix = ".safetensors" if "safetensors" in form else ".pt"
    path = tmp_path / f"weights{suffix}"
    HOSTILE[form](path, victim)
    for read in READERS.values():
        refused(read, path)
        assert not victim.exists()
    refused(lambda path: write_first_model(bundle, path), path)
    assert not (bundle / "models" / "model.pt").exists()
    assert not is_untrained(path)
    path.rename(tmp_path / "pretext.pt")
    heads = {"reconstruction": NetworkOutput(1)}
    unet = UNet(3, 1, 1, (2, 4), (2,))
    refused(lambda path: load_restoration(unet, heads, path.with_name("model.pt")), tmp_path / "pretext.pt")
    assert not victim.exists()


@pytest.mark.parametrize("form", ARMED)
def test_the_payloads_are_armed(form: str, tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "weights.pt"
    ARMED[form](path, victim)
    try:
        torch.load(path, weights_only=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, TypeError, ValueError):
        assert victim.exists(), "what is made is no checkpoint, but it was made"
    assert victim.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spacing", "$__import__('os').system('touch VICTIM')"),
        ("class_names", ["background", " $open('VICTIM', 'w')"]),
        ("network_def", {"_target_": "os.system", "command": "touch VICTIM"}),
        ("network_def", {"_target_": "monai.networks.utils.torch.os.system", "command": "touch VICTIM"}),
        ("network_def", {"_target_": "torch.nn.Linear", "in_features": {"_target_": "os.getcwd"}}),
        ("network_def", {"_target_": "torch.hub.load", "repo_or_dir": "VICTIM"}),
        ("masking", [{"_target_": "monai.transforms.LoadImage", "reader": "os.system"}]),
        ("initialize", ["$open('VICTIM', 'w')"]),
        ("train#trainer", 1),
    ],
)
def test_values_beside_weights_are_never_code(name: str, value: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    torch.save(network().state_dict(), run / "model.pt")
    text = json.dumps({name: value}).replace("VICTIM", str(tmp_path / "victim"))
    (run / "preprocessing.json").write_text(text)
    with pytest.raises(UserError, match=r"preprocessing\.json"):
        copy_bundle("ssl_pretraining", tmp_path / "copy", run)
    assert not (tmp_path / "victim").exists()
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("reader", ["monai.data.NibabelReader", None])
def test_a_scan_that_is_a_pickle_is_not_read(reader: str | None, tmp_path: Path) -> None:
    HOSTILE["object array"](tmp_path / "scan.npy", tmp_path / "victim")
    load = LoadImaged("image", reader=reader) if reader else LoadImaged("image")
    with pytest.raises(UserError, match=r"scan\.npy: cannot be read and prepared"):
        ScanDataset([{"image": str(tmp_path / "scan.npy")}], Compose([load]))[0]
    assert not (tmp_path / "victim").exists()
