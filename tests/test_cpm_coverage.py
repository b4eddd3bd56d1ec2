"""The simulation of benchmarks/cpm_coverage.py: small before every commit, whole among the slow tests."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_ssl.metrics.free_response import cpm_of

PATH = Path(__file__).parents[1] / "benchmarks" / "cpm_coverage.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("cpm_coverage", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def simulate(folder: Path, *options: str) -> dict[str, Any]:
    output = folder / "coverage.json"
    command = [sys.executable, str(PATH), "--output", str(output), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "intervals of a difference of CPM" in done.stdout
    return json.loads(output.read_text())


def test_the_true_cpm_is_that_of_many_simulated_scans(benchmark: Any) -> None:
    rng = np.random.default_rng(1)
    for setting in benchmark.SETTINGS.values():
        alike = type(setting)(**{**vars(setting), "seed": 0.0, "detector": 0.0})
        qualities = (benchmark.quality_for(0.5, alike), benchmark.quality_for(0.7, alike))
        found = benchmark.detectors(rng, 1500, qualities, alike)
        means = [np.mean([cpm_of(cases) for cases in one]) for one in found]
        assert means == pytest.approx([0.5, 0.7], abs=0.03)


def test_a_small_simulation_holds_roughly(tmp_path: Path) -> None:
    result = simulate(tmp_path, "--studies", "20", "--draws", "20", "--scans", "20")
    assert len(result["rows"]) == 8
    # 160 studies: a share of 95 % has a standard error of 1.7 %
    assert np.mean([rates["covered"] for rates in result["rows"].values()]) >= 0.88
    for row, rates in result["rows"].items():
        assert abs(rates["bias"]) <= 0.06, row
        if row.endswith("difference 0"):
            assert rates["found"] == pytest.approx(1 - rates["covered"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_simulation(tmp_path: Path) -> None:
    for row, rates in simulate(tmp_path, "--studies", "500")["rows"].items():
        # 93 to 97 % with two standard errors of 500 studies, but where hardly a box is missed
        least = 0.88 if row.startswith("nearly all found") else 0.93 - 0.02
        assert least <= rates["covered"] <= 0.97 + 0.015, row
        assert rates["standard error"] == pytest.approx(rates["true standard error"], rel=0.15), row
        if row.endswith("difference 0"):
            assert rates["found"] <= 0.05 + 0.03, row
