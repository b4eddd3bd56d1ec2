"""Settings that a comparison needs: a chosen checkpoint, weak augmentation, flips at test time, averaged weights."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.transforms import RandCropByPosNegLabeld, RandSmoothDeformd

from monai_ssl.utils.errors import find_user_error
from tests.bundles.helpers import (
    FAST,
    as_own_process,
    config_files,
    load,
    read_json,
    run_bundle,
    train,
    write_list,
    write_nifti,
)
from tests.bundles.test_semi_segmentation import steps
from tests.helpers import same


def test_a_chosen_checkpoint_is_the_best_on_the_validation_cases_and_says_so(mri, tmp_path):
    run = tmp_path / "run"
    train("supervised", dataset_dir=str(mri), output_dir=str(run), checkpoint="chosen", val_interval=1)
    scores = [float(row["validation_dice"]) for row in steps(run)]
    best = load(run / "best.pt")
    assert best["step"] == 1 + scores.index(max(scores))
    assert same(load(run / "model.pt"), best["network"])
    run_bundle(
        "evaluate.yaml",
        weights=str(run / "model.pt"),
        dataset_dir=str(mri),
        part="validation",
        output_dir=str(tmp_path / "validation"),
        device="cpu",
    )
    assert read_json(tmp_path / "validation/metrics.json") == read_json(run / "validation_metrics.json")
    # a run that starts over forgets the choice of the one before
    train("supervised", dataset_dir=str(mri), output_dir=str(run), overwrite="true")
    assert not (run / "best.pt").exists()


def test_a_chosen_checkpoint_needs_validation_cases(tmp_path):
    data = write_list(tmp_path / "data", validation=0).parent
    with pytest.raises(RuntimeError) as error:
        train("supervised", dataset_dir=str(data), output_dir=str(tmp_path / "run"), checkpoint="chosen")
    assert "`checkpoint` chosen needs labelled validation cases" in str(find_user_error(error.value))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("augmentation", "heavy", "augmentation must be one of strong, weak, got 'heavy'"),
        ("checkpoint", "best", "checkpoint must be one of last, chosen, got 'best'"),
    ],
)
def test_words_that_are_no_choice(setting, value, message, mri, tmp_path):
    with pytest.raises(SystemExit, match=message):
        train("supervised", dataset_dir=str(mri), output_dir=str(tmp_path / "run"), **{setting: value})
    assert not (tmp_path / "run").exists()


def test_weak_augmentation_only_crops_and_flips(mri, tmp_path):
    """Every voxel of a weakly augmented patch is one of the prepared volume; strong ones interpolate and recolour."""
    train("supervised", dataset_dir=str(mri), output_dir=str(tmp_path / "strong"))
    train("supervised", dataset_dir=str(mri), output_dir=str(tmp_path / "weak"), augmentation="weak")
    assert not same(load(tmp_path / "weak/model.pt"), load(tmp_path / "strong/model.pt"))
    for strength, alike in (("weak", True), ("strong", False)):
        volumes, patches = [], []

        def look(workflow, volumes=volumes, patches=patches):
            dataset = workflow.parser.get_parsed_content("train::dataset")
            crop = next(i for i, t in enumerate(dataset.transform.transforms) if isinstance(t, RandCropByPosNegLabeld))
            for case in dataset.data:
                for transform in dataset.transform.transforms[:crop]:
                    case = transform(case)
                volumes.append(np.unique(np.asarray(case["image"])))
            patches.extend(np.asarray(dataset[index % 2][0]["image"]) for index in range(8))

        inspect(look, dataset_dir=str(mri), augmentation=strength)
        known = np.concatenate(volumes)
        assert all(np.isin(patch, known).all() for patch in patches) == alike


@pytest.mark.parametrize("settings", [{"elastic_prob": 0}, {"augmentation": "weak"}])
def test_a_labelled_patch_need_not_be_deformed(settings, mri):
    assert deformations(dataset_dir=str(mri), **settings) == []


def test_a_deformation_moves_image_and_label_alike(mri):
    (deform,) = deformations(dataset_dir=str(mri), patch_size=[24, 24, 24], elastic_prob=0.7)
    places = torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij"))
    ball = ((places - 11.5).norm(dim=0, keepdim=True) < 8).float()
    deform.set_random_state(0)
    moved = [deform({"image": 100 * ball, "label": ball}) for _ in range(40)]
    assert 5 <= sum(torch.equal(case["label"], ball) for case in moved) <= 20
    for case in moved:
        assert set(case["label"].unique().tolist()) == {0.0, 1.0}
        assert ((case["image"] > 50) == (case["label"] > 0.5)).float().mean() > 0.98
    ramps = [deform({"image": places, "label": ball})["image"] - places for _ in range(40)]
    largest = torch.stack(ramps).abs().amax((0, 2, 3, 4))
    assert (largest > 4).all()
    assert (largest <= 8).all()


def deformations(**settings):
    """The deformations among a labelled case's transforms."""
    found = []

    def look(workflow):
        transforms = workflow.parser.get_parsed_content("train::preprocessing").transforms
        found.extend(step for step in transforms if isinstance(step, RandSmoothDeformd))

    inspect(look, **settings)
    return found


