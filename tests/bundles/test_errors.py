"""A user's mistake is one line that names the file or the setting and the remedy; nothing that was there is harmed."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.study.execute import bundle_command
from tests.bundles.helpers import BUNDLE, FAST, load, run_bundle, spoil, train
from tests.helpers import same
from tests.payloads import HOSTILE


@pytest.fixture
def data(mri, tmp_path):
    """A copy of the list's folder to spoil."""
    return shutil.copytree(mri, tmp_path / "data")


def test_an_unknown_setting_names_the_nearest(mistake):
    assert mistake("train.yaml", max_step=4) == "Error: unknown setting 'max_step'; did you mean 'max_steps'?"


def test_steps_that_are_no_whole_epochs_name_both_neighbours(mistake):
    assert re.search("max_steps .* multiple of epoch_length 2, got 5: use 4 or 6", mistake("train.yaml", max_steps=5))


def test_a_switch_that_is_none(mistake):
    assert "'maybe'" in mistake("train.yaml", resume="maybe")


def test_resume_and_overwrite_exclude_each_other(mistake):
    assert "exclude each other" in mistake("train.yaml", resume="true", overwrite="true")


def test_nothing_to_resume(mistake, tmp_path):
    assert re.search("run: there is no resume.pt to resume", mistake("train.yaml", resume="true"))
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_left_alone_until_told(mistake, trained, mri, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert re.search("run: holds a run already.*--resume true.*--overwrite true", mistake("train.yaml"))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    # as from the command line: the word false is not true
    assert "holds a run already" in mistake("train.yaml", overwrite="false")
    train("supervised", dataset_dir=str(mri), output_dir=str(run), overwrite="true")
    assert not same(dict(load(run / "model.pt")), dict(load(trained / "model.pt")))
    assert not (run / "steps.csv").read_text().count("consistency")


def test_a_list_that_is_not_there(mistake, tmp_path):
    line = mistake("train.yaml", dataset_dir=str(tmp_path))
    assert line.startswith(f"Error: {tmp_path}: `dataset_dir` is a folder without dataset.json")
    assert "must be given" in mistake("train.yaml", dataset_dir=None)


def test_a_method_without_its_unlabelled_cases(mistake, data):
    spoil(data, lambda content: content.pop("unlabeled"))
    assert "there is no unlabeled case" in mistake("train.yaml", "mean_teacher", dataset_dir=str(data))


def test_an_unlabelled_case_that_is_also_in_the_test(mistake, data, tmp_path):
    spoil(data, lambda content: content["unlabeled"].append({"image": content["test"][0]["image"]}))
    line = mistake("train.yaml", dataset_dir=str(data))
    assert re.search(r"phantom_003.nii.gz is in `unlabeled` and in `test`", line)
    assert not (tmp_path / "run").exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize("settings", [{"num_workers": 0}, {"num_workers": 1}, {"cache_rate": 1.0}], ids=str)
def test_a_truncated_scan_is_named(mistake, data, settings):
    truncate(data / "imagesUn" / "phantom_006.nii.gz")
    line = mistake("train.yaml", dataset_dir=str(data), check="false", **settings)
    assert re.match(r"Error: \S+/imagesUn/phantom_006.nii.gz: cannot be read", line)
    assert "Traceback" not in line


def test_a_truncated_scan_is_named_by_evaluation_and_inference(mistake, data, trained):
    truncate(data / "imagesTr" / "phantom_004.nii.gz")
    weights = str(trained / "model.pt")
    for config, settings in (
        ("evaluate.yaml", {"dataset_dir": str(data)}),
        ("inference.yaml", {"dataset_dir": None, "image": str(data / "imagesTr")}),
    ):
        line = mistake(config, weights=weights, device="cpu", **settings)
        assert re.match(r"Error: \S+/imagesTr/phantom_004.nii.gz\b.* cannot be read", line)


def test_a_nan_in_a_scan_stops_the_run_and_harms_no_checkpoint(mistake, data, tmp_path):
    path = data / "imagesTr" / "phantom_001.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(image.shape, np.nan, np.float32), image.affine), path)
    settings = {"dataset_dir": str(data), "save_interval": 1, "labeled_batch_size": 1, "check": "false"}
    # one case a step and two cases: the other one comes first under one of these seeds
    for seed in range(5):
        line = mistake("train.yaml", seed=seed, overwrite="true", **settings)
        assert re.search(r"not finite at step [12] .*phantom_001.nii.gz", line)
        if "step 2" in line:
            break
    checkpoint = load(tmp_path / "run" / "resume.pt")
    assert checkpoint["iteration"] == 1
    assert all(tensor.isfinite().all() for tensor in checkpoint["objective"].values())
    assert not (tmp_path / "run" / "model.pt").exists()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"modality": "CT"}, "modality"),
        ({"spacing": [2, 2, 2]}, "spacing"),
        ({"network_def#dropout": 0.3}, "network_def"),
    ],
    ids=str,
)
@pytest.mark.parametrize("config", ["evaluate.yaml", "inference.yaml"])
def test_a_setting_that_contradicts_the_weights(mistake, trained, mri, config, settings, name):
    settings = {**settings, "weights": str(trained / "model.pt")}
    if config == "inference.yaml":
        settings |= {"dataset_dir": None, "image": str(mri / "imagesUn")}
    assert re.search(rf"{name}.* contradicts .*preprocessing.json", mistake(config, **settings))


