"""Every method of the detector from scans to boxes, what each step leaves behind, and data that are unlike others."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_ssl.data.box_files import read_boxes
from monai_ssl.data.nodule_phantoms import nodule_phantom
from monai_ssl.handlers.checkpoint import CheckpointWriter, read_checkpoint
from monai_ssl.networks import encoder_keys
from monai_ssl.utils.errors import find_user_error
from monai_ssl.utils.keys import RunFiles
from tests.bundles.helpers import (
    DETECTION,
    DETECTORS,
    FAST_PRETRAINING,
    FAST_SCORING,
    PRETRAINING,
    detect,
    load,
    numbers,
    read_json,
    run_bundle,
    spoil,
    steps,
    write_nifti,
)
from tests.helpers import same

# of an evaluation, of a pretraining, of a method with audited pseudo-labels, or of what was not asked for
NOT_OF_A_TRAINING = {
    *("metrics.json", "overlay.png", "froc.png", "best.pt", "transfer.json"),
    *("audit.csv", "reliability.png", "pseudo_labels"),
    *("pretext.pt", "pretext.png", "embeddings.csv", "seen_scans.json"),
}
FOCALMIX = {"positive", "mass", "sure", "objects"}
FIGURES = {
    **dict.fromkeys(("focalmix", "image_mix_only", "object_mix_only", "no_mix"), FOCALMIX),
    "pseudo_label": {"positive", "objects"},
    "supervised": {"positive"},
}
BRIEF = {"max_steps": 2, "val_interval": 2}


def run(name, **settings):
    run_bundle(
        name, bundle=DETECTION, **{**(FAST_SCORING if name == "evaluate.yaml" else {"device": "cpu"}), **settings}
    )


def detector_of(folder):
    definition = read_json(folder / "preprocessing.json")["network_def"]
    return ConfigParser({"network_def": definition}).get_parsed_content("network_def")


@pytest.mark.parametrize("method", DETECTORS)
def test_from_scans_to_weights(method, chests, detected, tmp_path):
    folder = detected
    if method != "focalmix":
        folder = tmp_path / "run"
        detect(method, dataset_dir=str(chests), output_dir=str(folder))
    found = {path.name for path in folder.iterdir()}
    assert found <= set(RunFiles)
    assert set(RunFiles) - found == NOT_OF_A_TRAINING
    assert read_json(folder / "preprocessing.json")["class_names"] == ["nodule"]
    weights = load(folder / "model.pt")
    detector_of(folder).load_state_dict(weights)
    checkpoint = read_checkpoint(folder / "resume.pt")
    assert checkpoint["iteration"] == 4
    assert checkpoint["fingerprint"] == read_json(folder / "run_manifest.json")["fingerprint"]
    assert all(same(value, checkpoint["objective"][f"network.{name}"]) for name, value in weights.items())

    rows = steps(folder)
    terms = {"classification", "box"} | (set() if method == "supervised" else {"unlabeled"})
    figures = FIGURES[method]
    beside = {"step", "loss", "lr", "seconds", "validation_cpm", *(f"weight_{term}" for term in terms)}
    assert set(rows[0]) == beside | terms | figures
    assert [bool(row["validation_cpm"]) for row in rows] == [False, False, True, True]
    for row in rows:
        total = sum(float(row[term]) * float(row[f"weight_{term}"]) for term in terms)
        assert float(row["loss"]) == pytest.approx(total, rel=1e-5)
    assert any(float(row["box"]) > 0 for row in rows)
    assert float(rows[-1]["validation_cpm"]) == read_json(folder / "validation_metrics.json")["mean"]["cpm"]
    assert matplotlib.image.imread(folder / "progress.png").ndim == 3


def test_the_method_is_told_from_the_config_alone(chests, detected, tmp_path):
    """train.yaml is FocalMix; a cache and workers change no figure, and of a cached case no validation spoils another.

    Before the third step comes a validation more than in the other run, and then two of the same case in memory.
    """
    detect(dataset_dir=str(chests), output_dir=str(tmp_path), cache_rate=1.0, num_workers=1, val_interval=1)
    assert same(load(tmp_path / "model.pt"), load(detected / "model.pt"))
    metrics = read_json(tmp_path / "validation_metrics.json")
    assert metrics == read_json(detected / "validation_metrics.json")
    assert metrics["counts"]["found"] > 0
    figures = [[row["validation_cpm"] for row in steps(folder)] for folder in (tmp_path, detected)]
    assert figures[0][2:] == figures[1][2:]
    assert all(figures[0])


@pytest.mark.parametrize("decay", [None, pytest.param(0.9, marks=pytest.mark.slow)])
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(decay, chests, detected, tmp_path, monkeypatch):
    save, expected = CheckpointWriter._save, detected
    settings = {"dataset_dir": str(chests), **({"objective#decay": decay} if decay else {})}
    if decay:
        expected = tmp_path / "expected"
        detect("focalmix", output_dir=str(expected), **settings)

    def save_and_die(self, engine):
        save(self, engine)
        raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointWriter, "_save", save_and_die)
    with pytest.raises(BaseException, match=r"^|KeyboardInterrupt"):
        detect("focalmix", output_dir=str(tmp_path / "run"), **settings)
    assert read_checkpoint(tmp_path / "run" / "resume.pt")["iteration"] == 2
    monkeypatch.undo()
    detect("focalmix", output_dir=str(tmp_path / "run"), resume="true", cache_rate=1.0, **settings)
    for name in ("model.pt", "resume.pt"):
        assert same(load(tmp_path / "run" / name), load(expected / name)), name
    assert numbers(tmp_path / "run") == numbers(expected)
    figures = [read_json(folder / "validation_metrics.json") for folder in (tmp_path / "run", expected)]
    assert figures[0] == figures[1]


def test_a_chosen_checkpoint_has_the_best_cpm(chests, tmp_path):
    settings = {"dataset_dir": str(chests), "output_dir": str(tmp_path / "run"), "checkpoint": "chosen"}
    detect("supervised", seed=1, val_interval=1, max_steps=8, iou_threshold=0.001, **settings)
    scores = [float(row["validation_cpm"]) for row in steps(tmp_path / "run")]
    assert max(scores) > min(scores)
    best = load(tmp_path / "run" / "best.pt")
    assert best["step"] == 1 + scores.index(max(scores))
    assert same(load(tmp_path / "run" / "model.pt"), best["network"])
    assert read_json(tmp_path / "run" / "validation_metrics.json")["mean"]["cpm"] == max(scores)


def test_evaluation_scores_the_test_cases_and_draws_them(chests, detected, tmp_path):
    settings = {"weights": str(detected / "model.pt"), "dataset_dir": str(chests)}
    run("evaluate.yaml", output_dir=str(tmp_path / "test"), resamples=20, **settings)
    text = (tmp_path / "test" / "metrics.json").read_text()
    assert "NaN" not in text
    metrics = json.loads(text)
    assert (metrics["part"], metrics["weights"], metrics["list"]) == ("test", "model.pt", "dataset.json")
    assert [(case["image"], case["boxes"]) for case in metrics["cases"]] == [
        *(("chest_000.nii.gz", 1), ("chest_004.nii.gz", 1)),
    ]
    assert set(metrics["classes"]) == {"nodule"}
    assert 0 <= metrics["mean"]["cpm"] <= 1
    assert len(metrics["intervals"]["cpm"]) == 2
    for name in ("froc.png", "overlay.png"):
        assert matplotlib.image.imread(tmp_path / "test" / name).ndim == 3
    # what training says of model.pt is of model.pt: val_interval is 3 of 4 steps
    run("evaluate.yaml", output_dir=str(tmp_path / "validation"), part="validation", **settings)
    assert read_json(tmp_path / "validation" / "metrics.json") == read_json(detected / "validation_metrics.json")


def test_inference_of_one_scan_is_that_of_a_folder(chests, detected, tmp_path):
    settings = {"weights": str(detected / "model.pt"), "score_threshold": 0.0, "markups_threshold": 0.0}
    image = chests / "imagesUn" / "chest_005.nii.gz"
    run("inference.yaml", image=str(image), output_dir=str(tmp_path / "one"), max_boxes=7, **settings)
    run("inference.yaml", image=str(chests / "imagesUn"), output_dir=str(tmp_path / "all"), max_boxes=7, **settings)
    names = [f"chest_00{number}_boxes.{ending}" for number in (5, 6) for ending in ("json", "mrk.json")]
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == names
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names[:2]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "all" / name).read_bytes() for name in names[:2])
    content = read_boxes(tmp_path / "one" / names[0])
    assert (content["image"], len(content["box"]), set(content["class"])) == (image.name, 7, {"nodule"})
    assert (np.diff(content["score"]) <= 0).all()
    assert len(read_json(tmp_path / "one" / names[1])["markups"]) == 7


@pytest.fixture(scope="module")
def one_truth(tmp_path_factory):
    """Scans of 1 mm voxels in several orientations, one thinner than a patch; lists of boxes and of masks."""
    folder = tmp_path_factory.mktemp("one_truth")
    lists = {"boxes": [], "lps": [], "masks": []}
    for index in (1, 2, 6, 0, 3, 4):  # the last but one is healthy
        image, mask, _, affine = nodule_phantom(index, size=(40, 40, 40))
        # whole millimetres, so that a box is the same number by number on each way: anchors as far from it tie
        affine = np.rint(affine / np.array([*np.linalg.norm(affine[:3, :3], axis=0), 1.0]))
        if index == 2:
            thin = np.flatnonzero(mask.any(axis=(0, 1)))[0]
            image, mask = (np.ascontiguousarray(array[:, :, thin : thin + 11]) for array in (image, mask))
        entry = {"image": f"{index}.nii.gz"}
        write_nifti(folder / entry["image"], image.astype(np.float32), affine)
        write_nifti(folder / "masks" / entry["image"], (mask > 0).astype(np.uint8), affine)
        boxes = []
        for number in np.unique(mask[mask > 0]):
            corners = np.argwhere(mask == number)
            edges = np.array([corners.min(0) - 0.5, corners.max(0) + 0.5]) @ affine[:3, :3].T + affine[:3, 3]
            boxes.append([*edges.mean(0), *np.abs(edges[1] - edges[0])])
        boxes.sort(key=lambda box: box[0] - box[3] / 2)  # as objects of a mask in RAS come, since crops are by number
        turned = [[-x, -y, *rest] for x, y, *rest in boxes]
        lists["boxes"].append({**entry, "box": boxes, "label": [0] * len(boxes)})
        lists["lps"].append({**entry, "box": turned, "label": [0] * len(boxes)})
        lists["masks"].append({**entry, "label": f"masks/{index}.nii.gz"})
    for name, cases in lists.items():
        labels = {"0": "background", "1": "nodule"} if name == "masks" else {"0": "nodule"}
        content = {"labels": labels, "training": cases[:3], "validation": cases[3:4], "test": cases[4:]}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_masks_and_boxes_in_either_frame_say_the_same(one_truth, tmp_path):
    settings = {**BRIEF, "p_object": 1.0}
    for name in ("boxes", "lps", "masks"):
        frame = "LPS" if name == "lps" else "RAS"
        datalist = str(one_truth / f"{name}.json")
        detect("supervised", datalist=datalist, output_dir=str(tmp_path / name), coordinates=frame, **settings)
        assert read_json(tmp_path / name / "preprocessing.json")["class_names"] == ["nodule"]
    weights = {"weights": str(tmp_path / "boxes" / "model.pt")}
    for name in ("boxes", "masks"):
        datalist, folder = str(one_truth / f"{name}.json"), str(tmp_path / f"{name} scored")
        run("evaluate.yaml", datalist=datalist, output_dir=folder, **weights)
    rows = numbers(tmp_path / "boxes")
    assert all(float(row["positive"]) > 0 for row in rows)
    expected = read_json(tmp_path / "boxes scored" / "metrics.json")
    assert [case["boxes"] for case in expected["cases"]] == [0, 1]
    assert numbers(tmp_path / "lps") == numbers(tmp_path / "masks") == rows
    assert read_json(tmp_path / "masks scored" / "metrics.json") == {**expected, "list": "masks.json"}


def healthy(cases):
    return [case for case in cases if not case["box"]]


@pytest.fixture
def data(chests, tmp_path):
    """A copy of the list's folder to change."""
    return shutil.copytree(chests, tmp_path / "data")


