from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.study import process
from monai_ssl.study.plan import runs
from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.pretraining import pretrain_spec
from monai_ssl.study.probe import probe_pretraining, probe_training
from monai_ssl.study.splits import draw_splits
from monai_ssl.study.state import Study
from monai_ssl.utils.errors import UserError
from tests.study.helpers import fake_command, open_study, write_plan, write_pretraining_plan


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


def test_a_pretraining_is_timed_and_a_training_starts_from_one_of_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def command(bundle: Path, configs: Any, settings: Any) -> list[str]:
        calls.append((bundle.name, settings["max_steps"], settings.get("pretrained")))
        assert not {"test", "validation"} & {part for part, cases in read_cases(settings).items() if cases}
        return fake_command(bundle, configs, settings)

    monkeypatch.setattr(process, "bundle_command", command)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    path = write_pretraining_plan(tmp_path, pretraining={"steps": 3000}, steps=1000)
    study = Study(read_plan(path), tmp_path / "out", draw_splits(read_plan(path)))
    spec = runs(study.plan)[1]
    pretraining = pretrain_spec(spec)
    assert pretraining is not None
    start = time.monotonic()
    assert 60.0 <= probe_pretraining(study, pretraining, threads=1) <= 60.0 + time.monotonic() - start
    start = time.monotonic()
    assert 20.0 <= probe_training(study, spec, threads=1) <= 20.0 + time.monotonic() - start
    assert [call[:2] for call in calls] == [("first", 10), ("first", 1), ("mine", 10)]
    assert Path(calls[2][2]).is_relative_to(tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "out").exists()


def read_cases(settings: Any) -> dict[str, Any]:
    return json.loads(Path(settings["datalist"]).read_text())
