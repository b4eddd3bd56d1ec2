"""Pretraining by two processes on a CPU, through the command that the docs give."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys

import pytest

from monai_ssl.utils.keys import RunFiles
from tests.bundles.helpers import FAST_PRETRAINING, PRETRAINING, load
from tests.helpers import same


def launch(data, output, method, **settings):
    configs = [PRETRAINING / "configs" / name for name in ("train.yaml", "multi_gpu_train.yaml")]
    configs.append(PRETRAINING / "configs" / "methods" / f"{method}.yaml")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "--config_file", str([str(path) for path in configs])]
    settings = {**FAST_PRETRAINING, "bundle_root": PRETRAINING, "dataset_dir": data, "output_dir": output, **settings}
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
    with open(run / "steps.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
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
