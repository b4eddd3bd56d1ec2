"""What is wrong with a detection list, its boxes, its masks or the settings is one line that names the case."""

from __future__ import annotations

import re
import shutil

import nibabel as nib
import numpy as np
import pytest

from tests.bundles.helpers import DETECTION, run_bundle, spoil, write_nifti


@pytest.fixture
def data(chests, tmp_path):
    """A copy of the list's folder to spoil; its first case is chest_001 with three boxes."""
    return shutil.copytree(chests, tmp_path / "data")


@pytest.fixture
def refused(mistake, data, tmp_path):
    """The line that a supervised training of a spoiled list ends with."""

    def refused(change=lambda content: None, **settings):
        spoil(data, change)
        line = mistake("train.yaml", "supervised", bundle=DETECTION, dataset_dir=str(data), **settings)
        assert not (tmp_path / "run" / "model.pt").exists()
        return line

    return refused


def first(**entries):
    """Change the first labelled case."""
    return lambda content: content["training"][0].update(entries)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_boxs": 3}, r"unknown setting 'max_boxs'; did you mean 'max_boxes'\?"),
        ({"max_steps": 5}, "max_steps .* multiple of epoch_length 2, got 5: use 4 or 6"),
        ({"patch_size": [20, 16, 16]}, r"patch_size \[20, 16, 16\] must be multiples of \[8, 8, 8\].*\[16, 16, 16\]"),
        ({"patch_size": [16, 16]}, r"patch_size \[16, 16\] must have 3 axes"),
        ({"coordinates": "lps"}, "coordinates must be one of RAS, LPS, got 'lps'"),
        ({"boxes_from": "masks"}, "boxes_from must be one of box, mask, got 'masks'"),
        ({"checkpoint": "best"}, "checkpoint must be one of last, chosen, got 'best'"),
        ({"modality": "PET"}, "modality must be one of MRI, CT, got 'PET'"),
        ({"transfer": "all"}, "transfer must be one of fine_tune, .*, got 'all'"),
        ({"cache_rate": 1.5}, "cache_rate must be in 0 to 1, got 1.5"),
        ({"spacing": [0, 1, 1]}, r".*`spacing` must be above 0 along each axis, got \[0, 1, 1\]"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_settings(refused, settings, message, tmp_path):
    assert re.match(f"Error: {message}", refused(**settings))
    assert not (tmp_path / "run" / "resume.pt").exists()


BOX = [0.0, 0.0, 0.0, 5.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"box": [[1, 2, 3, 4, 5]], "label": [0]}, r"box 1 must be six numbers in mm, .* got \[1, 2, 3, 4, 5\]"),
        ({"box": BOX, "label": [0]}, r"`box` must be a list of boxes, got the numbers of one: write \[\["),
        ({"box": [BOX, [1, 2, 3, 4, 5, -6]], "label": [0, 0]}, r"box 2 .* not two corners \(xyzxyz\)"),
        ({"box": [BOX], "label": [0, 0]}, "`label` must be a list of one class for each of 1 boxes, got 2"),
        ({"box": [BOX], "label": [1]}, r"the class of box 1 must be a whole number from 0 to 0 .* got 1"),
        ({"box": [BOX], "label": "imagesTr/chest_000.nii.gz"}, "has `box` and a mask as `label`: leave out one"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:25],
)
def test_boxes_in_the_list(refused, entries, message, tmp_path):
    line = refused(first(**entries))
    assert re.match(r"Error: \S+dataset.json: entry 1 of `training` \(./imagesTr/chest_001.nii.gz\)", line)
    assert re.search(message, line)
    assert not (tmp_path / "run").exists()


def test_a_case_without_boxes_is_no_healthy_one(refused):
    line = refused(lambda content: [content["training"][0].pop(key) for key in ("box", "label")])
    assert re.search(r"entry 1 of `training` \(\S+\) has no `label`: give one, or move the case to `unlabeled`", line)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (
            [500.0, 0.0, 0.0, 5.0, 5.0, 5.0],
            r"box 1, \[500, 0, 0, 5, 5, 5\] mm, lies outside its image.*\(`coordinates`\)",
        ),
        ([0.0, 0.0, 0.0, 60.0, 60.0, 60.0], "box 1, .* is larger than its image: .*, not two corners"),
    ],
    ids=["outside", "corners"],
)
def test_boxes_that_do_not_belong_to_their_image(refused, box, message):
    line = refused(first(box=[box], label=[0]), labeled_batch_size=2, check="false")
    assert re.match(rf"Error: \S+/chest_001.nii.gz: {message}", line)


def test_a_wrong_box_of_a_validation_case(refused):
    def change(content):
        content["validation"][0]["box"][1][0] += 400.0

    line = refused(change, val_interval=1, check="false")
    assert re.match(r"Error: \S+/chest_002.nii.gz: box 2, .* lies outside its image", line)


def test_more_boxes_than_there_is_room_for(refused):
    line = refused(max_boxes=2, patch_size=[40, 40, 40], visible=0.1)
    assert re.match(r"Error: \S+/chest_001.nii.gz: has 3 boxes, but there is room for 2: raise `count`", line)


