from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
    assert {"ours", "MONAI RandCoarseDropout", "MONAI RandRotate90"} <= {row["transform"] for row in rows}
    assert all(row["volumes_per_second"] > 0 for row in rows)
