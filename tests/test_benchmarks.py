from __future__ import annotations

import json
import runpy
import statistics
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]


def test_step_overhead_measures_both_loops(tmp_path: Path) -> None:
    output = tmp_path / "overhead.json"
    options = ["--steps", "1", "--rounds", "1", "--patch", "16", "--output", str(output)]
    command = [sys.executable, str(ROOT / "benchmarks" / "step_overhead.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["ratio"] > 0
    assert result["bare_seconds"] > 0
    assert "SSLTrainer" in done.stdout


def test_transforms_are_measured_beside_their_twins(tmp_path: Path) -> None:
    output = tmp_path / "transforms.json"
    options = ["--size", "48", "--rounds", "1", "--device", "cpu", "--output", str(output)]
    command = [sys.executable, str(ROOT / "benchmarks" / "transforms.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text())["rows"]
    assert {row["volumes"] for row in rows} == {1, 8}
    assert {"ours", "copy", "MONAI RandCoarseDropout", "MONAI RandRotate90"} <= {row["transform"] for row in rows}
    assert all(row["volumes_per_second"] > 0 for row in rows)
    assert all(row["bare_volumes_per_second"] > 0 for row in rows if row["transform"] != "copy")


def test_what_is_compared_has_the_same_result_and_share_of_changed_voxels() -> None:
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "transforms.py"))
    images = torch.randn(8, 1, 48, 48, 48, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    for task, transforms in benchmark["pairs"](48).items():
        shares = []
        for name, transform in transforms.items():
            if name.startswith("TorchIO"):
                continue
            transform.set_random_state(0)
            call, changed = benchmark["calls_of"](name, transform, 8)["full"], []
            for _ in range(4):
                out = call(images)
                assert torch.equal(images, before), name
                assert (out.shape, out.is_contiguous()) == (images.shape, True), name
                changed.append(float((out != images).float().mean()))
            shares.append(statistics.mean(changed))
        assert max(shares) < 1.4 * min(shares), task  # sizes are drawn, and blocks may overlap in one of the two