def test_healthy_scans_alone_train_validate_and_are_scored(data, tmp_path):
    def change(content):
        content["training"] = healthy(content["training"])
        content |= {"validation": content["training"], "test": content["training"]}
        for part in ("validation", "test"):  # a part of its own, as a scan may stand on one side only
            name = f"imagesTr/{part}.nii.gz"
            shutil.copy(data / content["training"][0]["image"], data / name)
            content[part] = [{"image": name, "box": []}]

    spoil(data, change)
    folder = tmp_path / "run"
    # the check would refuse one scan under three names
    detect("focalmix", dataset_dir=str(data), output_dir=str(folder), check="false", **BRIEF)
    rows = steps(folder)
    assert [float(row["box"]) for row in rows] == [0.0, 0.0]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    assert rows[-1]["validation_cpm"] == "nan"
    assert read_json(folder / "validation_metrics.json")["mean"]["cpm"] is None
    weights = str(folder / "model.pt")
    run("evaluate.yaml", dataset_dir=str(data), output_dir=str(tmp_path / "test"), weights=weights, resamples=20)
    metrics = read_json(tmp_path / "test" / "metrics.json")
    assert (metrics["mean"]["cpm"], metrics["counts"]["boxes"], metrics["counts"]["cases"]) == (None, 0, 1)
    assert {"froc.png", "overlay.png"} <= {path.name for path in (tmp_path / "test").iterdir()}


