from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.handlers import CheckpointLoader

from monai_ssl.networks.first_model import write_first_model
from monai_ssl.networks.transfer import load_weights
from monai_ssl.utils.bundle import is_untrained
from monai_ssl.utils.bundle_files import copy_bundle, mark_trained
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.seeding import seed_torch
from monai_ssl.utils.weight_files import save_safetensors
from tests.helpers import same

PREDICTING = ["semi_segmentation", "focalmix_detection"]


def config(bundle: Path, name: str = "inference") -> ConfigParser:
    return ConfigParser(yaml.safe_load((bundle / "configs" / f"{name}.yaml").read_text()))


def description(bundle: Path) -> str:
    return str(json.loads((bundle / "configs" / "metadata.json").read_text())["description"])


@pytest.fixture(params=PREDICTING)
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return copy_bundle(request.param, tmp_path / "bundle")


def test_an_untrained_model_is_what_a_training_starts_from(bundle: Path) -> None:
    path = write_first_model(bundle, "untrained")
    assert path == bundle / "models" / "model.pt"
    seed_torch(0, "initialisation")
    network = config(bundle, "train").get_parsed_content("network_def")
    assert same(dict(torch.load(path, weights_only=True)["model"]), dict(network.state_dict()))
    # ours and MONAI Label's ways to load it
    assert load_weights(config(bundle).get_parsed_content("network_def"), path)
    content = torch.load(path, weights_only=True)
    config(bundle).get_parsed_content("network_def").load_state_dict(content.get("model", content))
    assert CheckpointLoader(str(path), {"model": network}).load_path == str(path)


def test_it_says_so_until_it_was_trained(bundle: Path) -> None:
    before = description(bundle)
    path = write_first_model(bundle, "untrained")
    assert is_untrained(path)
    assert description(bundle) == f"Untrained: {before}"
    mark_trained(bundle)
    assert description(bundle) == f"Untrained: {before}", "it still is"
    torch.save(torch.load(path, weights_only=True)["model"], path)
    mark_trained(bundle)
    assert description(bundle) == before
    written = (bundle / "configs" / "metadata.json").stat()
    mark_trained(bundle)
    assert (bundle / "configs" / "metadata.json").stat() == written, "nothing is written twice"


def test_weights_that_fit_are_copied(bundle: Path, tmp_path: Path) -> None:
    before = description(bundle)
    weights = tmp_path / "weights.pt"
    torch.save(config(bundle).get_parsed_content("network_def").state_dict(), weights)
    path = write_first_model(bundle, weights)
    assert path.read_bytes() == weights.read_bytes()
    assert description(bundle) == before
    (bundle / "models" / "model.pt").unlink()
    torch.save({"model": torch.load(weights, weights_only=True), "untrained": True}, weights)
    write_first_model(bundle, weights)
    assert description(bundle) == f"Untrained: {before}"


def test_other_weights_are_refused(tmp_path: Path) -> None:
    bundle = copy_bundle("semi_segmentation", tmp_path / "bundle")
    weights = tmp_path / "weights.pt"
    with pytest.raises(UserError, match=r"weights.pt: there are no weights here"):
        write_first_model(bundle, weights)
    state = config(bundle).get_parsed_content("network_def").state_dict()
    torch.save({**state, "more": torch.zeros(1)}, weights)
    with pytest.raises(UserError, match=r"weights.pt: does not fit this network: .* 1 unexpected \(more\)"):
        write_first_model(bundle, weights)
    torch.save(state, weights)
    (tmp_path / "preprocessing.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"weights.pt: is the model of a run, .* Give --from .*, which takes them along"
    ):
        write_first_model(bundle, weights)
    assert not (bundle / "models" / "model.pt").exists()


@pytest.mark.parametrize("inference", [True, False])
def test_a_pretraining_needs_none(inference: bool, tmp_path: Path) -> None:
    bundle = copy_bundle("ssl_pretraining", tmp_path / "bundle")
    if not inference:
        (bundle / "configs" / "inference.yaml").unlink()
    with pytest.raises(UserError, match=r"needs no first model\. Leave out --weights"):
        write_first_model(bundle, "untrained")


def test_safetensors_become_the_file_that_a_server_reads(bundle: Path, tmp_path: Path) -> None:
    state = config(bundle).get_parsed_content("network_def").state_dict()
    save_safetensors(state, tmp_path / "weights.safetensors")
    path = write_first_model(bundle, tmp_path / "weights.safetensors")
    assert path.name == "model.pt"
    assert same(torch.load(path, weights_only=True), dict(state))
