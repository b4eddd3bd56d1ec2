from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from tests.utils.small_config import CONFIG


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    return path