def test_what_the_list_says_of_an_unlabelled_case_is_never_looked_at(data, detected, tmp_path):
    def change(content):
        for case, nonsense in zip(content["unlabeled"], ("nonsense", [[1, 2, -3]]), strict=True):
            case |= {"box": nonsense, "label": {"no": "class"}}

    spoil(data, change)
    detect("focalmix", dataset_dir=str(data), output_dir=str(tmp_path / "run"))
    assert numbers(tmp_path / "run") == numbers(detected)
    assert same(load(tmp_path / "run" / "model.pt"), load(detected / "model.pt"))


def test_without_unlabelled_cases_the_labelled_ones_train_where_that_is_asked_for(data, tmp_path):
    spoil(data, lambda content: content.pop("unlabeled"))
    settings = {"dataset_dir": str(data), **BRIEF}
    with pytest.raises(RuntimeError) as error:
        detect("focalmix", output_dir=str(tmp_path / "refused"), **settings)
    assert "there is no unlabeled case" in str(find_user_error(error.value))
    detect("focalmix", output_dir=str(tmp_path / "run"), unlabeled_batch_size=0, **settings)
    assert "unlabeled" not in steps(tmp_path / "run")[0]


RESNET = {
    **{"_target_": "monai.networks.nets.ResNet", "block": "basic", "layers": [1, 1, 1, 1]},
    **{"block_inplanes": [4, 8, 8, 8], "spatial_dims": 3, "n_input_channels": "@in_channels", "conv1_t_size": 3},
    **{"conv1_t_stride": 2, "no_max_pool": True, "feed_forward": False},
}


