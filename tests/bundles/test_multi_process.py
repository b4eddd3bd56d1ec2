"""Training by two processes on a CPU, through the command that the docs give."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from monai_ssl.data.nodule_phantoms import write_nodule_phantoms
from monai_ssl.utils.keys import RunFiles
from tests.bundles.helpers import (
    BUNDLE,
    DETECTION,
    FAST,
    FAST_DETECTION,
    FAST_PRETRAINING,
    FAST_SCORING,
    PRETRAINING,
    config_files,
    load,
    numbers,
    read_json,
    run_bundle,
    spoil,
    steps,
)
from tests.helpers import same

ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
QUICK = {BUNDLE: FAST, PRETRAINING: FAST_PRETRAINING, DETECTION: FAST_DETECTION}


def torchrun(data, output, method, bundle, restarts=0, more_configs=(), **settings):
    configs = [*config_files(["train.yaml", "multi_gpu_train.yaml", method], bundle), *map(str, more_configs)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [f"--max-restarts={restarts}", "-m", "monai.bundle", "run", "--config_file", str(configs)]
    settings = {**QUICK[bundle], "bundle_root": bundle, "dataset_dir": data, "output_dir": output, **settings}
    del settings["device"]
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    return command


def launch(data, output, method, bundle=PRETRAINING, **settings):
    command = torchrun(data, output, method, bundle, **settings)
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False)


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


AT_THE_END = """
run:
  - "$@train#trainer.run()"
  - "$torch.save(@objective.state_dict(), @run_dir + '/rank' + str(@rank) + '.pt')"
"""


@pytest.fixture(scope="module")
def two_to_validate(mri, tmp_path_factory):
    folder = shutil.copytree(mri, tmp_path_factory.mktemp("two_to_validate") / "data")

    def change(content):
        content["validation"].append(content["test"].pop())

    spoil(folder, change)
    return folder


# a teacher with batch normalisation, whose statistics are those of one process; and two networks
@pytest.mark.parametrize(
    ("method", "settings"), [("mean_teacher", {"network_def#norm": "batch"}), ("cross_pseudo", {"val_interval": 4})]
)
def test_two_processes_segment_with_the_same_weights(method, settings, two_to_validate, tmp_path):
    run, mri = tmp_path / "run", two_to_validate
    (tmp_path / "end.yaml").write_text(AT_THE_END)
    settings = {"checkpoint": "chosen", **settings}
    done = launch(mri, run, method, BUNDLE, more_configs=[tmp_path / "end.yaml"], **settings)
    assert done.returncode == 0, done.stderr
    assert same(load(run / "rank0.pt"), load(run / "rank1.pt"))
    assert {path.name for path in run.iterdir()} <= {*RunFiles, "rank0.pt", "rank1.pt"}
    assert {"model.pt", "resume.pt", "steps.csv", "audit.csv"} <= {path.name for path in run.iterdir()}
    rows = steps(run)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    cases = read_json(run / "validation_metrics.json")["cases"]
    assert len({case["image"] for case in cases}) == len(cases) == len(read_json(mri / "dataset.json")["validation"])


def rank_one(process):
    """The process id of the second training process, once it is there."""
    while process.poll() is None:
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            with suppress(OSError):
                if "RANK=1" in Path(f"/proc/{pid}/environ").read_text().split("\0"):
                    return int(pid)
        time.sleep(0.05)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_killed_process_ends_all_by_name_or_the_run_goes_on_without_a_trace(restarts, two_to_validate, tmp_path):
    mri, run, whole = two_to_validate, tmp_path / "run", tmp_path / "whole"
    settings = {"max_steps": 40, "epoch_length": 10, "save_interval": 5, "val_interval": 50}
    command = torchrun(mri, run, "mean_teacher", BUNDLE, restarts=restarts, **settings)
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (run / "resume.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(rank_one(process), signal.SIGKILL)
    killed = time.monotonic()
    _, errors = process.communicate(timeout=200)
    reached = load(run / "resume.pt")["iteration"]
    if restarts:
        assert process.returncode == 0, errors
        assert launch(mri, whole, "mean_teacher", BUNDLE, **settings).returncode == 0
        assert numbers(run) == numbers(whole)
        assert same(load(run / "model.pt"), load(whole / "model.pt"))
        assert same(load(run / "resume.pt"), load(whole / "resume.pt"))
    else:
        assert process.returncode == 1
        assert time.monotonic() - killed < 60
        assert re.search(r"rank\s*: 1 \(local_rank: 1\)\s+exitcode\s*: -9", errors), errors
        assert 5 <= reached < 40