def test_a_setting_that_agrees_with_the_weights_is_fine(trained, mri, tmp_path):
    run_bundle(
        "inference.yaml",
        weights=str(trained / "model.pt"),
        image=str(mri / "imagesUn" / "phantom_005.nii.gz"),
        output_dir=str(tmp_path),
        patch_size=[16, 16, 16],
    )
    assert (tmp_path / "phantom_005_seg.nii.gz").is_file()


def test_results_are_not_overwritten_unasked(mistake, trained, mri, tmp_path):
    weights = {"weights": str(trained / "model.pt"), "device": "cpu"}
    run_bundle("evaluate.yaml", dataset_dir=str(mri), output_dir=str(tmp_path / "run"), **weights)
    assert "holds metrics.json already" in mistake("evaluate.yaml", **weights)
    image = {"dataset_dir": None, "image": str(mri / "imagesUn" / "phantom_005.nii.gz")}
    run_bundle("inference.yaml", output_dir=str(tmp_path / "run"), **weights, **image)
    assert "phantom_005_seg.nii.gz: is there already" in mistake("inference.yaml", **weights, **image)
    assert "there are no weights here" in mistake("evaluate.yaml", weights=str(tmp_path / "none.pt"))


def process(configs, data, output, **settings):
    settings = {**FAST, "dataset_dir": data, "output_dir": output, **settings}
    command = bundle_command(BUNDLE, configs, settings)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, [line for line in done.stderr.splitlines() if line.strip()]


def test_as_a_process_a_broken_scan_in_a_worker_is_one_line(data, tmp_path):
    truncate(data / "imagesUn" / "phantom_006.nii.gz")
    status, lines = process(
        ["train.yaml", "methods/mean_teacher.yaml"], data, tmp_path / "run", num_workers=1, check=False
    )
    assert status == 1
    assert len(lines) == 1
    assert re.match(r"Error: \S+/imagesUn/phantom_006.nii.gz: cannot be read", lines[0])


def test_as_a_process_debug_shows_the_traceback(data, tmp_path):
    truncate(data / "imagesUn" / "phantom_006.nii.gz")
    status, lines = process(["train.yaml"], data, tmp_path / "run", debug="true", check=False)
    assert status == 1
    assert any(line.startswith("Traceback (most recent call last)") for line in lines)
    assert any("phantom_006.nii.gz: cannot be read" in line for line in lines)
    assert gzip.BadGzipFile.__name__ in "".join(lines) or EOFError.__name__ in "".join(lines)


