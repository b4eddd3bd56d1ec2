"""A training process that is told to stop: a checkpoint, the line that goes on, and no trace in the end."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time

import nibabel as nib
import pytest

from monai_ssl.study.execute import bundle_command
from tests.bundles.helpers import BUNDLE, FAST, load, numbers, train
from tests.helpers import same

LONG = {**FAST, "max_steps": 60, "epoch_length": 10, "save_interval": 50, "val_interval": 30}


def start(configs, **settings):
    command = bundle_command(BUNDLE, configs, settings)
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=BUNDLE, start_new_session=True
    )


def wait_for_step(process, run, step):
    while process.poll() is None:
        table = run / "steps.csv"
        if table.exists() and table.read_text().count("\n") > step:
            return
        time.sleep(0.01)
    raise AssertionError(process.stdout.read())


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 2), (signal.SIGUSR1, 0)])
def test_a_signal_to_all_processes_of_a_job_leaves_no_trace(number, workers, mri, tmp_path):
    """As Slurm signals, the loader's workers too; then the printed command, run as it is."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    settings = {**LONG, "dataset_dir": str(mri), "num_workers": workers}
    process = start(["train.yaml", "methods/mean_teacher.yaml"], output_dir=str(run), **settings)
    wait_for_step(process, run, 12)
    asked = time.monotonic()
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - asked < 30
    assert process.returncode == 128 + number, output
    saved = load(run / "resume.pt")["iteration"]
    assert 12 <= saved < 60
    (line,) = [line for line in output.splitlines() if "stopped by" in line]
    name = signal.Signals(number).name
    assert f"stopped by {name} at step {saved} with a checkpoint of step {saved}; go on with: python -m monai" in line
    assert not (run / "model.pt").exists()
    assert "Traceback" not in output

    python, *words = shlex.split(line.split("go on with: ")[1])
    assert python == "python"
    subprocess.run([sys.executable, *words], cwd=BUNDLE, check=True, capture_output=True, timeout=120)
    train("mean_teacher", output_dir=str(whole), **{**settings, "num_workers": 0})
    assert numbers(run) == numbers(whole)
    assert same(load(run / "model.pt"), load(whole / "model.pt"))
    assert same(load(run / "resume.pt"), load(whole / "resume.pt"))


ON_A_SMALL_DISK = (
    'mount -t tmpfs -o size="$1" none "$2" && shift && disk="$1" && shift && { "$@"; cp -a "$disk" "$disk"-kept; }'
)


def run_on_a_small_disk(command, folder, size):
    """Its error line, with the folder on a file system of its own, in a name space of mounts of its own."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a small file system: unshare -rm is refused")
    shell = ["unshare", "-rm", "sh", "-c", ON_A_SMALL_DISK, "sh", str(int(size)), str(folder)]
    done = subprocess.run([*shell, *command], capture_output=True, text=True, timeout=120, check=False)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    return line


def test_a_full_disk_leaves_the_checkpoint_before_and_says_what_is_missing(mri, tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    run.mkdir()
    settings = {**FAST, "max_steps": 8, "dataset_dir": str(mri)}
    train("mean_teacher", output_dir=str(whole), **settings)
    size = 1.7 * (whole / "resume.pt").stat().st_size  # for one beside the one before it is too little
    command = bundle_command(BUNDLE, ["train.yaml", "methods/mean_teacher.yaml"], {**settings, "output_dir": str(run)})
    line = run_on_a_small_disk(command, run, size)
    found = re.search(
        r"no space left on the disk: ([\d,]+) bytes are .* and ([\d,]+) free, so ([\d,]+) are missing", line
    )
    assert found, line
    wanted, free, missing = (int(number.replace(",", "")) for number in found.groups())
    assert missing == wanted - free > 0

    kept = run.with_name("run-kept")
    assert load(kept / "resume.pt")["iteration"] < 8
    train("mean_teacher", output_dir=str(kept), resume="true", **settings)
    assert same(load(kept / "model.pt"), load(whole / "model.pt"))


def test_a_full_disk_ends_predictions_and_leaves_no_part_of_one(mri, trained, tmp_path):
    settings = {"image": str(mri / "imagesTr"), "weights": str(trained / "model.pt"), "device": "cpu"}
    folder, scans = tmp_path / "predictions", len(list((mri / "imagesTr").iterdir()))
    folder.mkdir()
    command = bundle_command(BUNDLE, ["inference.yaml"], {**settings, "output_dir": str(folder)})
    line = run_on_a_small_disk(command, folder, 4096)
    assert re.match(r"Error: \S+_seg\.nii\.gz: no space left on the disk", line), line
    kept = list(folder.with_name("predictions-kept").iterdir())
    assert len(kept) < scans
    for path in kept:
        assert nib.load(path).get_fdata().any()
