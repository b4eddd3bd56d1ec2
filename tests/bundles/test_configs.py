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
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out

from monai_ssl.utils.keys import RunFiles
from tests.bundles.helpers import (
    BUNDLE,
    CONFIGS,
    DETECTION,
    DETECTORS,
    METHODS,
    PRETEXTS,
    PRETRAINING,
    as_own_process,
    load,
    read_json,
)

MODEL_KEYS = [
    *("modality", "orientation", "spacing", "intensity_range", "patch_size", "in_channels", "class_names"),
    "network_def",
]
FILES = [
    *("train.yaml", "evaluate.yaml", "inference.yaml", "suggest.yaml", "multi_gpu_train.yaml"),
    *(f"methods/{name}.yaml" for name in METHODS),
]
PRETRAINING_FILES = [
    *("train.yaml", "multi_gpu_train.yaml", "assess.yaml", "inference.yaml"),
    *(f"methods/{name}.yaml" for name in PRETEXTS),
]
DETECTION_FILES = [
    *("train.yaml", "multi_gpu_train.yaml", "evaluate.yaml", "inference.yaml", "suggest.yaml"),
    *(f"methods/{name}.yaml" for name in DETECTORS),
]
BUNDLES = {BUNDLE: FILES, PRETRAINING: PRETRAINING_FILES, DETECTION: DETECTION_FILES}
METHODS_OF = {BUNDLE: METHODS, PRETRAINING: PRETEXTS, DETECTION: DETECTORS}
every_file = pytest.mark.parametrize(
    ("bundle", "name"),
    [(bundle, name) for bundle, names in BUNDLES.items() for name in names],
    ids=lambda value: str(getattr(value, "name", value)),
)
every_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
that_predicts = pytest.mark.parametrize("bundle", [BUNDLE, DETECTION], ids=lambda bundle: bundle.name)
TOLD_BY_THE_LIST = "$monai_ssl.data.channel_count(@datalist, @dataset_dir)"
# what a name says by itself
PLAIN = {
    *("bundle_root", "output_dir", "device", "in_channels", "class_names", "network_b", "weight_decay"),
    *("labeled_batch_size", "unlabeled_batch_size", "ramp_steps"),
    *("views", "out_channels", "rank", "processes"),
}


def read(name, bundle=BUNDLE):
    return yaml.safe_load((bundle / "configs" / name).read_text())