def with_masks(data, cases, values):
    for case in cases:
        image = nib.load(data / case["image"])
        mask = np.zeros(image.shape, np.uint8)
        mask[10:14, 10:14, 10:14] = values
        case |= {"label": case["image"].replace("imagesTr", "masks")}
        case.pop("box", None)
        write_nifti(data / case["label"], mask, image.affine)


def test_a_list_of_both_kinds(refused, data):
    line = refused(lambda content: with_masks(data, content["training"][:1], 1))
    assert re.search(r"some cases have boxes \(\S+\) and some have masks \(\S+/chest_001.nii.gz\)", line)


def test_a_list_of_both_kinds_on_two_sides(refused, data):
    line = refused(lambda content: with_masks(data, content["training"], 1))
    assert re.search(r"some cases have boxes \(\S+/chest_002.nii.gz\) and some have masks", line)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("true", "has 2 .*, and the list declares 0 to 1"),
        ("false", "has the value 2; .* from 0 to 1, 0 where nothing is"),
    ],
)
def test_a_mask_with_a_value_above_the_classes(refused, data, tmp_path, check, message):
    def change(content):
        with_masks(data, [*content["training"], *content["validation"], *content["test"]], 2)
        content["labels"] = {"0": "background", "1": "nodule"}

    line = refused(change, check=check)
    assert re.match(rf"Error: \S+/masks/chest_00[13].nii.gz: {message}", line)
    assert (tmp_path / "run").exists() == (check == "false")


@pytest.mark.parametrize("boxes", [BOX, [500.0, *BOX[1:]]])
def test_boxes_of_a_class_without_a_name(refused, boxes, tmp_path):
    def change(content):
        content.pop("labels")
        content["training"][0].update(box=[boxes], label=[1])

    line = refused(change)
    assert re.match(r"Error: \S+/chest_001.nii.gz: has a box of class 1, and the classes, .*, are object\.", line)
    assert not (tmp_path / "run").exists()


def test_boxes_in_other_coordinates(refused, tmp_path):
    line = refused(first(box=[[70.0, 60.0, 0.0, 5.0, 5.0, 5.0]], label=[0]), coordinates="LPS")
    assert re.search(r"chest_001.nii.gz: has box 1, .* outside its image in LPS \(`coordinates`\)", line)
    assert not (tmp_path / "run").exists()


def test_boxes_with_a_background_among_the_classes(refused):
    line = refused(lambda content: content.update(labels={"0": "background", "1": "nodule"}))
    assert "`labels` must name their classes from 0 without a background" in line


def test_a_truncated_scan(refused, data):
    path = data / "imagesTr" / "chest_001.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])
    assert re.match(r"Error: \S+/imagesTr/chest_001.nii.gz: cannot be read", refused(check="false"))


def test_a_case_on_two_sides(refused, tmp_path):
    line = refused(lambda content: content["unlabeled"].append({"image": content["test"][0]["image"]}))
    assert re.search(r"chest_000.nii.gz is in `unlabeled` and in `test`", line)
    assert not (tmp_path / "run").exists()


def test_a_choice_without_validation_cases(refused):
    line = refused(lambda content: content.pop("validation"), checkpoint="chosen")
    assert "`checkpoint` chosen needs labelled validation cases" in line


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"modality": "MRI"}, "modality"),
        ({"spacing": [2, 2, 2]}, "spacing"),
        ({"network_def#channels": 16}, "network_def"),
        ({"class_names": ["mass"]}, "class_names"),
    ],
    ids=str,
)
@pytest.mark.parametrize("config", ["evaluate.yaml", "inference.yaml"])
def test_a_setting_that_contradicts_the_weights(mistake, detected, chests, config, settings, name):
    settings = {**settings, "weights": str(detected / "model.pt")}
    if config == "inference.yaml":
        settings |= {"dataset_dir": None, "image": str(chests / "imagesUn")}
    line = mistake(config, bundle=DETECTION, **settings)
    assert re.search(rf"{name}.* contradicts .*preprocessing.json", line)


