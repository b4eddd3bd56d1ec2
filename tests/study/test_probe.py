from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.study import process
from monai_ssl.study.probe import probe_training
from monai_ssl.utils.errors import UserError
from tests.study.helpers import fake_command, open_study, write_plan


def test_a_training_takes_its_start_and_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fakes' steps are noted as 0.02 s each."""
    calls: list[tuple[Any, Any]] = []

    def command(bundle: Any, configs: Any, settings: Any) -> list[str]:
        calls.append((configs, settings))
        data = json.loads(Path(settings["datalist"]).read_text())
        assert (data["validation"], data["test"]) == ([], [])
        assert len(data["training"]) == 2 - len(calls[1:])
        return fake_command(bundle, configs, settings)

    monkeypatch.setattr(process, "bundle_command", command)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    chosen = {"label": "chosen", "method": "supervised", "checkpoint": "chosen"}
    methods = ["supervised", "mean_teacher", chosen]
    study, specs = open_study(write_plan(tmp_path, methods=methods, steps=1000), tmp_path / "out")
    start = time.monotonic()
    seconds = probe_training(study, specs[1], threads=1)
    assert 20.0 <= seconds <= 20.0 + time.monotonic() - start
    probe_training(study, specs[2], threads=1)
    assert [settings["max_steps"] for _, settings in calls] == [10, 10]
    assert [settings.get("checkpoint") for _, settings in calls] == [None, "last"]
    assert calls[0][0] == ("train.yaml", "methods/mean_teacher.yaml")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "out/runs").exists()


def test_a_training_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "bundle_command", fake_command)
    broken = {"label": "broken", "method": "mean_teacher", "settings": {"objective#noise": "broken"}}
    study, specs = open_study(write_plan(tmp_path, methods=["supervised", "mean_teacher", broken]), tmp_path / "out")
    with pytest.raises(UserError, match=r"^broken: Error: broken on purpose$"):
        probe_training(study, specs[2], threads=1)
