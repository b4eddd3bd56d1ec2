"""Every method from data to label maps, and what each step leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from monai_ssl.handlers.checkpoint import read_checkpoint
from monai_ssl.utils.keys import RunFiles
from tests.bundles.helpers import FAST, METHODS, load, read_json, run_bundle, steps, train, write_list
from tests.helpers import same

SCORES = {"dice", "surface_dice", "hausdorff_95"}
CLASSES = ["lobe", "gland", "node"]
# of an evaluation, of a pretraining, or of what was not asked for
NOT_OF_A_TRAINING = {
    *("metrics.json", "overlay.png", "froc.png", "best.pt", "transfer.json", "pseudo_labels"),
    *("pretext.pt", "pretext.png", "embeddings.csv", "seen_scans.json"),
}


CONSISTENT = {
    *("mean_teacher", "uncertainty_mean_teacher", "interpolation_consistency", "uncertainty_rectified_pyramid"),
    "adaptive_blended_consistency",
}
PSEUDO = {"fixmatch", "bidirectional_copy_paste", "dual_teacher", "strong_view_teacher", "pseudo_label"}
TERMS = {
    **{method: {"supervised"} for method in METHODS if method.startswith("supervised")},
    **{method: {"supervised", "consistency"} for method in CONSISTENT},
    **{method: {"supervised", "pseudo"} for method in PSEUDO},
    **{method: {"supervised", "supervised_b", "pseudo", "pseudo_b"} for method in ("cross_pseudo", "cross_teaching")},
    "entropy_minimisation": {"supervised", "entropy"},
    "learned_transforms": {"supervised", "registration", "synthetic", "atlas"},
}


def check_run(folder, validated, terms):
    missing = {name for name in RunFiles if not (folder / name).exists()} - NOT_OF_A_TRAINING
    audited = {"audit.csv", "reliability.png"} if terms - {"supervised"} else set()
    unaudited = {"audit.csv", "reliability.png"} - (audited if validated else set())
    assert missing == unaudited | (set() if validated else {"validation_metrics.json"})
    unknown = {path.name for path in folder.iterdir()} - set(RunFiles)
    assert not unknown

    preprocessing = read_json(folder / "preprocessing.json")
    assert preprocessing["class_names"] == ["background", *CLASSES]
    network = dict(preprocessing["network_def"])
    assert network.pop("_target_") == "monai.networks.nets.UNet"
    weights = load(folder / "model.pt")
    assert all(type(value) is torch.Tensor for value in weights.values())
    UNet(**network).load_state_dict(weights)

    checkpoint = read_checkpoint(folder / "resume.pt")
    assert checkpoint["iteration"] == FAST["max_steps"]
    trained, last = checkpoint["objective"], list(weights)[-1]
    networks = [name.removesuffix(last) for name in trained if name.endswith(f".{last}")]
    assert any(all(same(value, trained[prefix + name]) for name, value in weights.items()) for prefix in networks)
    manifest = read_json(folder / "run_manifest.json")
    assert manifest["fingerprint"] == checkpoint["fingerprint"]
    assert manifest["settings"]["max_steps"] == FAST["max_steps"]
    assert set(manifest) == {"started", "versions", "python", "settings", "fingerprint"}

    rows = steps(folder)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert {name.removeprefix("weight_") for name in rows[0] if name.startswith("weight_")} == terms <= set(rows[0])
    assert [bool(row["validation_dice"]) for row in rows] == [False, False, validated, validated]
    for row in rows:
        total = sum(float(row[term]) * float(row[f"weight_{term}"]) for term in terms)
        assert float(row["loss"]) == pytest.approx(total, rel=1e-5)
    assert matplotlib.image.imread(folder / "progress.png").ndim == 3
    assert "model.pt" in (folder / "log.txt").read_text()
    assert any((folder / "tensorboard").iterdir())


def check_metrics(path, part, cases):
    text = Path(path).read_text()
    assert "NaN" not in text
    metrics = json.loads(text)
    assert set(metrics) == {"part", "weights", "list", "tolerance_mm", "mean", "counts", "classes", "cases"}
    assert (metrics["part"], metrics["weights"], metrics["list"]) == (part, "model.pt", "dataset.json")
    assert set(metrics["mean"]) == SCORES
    assert list(metrics["classes"]) == CLASSES
    assert [case["image"] for case in metrics["cases"]] == cases
    assert all(set(case) == {"image", "mean", "classes"} for case in metrics["cases"])
    return metrics


def check_prediction(output, image):
    prediction, original = nib.load(output), nib.load(image)
    assert prediction.shape == original.shape
    assert np.array_equal(prediction.affine, original.affine)
    assert prediction.get_data_dtype() == np.uint8
    assert set(np.unique(np.asanyarray(prediction.dataobj))) <= set(range(4))


@pytest.mark.parametrize(
    ("methods", "modality", "validation"),
    [*(((method,), "MRI", 1) for method in METHODS), ((), "CT", 0)],
    ids=[*METHODS, "default on CT without validation"],
)
def test_from_data_to_label_maps(methods, modality, validation, tmp_path):
    data = write_list(tmp_path / "data", modality, validation).parent
    run, common = tmp_path / "run", {"dataset_dir": str(data)}
    train(*methods, output_dir=str(run), modality=modality, tolerance_mm=2.0, **common)
    check_run(run, bool(validation), TERMS[methods[0] if methods else "entropy_minimisation"])

    weights = {"weights": str(run / "model.pt"), "device": "cpu"}
    folder = tmp_path / "test"
    run_bundle("evaluate.yaml", output_dir=str(folder), **weights, **common)
    check_metrics(folder / "metrics.json", "test", ["phantom_003.nii.gz", "phantom_004.nii.gz"])
    assert matplotlib.image.imread(folder / "overlay.png").ndim == 3
    if validation:
        # val_interval is 3 of 4 steps: what training says of model.pt must be of model.pt, not of step 3
        folder = tmp_path / "validation"
        run_bundle("evaluate.yaml", output_dir=str(folder), part="validation", tolerance_mm=2.0, **weights, **common)
        metrics = check_metrics(folder / "metrics.json", "validation", ["phantom_002.nii.gz"])
        assert metrics == read_json(run / "validation_metrics.json")

    images = sorted((data / "imagesUn").iterdir())
    run_bundle("inference.yaml", image=str(images[0]), output_dir=str(tmp_path / "one"), **weights)
    run_bundle("inference.yaml", image=str(data / "imagesUn"), output_dir=str(tmp_path / "all"), **weights)
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["phantom_005_seg.nii.gz"]
    for image in images:
        check_prediction(tmp_path / "all" / image.name.replace(".nii.gz", "_seg.nii.gz"), image)
    one, same_one = (tmp_path / name / "phantom_005_seg.nii.gz" for name in ("one", "all"))
    assert np.array_equal(nib.load(one).dataobj, nib.load(same_one).dataobj)


def test_a_run_is_the_same_cached_and_with_workers(trained, mri, tmp_path):
    """As the fixture's run, so that the cache and the workers are the only difference."""
    train("mean_teacher", dataset_dir=str(mri), output_dir=str(tmp_path), cache_rate=1.0, num_workers=2)
    assert same(load(tmp_path / "model.pt"), load(trained / "model.pt"))


def test_another_seed_is_another_run(trained, mri, tmp_path):
    train("mean_teacher", dataset_dir=str(mri), output_dir=str(tmp_path), seed=1)
    assert not same(load(tmp_path / "model.pt"), load(trained / "model.pt"))


def test_zero_unlabelled_cases_a_step_trains_the_mean_teacher_on_labels_alone(mri, tmp_path):
    train("mean_teacher", dataset_dir=str(mri), output_dir=str(tmp_path), unlabeled_batch_size=0)
    assert "consistency" not in steps(tmp_path)[0]