def test_results_are_not_overwritten_unasked(mistake, detected, chests, tmp_path):
    weights = {"weights": str(detected / "model.pt"), "overlap": 0.0, "device": "cpu", "bundle": DETECTION}
    run_bundle("evaluate.yaml", dataset_dir=str(chests), output_dir=str(tmp_path / "run"), resamples=0, **weights)
    assert "holds metrics.json already" in mistake("evaluate.yaml", **weights)
    image = {"dataset_dir": None, "image": str(chests / "imagesUn" / "chest_005.nii.gz")}
    run_bundle("inference.yaml", output_dir=str(tmp_path / "run"), **weights, **image)
    assert "chest_005_boxes.json: is there already" in mistake("inference.yaml", **weights, **image)
    run_bundle("inference.yaml", output_dir=str(tmp_path / "run"), overwrite="true", **weights, **image)
    none = {**weights, "weights": str(tmp_path / "none.pt")}
    assert "there are no weights here" in mistake("evaluate.yaml", **none)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ("evaluate.yaml", {"part": "training"}, "part must be one of test, validation, got 'training'"),
        ("evaluate.yaml", {"maximum_boxes": 5}, "unknown setting 'maximum_boxes'; did you mean 'max_boxes'"),
        ("inference.yaml", {"score_treshold": 0.1}, "unknown setting 'score_treshold'; did you mean 'score_threshold'"),
        ("inference.yaml", {"dataset_dir": None}, "image: give --image FILE.nii.gz or --image FOLDER"),
    ],
    ids=["part", "setting", "threshold", "image"],
)
def test_settings_of_evaluation_and_inference(mistake, detected, config, settings, message):
    line = mistake(config, bundle=DETECTION, **{"weights": str(detected / "model.pt"), "device": "cpu", **settings})
    assert message in line


def test_classes_in_another_order(mistake, detected, data):
    spoil(data, lambda content: content.update(labels={"0": "node", "1": "nodule"}))
    settings = {"weights": str(detected / "model.pt"), "dataset_dir": str(data), "device": "cpu"}
    line = mistake("evaluate.yaml", bundle=DETECTION, **settings)
    assert "nodule is number 1 of the one and 0 of the other" in line


def test_a_class_that_the_model_does_not_have(mistake, detected, data):
    def change(content):
        content["labels"] = {"0": "nodule", "1": "node"}
        content["test"][0]["label"][-1] = 1

    spoil(data, change)
    settings = {"weights": str(detected / "model.pt"), "dataset_dir": str(data), "device": "cpu"}
    line = mistake("evaluate.yaml", bundle=DETECTION, **settings)
    assert re.match(r"Error: \S+chest_00\d.nii.gz: has a box of class 1, and the classes, .* are nodule\.", line)


@pytest.mark.parametrize("config", ["evaluate.yaml", "inference.yaml"])
def test_a_scan_of_two_dimensions(mistake, detected, data, config):
    path = data / "imagesTr" / "chest_000.nii.gz"
    write_nifti(path, np.zeros((30, 30), np.float32), np.eye(4))
    given = {"dataset_dir": str(data)} if config == "evaluate.yaml" else {"dataset_dir": None, "image": str(path)}
    line = mistake(config, bundle=DETECTION, weights=str(detected / "model.pt"), device="cpu", **given)
    assert re.match(r"Error: \S+/chest_000.nii.gz: is 2D \(30 x 30 voxels\)", line)


def test_boxes_that_cannot_be_written(mistake, detected, chests, tmp_path):
    (tmp_path / "file").write_text("mine")
    given = {"dataset_dir": None, "image": str(chests / "imagesUn"), "output_dir": str(tmp_path / "file")}
    line = mistake("inference.yaml", bundle=DETECTION, weights=str(detected / "model.pt"), device="cpu", **given)
    assert re.match(r"Error: \S+/file: cannot be written \(File exists\). Choose another output_dir", line)


@pytest.mark.parametrize("config", ["evaluate.yaml", "inference.yaml"])
def test_voxels_that_are_not_finite(mistake, detected, data, config):
    path = data / "imagesTr" / "chest_000.nii.gz"
    image = nib.load(path)
    voxels = image.get_fdata(dtype=np.float32)
    voxels[20, 20, 20] = np.nan
    write_nifti(path, voxels, image.affine)
    given = {"dataset_dir": str(data)} if config == "evaluate.yaml" else {"dataset_dir": None, "image": str(path)}
    line = mistake(config, bundle=DETECTION, weights=str(detected / "model.pt"), device="cpu", **given)
    assert re.match(r"Error: \S+/chest_000.nii.gz: has voxels that are not finite", line)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ("inference.yaml", {"score_threshold": 50}, r"`score_threshold` must be in \[0, 1\], got 50"),
        ("inference.yaml", {"max_boxes": 0}, "`max_boxes` must be a whole number from 1, got 0"),
        ("evaluate.yaml", {"iou_threshold": 1.5}, r"`iou_threshold` must be in \(0, 1\], got 1.5"),
        ("evaluate.yaml", {"resamples": -5}, "`resamples` must be a whole number from 0, got -5"),
    ],
    ids=["score", "boxes", "overlap", "draws"],
)
def test_numbers_out_of_range(mistake, detected, chests, config, settings, message):
    given = {"dataset_dir": str(chests)}
    given |= {"dataset_dir": None, "image": str(chests / "imagesUn")} if config == "inference.yaml" else {}
    line = mistake(config, bundle=DETECTION, weights=str(detected / "model.pt"), device="cpu", **given, **settings)
    assert re.search(message, line)


def test_a_part_without_a_case(mistake, detected, data):
    spoil(data, lambda content: content.update(test=[]))
    settings = {"weights": str(detected / "model.pt"), "dataset_dir": str(data), "device": "cpu"}
    assert "has no case in `test`" in mistake("evaluate.yaml", bundle=DETECTION, **settings)