@pytest.mark.timeout(60)
def test_no_label_of_an_unlabelled_case_and_no_test_case_is_ever_opened(data, tmp_path):
    """Whoever opened one of these pipes would wait for ever."""
    for index in (5, 6, 7):
        os.mkfifo(data / "labelsTr" / f"phantom_{index:03d}.nii.gz")

    def list_labels(content):
        for entry in content["unlabeled"]:
            entry["label"] = entry["image"].replace("imagesUn", "labelsTr")
        for entry in content["test"]:
            for file in entry.values():
                (data / file).unlink()
                os.mkfifo(data / file)

    spoil(data, list_labels)
    run = tmp_path / "run"
    train("mean_teacher", dataset_dir=str(data), output_dir=str(run), cache_rate=1.0, num_workers=1)
    assert (run / "model.pt").is_file()
    assert "consistency" in (run / "steps.csv").read_text()


@pytest.mark.parametrize("form", ["pickle protocol 4", "nested in a checkpoint", "safetensors that overlap"])
@pytest.mark.parametrize(
    ("config", "setting"),
    [
        ("evaluate.yaml", "weights"),
        ("inference.yaml", "weights"),
        ("suggest.yaml", "weights"),
        ("suggest.yaml", "student"),
        ("train.yaml", "pretrained"),
        ("train.yaml", "resume"),
    ],
)
def test_hostile_weights_run_nothing_and_are_named(mistake, trained, mri, tmp_path, config, setting, form):
    run = shutil.copytree(trained, tmp_path / "run")
    name = "resume.pt" if setting == "resume" else f"evil{'.safetensors' if form.startswith('safetensors') else '.pt'}"
    HOSTILE[form](run / name, tmp_path / "victim")
    settings = {"weights": str(run / "model.pt")} if config != "train.yaml" else {}
    settings[setting] = "true" if setting == "resume" else str(run / name)
    if config == "inference.yaml":
        settings |= {"image": str(next(mri.rglob("*.nii.gz")).parent), "dataset_dir": None}
    output = run if setting == "resume" else tmp_path / "output"
    line = mistake(config, **{"output_dir": str(output), "device": "cpu", **settings})
    assert str(run / name) in line
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("config", ["evaluate.yaml", "inference.yaml", "suggest.yaml"])
@pytest.mark.parametrize(
    "values",
    [
        {"spacing": "$open('VICTIM', 'w')"},
        {"initialize": ["$open('VICTIM', 'w')"]},
        {"network_def": {"_target_": "pathlib.Path.touch", "self": "VICTIM"}},
    ],
)
def test_values_beside_weights_run_nothing(mistake, trained, mri, tmp_path, config, values):
    run = shutil.copytree(trained, tmp_path / "run")
    victim = tmp_path / "victim"
    (run / "preprocessing.json").write_text(json.dumps(values).replace("VICTIM", str(victim)))
    settings = {"weights": str(run / "model.safetensors"), "device": "cpu", "output_dir": str(tmp_path / "output")}
    assert "preprocessing.json" in mistake(config, **settings)
    assert not victim.exists()


def test_safetensors_say_the_same_as_the_other_file(trained, mri, tmp_path):
    figures = []
    for name in ("model.pt", "model.safetensors"):
        folder = tmp_path / name
        run_bundle(
            "evaluate.yaml",
            weights=str(trained / name),
            dataset_dir=str(mri),
            output_dir=str(folder),
            device="cpu",
        )
        figures.append({**json.loads((folder / "metrics.json").read_text()), "weights": ""})
    assert figures[0] == figures[1]
    train("supervised", dataset_dir=str(mri), output_dir=str(tmp_path / "a"), pretrained=str(trained / "model.pt"))
    safe = str(trained / "model.safetensors")
    train("supervised", dataset_dir=str(mri), output_dir=str(tmp_path / "b"), pretrained=safe)
    assert same(dict(load(tmp_path / "a" / "model.pt")), dict(load(tmp_path / "b" / "model.pt")))