@pytest.mark.parametrize(
    ("pretext", "transfer"),
    [
        *(("rotation", "feature_extraction"), ("three_tasks", "sawtooth")),
        pytest.param("contrastive_crops", "fine_tune", marks=pytest.mark.slow),
        pytest.param("vicreg", "two_stage", marks=pytest.mark.slow),
    ],
)
def test_a_detector_starts_from_a_pretrained_residual_network(pretext, transfer, chests, tmp_path):
    settings = {name: value for name, value in FAST_PRETRAINING.items() if not name.startswith("network_def")}
    settings |= {"modality": "CT", "intensity_range": [-1000.0, 400.0], "network_def": RESNET, "max_steps": 2}
    settings["dataset_dir"] = str(chests)
    run_bundle("train.yaml", pretext, bundle=PRETRAINING, output_dir=str(tmp_path / "before"), **settings)
    weights = tmp_path / "before" / "model.pt"
    chosen = {"pretrained": str(weights), "transfer": transfer, "dataset_dir": str(chests)}
    detect("supervised", output_dir=str(tmp_path / "run"), val_interval=4, **chosen)
    report = read_json(tmp_path / "run" / "transfer.json")
    encoder = encoder_keys(detector_of(tmp_path / "run"))
    assert set(report["matched"]) == set(encoder)
    assert report["warnings"] == []
    # the detector reads no further than its third stage
    assert {name.split(".")[0] for name in report["unexpected"]} == {"layer4"}
    before, after = load(weights), load(tmp_path / "run" / "model.pt")
    still = [torch.equal(before[name.removeprefix("feature_extractor.encoder.")], after[name]) for name in encoder]
    assert all(still) == (transfer == "feature_extraction")


def test_a_detector_refuses_a_pretrained_network_of_another_kind(trained, chests, tmp_path):
    settings = {"pretrained": str(Path(trained) / "model.pt"), "dataset_dir": str(chests)}
    with pytest.raises(RuntimeError) as error:
        detect("supervised", output_dir=str(tmp_path / "run"), **settings)
    assert "nothing of it fits the encoder of Detector" in str(find_user_error(error.value))
