from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_ssl.study.record import RunRecord, digest
from monai_ssl.utils.errors import UserError


def test_a_record_grows_with_its_processes(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "run", {"settings": "a"})
    assert record.seconds == {}
    record.begin()
    assert not record.trained
    record.end("validation", 2.04)
    assert not record.trained
    record.end("train", 60.0)
    record.begin()  # once more, as after a stop
    assert record.trained
    assert record.seconds == {"validation": 2.0, "train": 60.0}


def test_what_has_changed_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    RunRecord(tmp_path, {"settings": "a", "data list": "b"}).begin()
    before = (tmp_path / "run.json").read_bytes()
    now = RunRecord(tmp_path, {"settings": "a", "data list": "c", "new": "d"})
    for act in (now.begin, now.check):
        with pytest.raises(UserError, match=r"run\.json: this run was made with other data list, new\. Bring"):
            act()
    assert (tmp_path / "run.json").read_bytes() == before


def test_figures_without_a_record_are_not_trusted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="made with other settings"):
        RunRecord(tmp_path, {"settings": "a"}).check()


def test_a_digest_depends_on_values_and_not_on_their_order() -> None:
    first, second = {"a": 1, "b": [Path("x")]}, {"b": [Path("x")], "a": 1}
    assert digest(first) == digest(second) == digest(json.loads(json.dumps(first, default=str)))
    assert digest(first) != digest({"a": 1, "b": [Path("y")]})


def test_a_pretraining_ends_like_a_training(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "first", {"settings": "a"})
    assert not record.trained
    record.begin()
    record.end("pretrain", 3.0)
    assert record.trained
    assert record.seconds == {"pretrain": 3.0}