def dictionaries(value):
    if isinstance(value, dict):
        yield value
    if isinstance(value, (dict, list)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from dictionaries(entry)


@that_predicts
@pytest.mark.parametrize("name", ["evaluate.yaml", "inference.yaml"])
def test_what_a_volume_looks_like_to_the_network_is_said_alike(name, bundle):
    train, other = read("train.yaml", bundle), read(name, bundle)
    for key in set(MODEL_KEYS) - {"class_names", "in_channels"}:
        assert other[key] == train[key], key
    # a list tells training how many channels there are, and a trained model all others
    assert (other["in_channels"], train["in_channels"]) in [(1, 1), (1, TOLD_BY_THE_LIST)]
    assert str(other["class_names"]).replace("'", "") in train["class_names"].replace("'", "")
    keys = [*MODEL_KEYS, *(["bias_correction"] if bundle == BUNDLE else [])]
    assert train["settings"].count("'") == 2 * len(keys)
    assert all(f"'{key}'" in train["settings"] for key in keys)
    assert other.get("bias_correction") == train.get("bias_correction")


def without_keys(step, *more):
    return {key: value for key, value in step.items() if key not in ("keys", "allow_missing_keys", "mode", *more)}


def of_images(steps):
    """What prepares an image, without the step that reads a label."""
    return [step for step in steps if step["keys"] != "label"]


def without_host(steps):
    """What prepares a scan, without the two steps around ``Spacingd`` that MONAI Label needs."""
    names = [step["_target_"].rpartition(".")[2] for step in steps]
    place = names.index("Spacingd")
    assert names[place - 1] == "SetTextAsided"
    assert names[place + 1] == "PutTextBackd"
    return [*steps[: place - 1], steps[place], *steps[place + 2 :]]


def test_an_image_is_prepared_alike_everywhere():
    train, evaluate, inference = (read(name) for name in FILES[:3])
    validation = train["validate"]["image_loading"]
    assert evaluate["preprocessing"]["transforms"] == validation
    predicting = without_host(inference["preprocessing"]["transforms"])
    assert [without_keys(step) for step in predicting] == [without_keys(step) for step in of_images(validation)]
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
    assert steps[2][-1]["_target_"] == "monai_ssl.transforms.SaveNiftid"
    assert evaluate["inferer"] | {"overlap": evaluate["overlap"]} == train["validate"]["inferer"]
    assert evaluate["inferer"] == inference["inferer"]


def test_a_detector_sees_scans_alike_everywhere():
    train, evaluate, inference = (read(name, DETECTION) for name in ("train.yaml", "evaluate.yaml", "inference.yaml"))
    labeled = train["opening"]["labeled"] + train["intensities"] + train["boxes"]
    assert evaluate["loading"] == labeled
    assert train["validate"]["preprocessing"]["transforms"] == "$@opening#labeled + @intensities + @boxes"
    unlabeled = train["opening"]["unlabeled"] + train["intensities"]
    predicting = without_host(inference["preprocessing"]["transforms"])
    assert predicting == unlabeled
    segmenting = without_host(read("inference.yaml")["preprocessing"]["transforms"])
    # which reads the channels of a case from several files
    segmenting = [step for step in segmenting if "BiasCorrection" not in step["_target_"]]
    assert [without_keys(step, "reader") for step in segmenting] == [without_keys(step, "reader") for step in unlabeled]
    assert [without_keys(step) for step in labeled[: len(unlabeled)]] == [without_keys(step) for step in unlabeled]
    assert labeled[len(unlabeled) :] == train["boxes"]
    assert evaluate["volumes"] == train["volumes"]


def test_boxes_are_found_alike_everywhere():
    train, evaluate, inference = (read(name, DETECTION) for name in ("train.yaml", "evaluate.yaml", "inference.yaml"))
    settings = {name: evaluate[name] for name in evaluate["detector"] if name in evaluate and name != "network"}
    settings = {name: value for name, value in settings.items() if name != "patch_size"}
    assert len(settings) == 4
    # MONAI Label shows people every box
    threshold = "$@markups_threshold if monai_ssl.utils.bundle.inside_monai_label() else @score_threshold"
    assert inference["detector"] == {**evaluate["detector"], "score_threshold": threshold}
    assert {**evaluate["detector"], **settings, "network": ""} == {**train["detector"], "network": ""}
    assert {name: inference[name] for name in settings} == settings
    scored = [evaluate["handlers"][0], train["validate"]["handlers"][0]]
    assert [report["space"] for report in scored] == ["voxel", "voxel"]
    of_the_evaluator, of_monai_label = inference["postprocessing"]["transforms"]
    assert of_monai_label == {**of_the_evaluator, "box_keys": "box", "coordinates": "LPS"}


def test_a_pretraining_prepares_a_scan_as_the_segmentation_does():
    ours, theirs = (read("train.yaml", bundle) for bundle in (PRETRAINING, BUNDLE))
    for key in (
        "modality",
        "orientation",
        "spacing",
        "intensity_range",
        "bias_correction",
        "patch_size",
        "in_channels",
    ):
        assert ours[key] == theirs[key], key
    assert {**ours["network_def"], "out_channels": 0} == {**theirs["network_def"], "out_channels": 0}
    steps = [
        [without_keys(step, "spatial_size", "mode") for step in of_images(train["loading"])] for train in (ours, theirs)
    ]
    assert steps[0] == steps[1]
    for name in ("assess.yaml", "inference.yaml"):
        loading = [without_keys(step) for step in read(name, PRETRAINING)["image_loading"]]
        assert loading == [without_keys(step) for step in ours["loading"][:-1]], name


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_several_processes_part_without_a_collective(bundle):
    # a barrier of gloo frees the tensors of the collective before it as the interpreter ends, and torch aborts
    assert read("multi_gpu_train.yaml", bundle)["finalize"] == ["$monai_ssl.utils.processes.leave_processes()"]


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_several_processes_do_what_one_does(bundle):
    one, several = read("train.yaml", bundle), read("multi_gpu_train.yaml", bundle)
    assert several["initialize"][0] == one["initialize"][0]
    assert set(one["initialize"]) <= set(several["initialize"])
    assert set(one["imports"]) <= set(several["imports"])
    assert several["ddp"]["module"] == one["train"]["trainer"]["objective"]
    writers = [step for step in one["train"]["handlers"] if "run_dir" in str(step) and "Resume" not in step["_target_"]]
    # inside MONAI Label alone; and each process labels a part of the scans
    by_all = {"monai_ssl.handlers.WeightsReport", "monai_ssl.handlers.PseudoLabelRounds"}
    assert all("@rank > 0" in str(step["_disabled_"]) for step in writers if step["_target_"] not in by_all)


@every_file
def test_every_target_is_a_dotted_path_that_exists(bundle, name):
    targets = {entry["_target_"] for entry in dictionaries(read(name, bundle)) if "_target_" in entry}
    for target in targets:
        assert re.match(r"(monai|monai_ssl|torch)\.", target), target
        assert callable(locate(target)), target


@every_file
def test_every_knob_has_a_comment_or_a_plain_name(bundle, name):
    explained = set(PLAIN)
    if name != "train.yaml":
        explained |= {"modality", "orientation", "term_weights", "burn_in"}  # the comment is in train.yaml
    for line in (bundle / "configs" / name).read_text().splitlines():
        key, colon, value = line.partition(":")
        knob = (
            key.isidentifier() and colon and value.strip() and not value.lstrip().startswith(('"', "[]", "{_target_"))
        )
        assert not knob or "#" in value or key in explained, line


@that_predicts
@pytest.mark.parametrize(("name", "kind"), [("train.yaml", "train"), ("inference.yaml", "infer")])
def test_monai_finds_every_property(name, kind, bundle, mri, trained, chests, detected, tmp_path):
    data, run = (mri, trained) if bundle == BUNDLE else (chests, detected)
    settings = {"output_dir": str(tmp_path), "dataset_dir": str(data)}
    if kind == "infer":
        settings |= {"weights": str(run / "model.pt"), "dataset_dir": None}
        settings |= {"image": str(data / "imagesUn"), **read_json(run / "preprocessing.json")}
    with as_own_process():
        workflow = ConfigWorkflow(str(bundle / "configs" / name), workflow_type=kind, initialize=[], **settings)
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


def test_a_patch_of_the_detector_is_as_the_metadata_says():
    parser = ConfigParser(read("inference.yaml", DETECTION))
    detector = parser.get_parsed_content("network_def")
    image = read_json(DETECTION / "configs" / "metadata.json")["network_data_format"]["inputs"]["image"]
    assert [f"{step}*n" for step in detector.size_divisible] == image["spatial_shape"]
    maps = detector.eval()(torch.zeros(1, image["num_channels"], 16, 16, 16))
    assert maps["classification"][0].shape[1] == detector.num_anchors * len(
        read("inference.yaml", DETECTION)["class_names"]
    )


@every_bundle
def test_the_metadata_is_what_the_model_zoo_wants(bundle):
    metadata = read_json(bundle / "configs" / "metadata.json")
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
    assert inputs["image"]["num_channels"] == read("inference.yaml", bundle)["in_channels"]
    if bundle == BUNDLE:
        assert list(outputs["pred"]["channel_def"].values()) == read("inference.yaml")["class_names"]
    assert re.search("_(segmentation|pretraining|detection)$", bundle.name)


@every_bundle
def test_the_bundle_has_the_model_zoos_files_and_no_python(bundle):
    for file in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/metadata.json", "configs/logging.conf"):
        assert (bundle / file).stat().st_size > 0, file
    assert not list(bundle.rglob("*.py"))
    assert (bundle / "LICENSE").read_bytes() == (bundle.parents[1] / "LICENSE").read_bytes()
    assert (bundle / "configs" / "logging.conf").read_bytes() == (CONFIGS / "logging.conf").read_bytes()


OF_A_PRETRAINING = {"pretext.pt", "pretext.png", "embeddings.csv", "seen_scans.json"}
OF_PSEUDO_LABELS = {"audit.csv", "reliability.png", "pseudo_labels"}
NOT_OF = {
    BUNDLE: {*OF_A_PRETRAINING, RunFiles.FREE_RESPONSE},
    PRETRAINING: {"validation_metrics.json", "metrics.json", "overlay.png", "froc.png", "best.pt", *OF_PSEUDO_LABELS},
    DETECTION: OF_A_PRETRAINING | OF_PSEUDO_LABELS,
}


@every_bundle
def test_the_readme_names_every_method_every_file_of_a_run_and_only_settings_that_exist(bundle):
    text = (bundle / "docs" / "README.md").read_text()
    for method in METHODS_OF[bundle]:
        assert f"`{method}`" in text, method
    for file in set(RunFiles) - {RunFiles.LOCK} - NOT_OF[bundle]:
        assert file in text, file
    settings = {"config_file", "from", "conf", "standalone", "max", "nproc_per_node", "pretrained", "transfer"}
    settings |= {"set", "studies", "labels", "models", "objects"}  # of monai-ssl init and monai-ssl label
    settings |= {key for name in BUNDLES[bundle] if "methods" not in name for key in read(name, bundle)}
    assert set(re.findall(r"--([a-z_]+)", text)) <= settings
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        json.loads(block)
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (bundle / "docs" / Path(target)).exists(), target
