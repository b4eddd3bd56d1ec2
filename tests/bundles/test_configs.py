"""What the configs and the metadata must agree on, and what MONAI and the Model Zoo ask of a bundle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pydoc import locate

import monai
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow, verify_net_in_out

from monai_ssl.utils.keys import RunFiles
from tests.bundles.helpers import BUNDLE, CONFIGS, METHODS, as_own_process, load, read_json

MODEL_KEYS = [
    *("modality", "orientation", "spacing", "intensity_range", "patch_size", "in_channels", "class_names"),
    "network_def",
]
FILES = ["train.yaml", "evaluate.yaml", "inference.yaml", *(f"methods/{name}.yaml" for name in METHODS)]
# what a name says by itself
PLAIN = {
    *("bundle_root", "output_dir", "device", "in_channels", "class_names", "network_b", "weight_decay"),
    *("labeled_batch_size", "unlabeled_batch_size", "ramp_steps"),
}


def read(name):
    return yaml.safe_load((CONFIGS / name).read_text())


def dictionaries(value):
    if isinstance(value, dict):
        yield value
    if isinstance(value, (dict, list)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from dictionaries(entry)


@pytest.mark.parametrize("name", ["evaluate.yaml", "inference.yaml"])
def test_what_a_volume_looks_like_to_the_network_is_said_alike(name):
    train, other = read("train.yaml"), read(name)
    for key in set(MODEL_KEYS) - {"class_names"}:
        assert other[key] == train[key], key
    assert str(other["class_names"]).replace("'", "") in train["class_names"].replace("'", "")
    assert train["settings"].count("'") == 2 * len(MODEL_KEYS)
    assert all(f"'{key}'" in train["settings"] for key in MODEL_KEYS)


def without_keys(step, *more):
    return {key: value for key, value in step.items() if key not in ("keys", "allow_missing_keys", "mode", *more)}


def test_an_image_is_prepared_alike_everywhere():
    train, evaluate, inference = (read(name) for name in FILES[:3])
    validation = train["validate"]["image_loading"]
    assert evaluate["preprocessing"]["transforms"] == validation
    predicting = inference["preprocessing"]["transforms"]
    assert [without_keys(step) for step in predicting] == [without_keys(step) for step in validation]
    # training pads after that, and takes the label along
    assert [without_keys(step) for step in train["loading"][:-1]] == [without_keys(step) for step in validation]
    assert train["loading"][-1]["_target_"] == "monai.transforms.SpatialPadd"
    spacing = [next(s for s in steps if "Spacingd" in s["_target_"]) for steps in (train["loading"], predicting)]
    assert (spacing[0]["mode"][0], spacing[1]["mode"]) == ("bilinear", "bilinear")


def test_a_prediction_is_brought_back_alike_everywhere():
    train, evaluate, inference = (read(name) for name in FILES[:3])
    steps = [
        [without_keys(step, "transform") for step in post["transforms"]]
        for post in (train["validate"]["postprocessing"], evaluate["postprocessing"], inference["postprocessing"])
    ]
    assert steps[0] == steps[1] == steps[2][:-1]
    assert steps[2][-1]["_target_"] == "monai.transforms.SaveImaged"
    assert evaluate["inferer"] | {"overlap": evaluate["overlap"]} == train["validate"]["inferer"]
    assert evaluate["inferer"] == inference["inferer"]


@pytest.mark.parametrize("name", FILES)
def test_every_target_is_a_dotted_path_that_exists(name):
    targets = {entry["_target_"] for entry in dictionaries(read(name)) if "_target_" in entry}
    assert targets
    for target in targets:
        assert re.match(r"(monai|monai_ssl|torch)\.", target), target
        assert callable(locate(target)), target


@pytest.mark.parametrize("name", FILES)
def test_every_knob_has_a_comment_or_a_plain_name(name):
    explained = set(PLAIN)
    if name != "train.yaml":
        explained |= {"modality", "orientation", "term_weights"}  # the comment is in train.yaml
    for line in (CONFIGS / name).read_text().splitlines():
        key, colon, value = line.partition(":")
        knob = (
            key.isidentifier() and colon and value.strip() and not value.lstrip().startswith(('"', "[]", "{_target_"))
        )
        assert not knob or "#" in value or key in explained, line


@pytest.mark.parametrize(("name", "kind"), [("train.yaml", "train"), ("inference.yaml", "infer")])
def test_monai_finds_every_property(name, kind, mri, trained, tmp_path):
    settings = {"output_dir": str(tmp_path), "dataset_dir": str(mri)}
    if kind == "infer":
        settings |= {"weights": str(trained / "model.pt"), "dataset_dir": None}
        settings |= {"image": str(mri / "imagesUn"), **read_json(trained / "preprocessing.json")}
    with as_own_process():
        workflow = ConfigWorkflow(str(CONFIGS / name), workflow_type=kind, initialize=[], **settings)
        workflow.initialize()
        assert workflow.check_properties() == []


@pytest.mark.parametrize("name", ["train.yaml", "inference.yaml"])
def test_the_network_takes_and_gives_what_the_metadata_says(name, tmp_path):
    settings = {}
    if name == "inference.yaml":
        network = monai.networks.nets.UNet(3, 1, 2, [16, 32, 64, 128], [2, 2, 2], num_res_units=1, norm="INSTANCE")
        settings["weights"] = str(tmp_path / "model.pt")
        torch.save(network.state_dict(), settings["weights"])
        assert load(settings["weights"])
    with as_own_process():
        verify_net_in_out("network", str(CONFIGS / "metadata.json"), str(CONFIGS / name), device="cpu", n=8, **settings)


def test_the_metadata_is_what_the_model_zoo_wants():
    metadata = read_json(CONFIGS / "metadata.json")
    assert metadata["schema"].endswith(".json")
    assert metadata["version"] in metadata["changelog"]
    assert metadata["monai_version"] == monai.__version__
    for key in ("pytorch_version", "numpy_version"):
        assert re.fullmatch(r"\d+\.\d+\.\d+", metadata[key])
    for key in ("name", "task", "description", "authors", "copyright", "intended_use", "data_type", "image_classes"):
        assert metadata[key], key
    for key in ("label_classes", "pred_classes", "eval_metrics", "references", "required_packages_version"):
        assert key in metadata, key
    inputs, outputs = (metadata["network_data_format"][key] for key in ("inputs", "outputs"))
    assert next(iter(inputs)) == "image"
    assert next(iter(outputs)) == "pred"
    train = read("train.yaml")
    assert inputs["image"]["num_channels"] == train["in_channels"]
    assert list(outputs["pred"]["channel_def"].values()) == read("inference.yaml")["class_names"]
    assert BUNDLE.name.endswith("_segmentation")


def test_the_bundle_has_the_model_zoos_files_and_no_python():
    for file in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/metadata.json", "configs/logging.conf"):
        assert (BUNDLE / file).stat().st_size > 0, file
    assert not list(BUNDLE.rglob("*.py"))
    assert (BUNDLE / "LICENSE").read_bytes() == (BUNDLE.parents[1] / "LICENSE").read_bytes()


def test_the_readme_names_every_method_every_file_of_a_run_and_only_settings_that_exist():
    text = (BUNDLE / "docs" / "README.md").read_text()
    for method in METHODS:
        assert f"`{method}`" in text, method
    for file in set(RunFiles) - {RunFiles.LOCK}:
        assert file in text, file
    settings = {key for name in FILES[:3] for key in read(name)} | {"config_file", "from", "conf"}
    assert set(re.findall(r"--([a-z_]+)", text)) <= settings
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        json.loads(block)
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (BUNDLE / "docs" / Path(target)).exists(), target
