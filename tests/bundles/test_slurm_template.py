"""docs/slurm_train.sh with a cluster of two small scripts: one that starts, one that notes what is queued again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.bundles.helpers import FAST, load, numbers, train
from tests.helpers import same

TEMPLATE = Path(__file__).parents[2] / "docs" / "slurm_train.sh"
STUBS = {
    "srun": 'exec "$@"',
    "scontrol": 'echo "$@" >> "$NOTES"',
    "python": f'exec "{sys.executable}" "$@"',
    "monai-ssl": f'exec "{sys.executable}" -m monai_ssl.cli "$@"',
}


def test_a_job_that_is_signalled_is_queued_again_and_goes_on(mri, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, line in STUBS.items():
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    run, whole, notes = tmp_path / "run", tmp_path / "whole", tmp_path / "notes"
    long = {**FAST, "max_steps": 60, "epoch_length": 10, "save_interval": 50, "val_interval": 30}
    settings = [word for name, value in long.items() for word in (f"--{name}", str(value))]
    environment = {
        **os.environ,
        **{"PATH": f"{tools}:{os.environ['PATH']}", "DATA": str(mri), "RUN": str(run), "NOTES": str(notes)},
        **{"SLURM_JOB_ID": "7", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(Path(__file__).parents[2])},
    }
    job = subprocess.Popen([TEMPLATE, *settings], env=environment, stderr=subprocess.PIPE, text=True)
    while not (run / "steps.csv").exists() and job.poll() is None:
        time.sleep(0.01)
    (step,) = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(step), signal.SIGUSR1)  # Slurm signals the steps of a job, and not its script
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 138, errors
    assert notes.read_text() == "requeue 7\n"
    assert 0 < load(run / "resume.pt")["iteration"] < 60

    again = subprocess.run([TEMPLATE, *settings], env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert notes.read_text() == "requeue 7\n"
    train("mean_teacher", dataset_dir=str(mri), output_dir=str(whole), **long)
    assert numbers(run) == numbers(whole)
    assert same(load(run / "model.pt"), load(whole / "model.pt"))