def test_channels_last_changes_the_memory_and_not_the_method(mri, tmp_path):
    """The first step is the same to rounding."""
    for name in ("false", "true"):
        train("fixmatch", dataset_dir=str(mri), output_dir=str(tmp_path / name), channels_last=name)
    kernels = [value for value in load(tmp_path / "true/model.pt").values() if value.ndim == 5]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last_3d) for kernel in kernels)
    assert not all(kernel.is_contiguous() for kernel in kernels)
    first, other = (float(steps(tmp_path / name)[0]["loss"]) for name in ("false", "true"))
    assert first == pytest.approx(other, rel=1e-4)


def inspect(look, **settings):
    """Build a workflow without running it."""
    with as_own_process():
        workflow = ConfigWorkflow(
            config_file=config_files(["train.yaml", "supervised"]), initialize=[], **{**FAST, **settings}
        )
        workflow.initialize()
        look(workflow)


def test_flips_average_the_predictions_of_both_images(trained, tmp_path):
    """Along the first axis of `orientation`: what a flipped image gives is the flip of what the image gives."""
    weights = {"weights": str(trained / "model.pt"), "device": "cpu"}
    voxels = np.random.default_rng(0).random((24, 20, 24), dtype=np.float32)
    image = write_nifti(tmp_path / "scan.nii.gz", voxels)
    mirrored = write_nifti(tmp_path / "mirrored/scan.nii.gz", voxels[::-1])
    for name, path, axes in (("once", image, []), ("mean", image, [0]), ("mirrored", mirrored, [0])):
        run_bundle(
            "inference.yaml", image=str(path), output_dir=str(tmp_path / f"out_{name}"), flip_axes=axes, **weights
        )
    once, mean, back = (
        np.asarray(nib.load(tmp_path / f"out_{name}/scan_seg.nii.gz").dataobj) for name in ("once", "mean", "mirrored")
    )
    assert not np.array_equal(once, mean)
    assert (back[::-1] == mean).mean() > 0.999  # a tie may fall to either class


def test_an_average_of_weights_needs_no_unlabelled_case(mri, tmp_path):
    """The student is the supervised network bit for bit; what is deployed is its average."""
    for method in ("supervised", "supervised_average"):
        train(method, dataset_dir=str(mri), output_dir=str(tmp_path / method))
    student = {
        name.removeprefix("network."): value
        for name, value in load(tmp_path / "supervised_average/resume.pt")["objective"].items()
        if name.startswith("network.")
    }
    assert same(student, dict(load(tmp_path / "supervised/model.pt")))
    assert not same(load(tmp_path / "supervised_average/model.pt"), load(tmp_path / "supervised/model.pt"))
