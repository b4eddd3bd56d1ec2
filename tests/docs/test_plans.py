"""The plans behind docs/results.md can still be run: methods, settings and measures that they name exist."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from monai_ssl.study.plan_file import read_plan

PLANS = Path(__file__).parents[2] / "docs" / "plans"


@pytest.mark.parametrize("name", sorted(path.name for path in PLANS.glob("*.yaml")))
def test_a_published_plan_is_one(name: str, tmp_path: Path) -> None:
    shutil.copy(PLANS / name, tmp_path)
    data = tmp_path / yaml.safe_load((PLANS / name).read_text())["data"]
    listed = data if data.suffix == ".json" else data / "dataset.json"
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("{}")
    assert read_plan(tmp_path / name).seeds
    assert f"plans/{name}" in (PLANS.parent / "results.md").read_text()
