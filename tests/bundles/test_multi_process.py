"""Training by two processes on a CPU, through the command that the docs give."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

from monai_ssl.data.nodule_phantoms import write_nodule_phantoms
from monai_ssl.utils.keys import RunFiles
from tests.bundles.helpers import (
    DETECTION,
    FAST_DETECTION,
    FAST_PRETRAINING,
    FAST_SCORING,
    PRETRAINING,
    config_files,
    load,
    read_json,
    run_bundle,
    spoil,
    steps,
)
from tests.helpers import same


def launch(data, output, method, bundle=PRETRAINING, **settings):
    configs = config_files(["train.yaml", "multi_gpu_train.yaml", method], bundle)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "--config_file", str(configs)]
    fast = FAST_DETECTION if bundle == DETECTION else FAST_PRETRAINING
    settings = {**fast, "bundle_root": bundle, "dataset_dir": data, "output_dir": output, **settings}
    del settings["device"]
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


# an encoder alone, whose decoder has no gradient; and a queue that takes in the keys of both processes
@pytest.mark.parametrize("method", ["three_tasks", "momentum_contrast"])
def test_two_processes_train_and_one_writes(method, mri, tmp_path):
    run = tmp_path / "run"
    done = launch(mri, run, method)
    assert done.returncode == 0, done.stderr
    assert {"model.pt", "pretext.pt", "resume.pt", "steps.csv", "seen_scans.json"} <= {
        path.name for path in run.iterdir()
    }
    assert {path.name for path in run.iterdir()} <= set(RunFiles)
    rows = steps(run)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    assert len(list((run / "tensorboard").iterdir())) == 1
    queue = {name: value for name, value in load(run / "resume.pt")["objective"].items() if name.endswith("filled")}
    if queue:
        (filled,) = queue.values()
        assert int(filled.sum()) == 2 * 4 * 2 * 2  # processes, steps, scans of one, views


def test_a_finished_run_of_two_processes_is_left_as_it_is(mri, tmp_path):
    run = tmp_path / "run"
    assert launch(mri, run, "mae", max_steps=2).returncode == 0
    before = load(run / "model.pt")
    again = launch(mri, run, "mae", max_steps=2, resume="true")
    assert again.returncode == 0, again.stderr
    assert same(load(run / "model.pt"), before)
    refused = launch(mri, run, "mae", max_steps=2)
    assert refused.returncode != 0
    assert "holds a run already" in refused.stderr + refused.stdout


@pytest.fixture(scope="module")
def half_healthy(tmp_path_factory):
    """Two labelled scans, one of which is healthy: with one a step and process, one process of two has no box."""
    folder = tmp_path_factory.mktemp("half_healthy") / "data"
    listing = write_nodule_phantoms(folder, cases=5, unlabeled=2, size=(40, 40, 40))
    listing.rename(folder / "dataset.json")

    def change(content):
        cases = content["training"]
        assert [len(case["box"]) for case in cases] == [1, 3, 2, 0, 1]
        content |= {"training": [cases[0], cases[3]], "validation": [cases[1], cases[2], cases[4]], "test": []}

    spoil(folder, change)
    return folder


@pytest.mark.parametrize("method", ["focalmix", pytest.param("pseudo_label", marks=pytest.mark.slow)])
def test_two_processes_train_a_detector_one_of_them_with_healthy_scans_only(method, half_healthy, tmp_path):
    run = tmp_path / "run"
    settings = {"labeled_batch_size": 1, "unlabeled_batch_size": 1, "p_object": 1.0, "checkpoint": "chosen"}
    done = launch(half_healthy, run, method, DETECTION, **settings, val_interval=2)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in run.iterdir()} <= set(RunFiles)
    rows = steps(run)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    # the first process has the healthy scan at some steps and the other one at the others: here that of step 1
    positive = [float(row["positive"]) > 0 for row in rows]
    assert 0 < sum(positive) < 4
    assert [float(row["box"]) > 0 for row in rows] == positive
    assert all(value.isfinite().all() for value in load(run / "model.pt").values())
    assert len(list((run / "tensorboard").iterdir())) == 1
    best = load(run / "best.pt")
    assert same(load(run / "model.pt"), best["network"])
    assert best["score"] == max(float(row["validation_cpm"]) for row in rows if row["validation_cpm"])

    # the scores of the cases of both processes are those that one process finds for what was written
    settings = {"weights": str(run / "model.pt"), "dataset_dir": str(half_healthy), "part": "validation"}
    run_bundle("evaluate.yaml", bundle=DETECTION, output_dir=str(tmp_path / "scored"), **FAST_SCORING, **settings)
    wanted, got = read_json(tmp_path / "scored" / "metrics.json"), read_json(run / "validation_metrics.json")
    assert got["counts"] == wanted["counts"]
    assert got["counts"]["cases"] == 3
    assert got["mean"] == pytest.approx(wanted["mean"])
    for one, other in zip(
        *(sorted(each["cases"], key=lambda case: case["image"]) for each in (got, wanted)), strict=True
    ):
        assert one["image"] == other["image"]
        scores = [
            [*case["classes"]["nodule"]["hit_scores"], *case["classes"]["nodule"]["false_scores"]]
            for case in (one, other)
        ]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_fewer_validation_cases_than_processes_are_one_line_and_no_wait(chests, tmp_path):
    done = launch(chests, tmp_path / "run", "supervised", DETECTION)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert any("2 processes train together, and the list's `validation` has 1" in line for line in lines), done.stderr
    assert "monai/bundle" not in done.stderr  # no traceback but that of torchrun itself
    assert not (tmp_path / "run").exists()
