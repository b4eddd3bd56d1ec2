from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.data import check_processes
from monai_ssl.data.check_facts import ScanFacts
from monai_ssl.data.check_processes import read_all
from monai_ssl.data.check_scan import read_facts
from tests.data.check_files import make_data

LIMIT = 10**9


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, bool]:
    make_data(tmp_path)
    return {str(path): path.parent.name == "labels" for path in tmp_path.glob("*/t*.gz")}


def test_processes_read_what_one_reads(wanted: dict[str, bool]) -> None:
    alone = {facts.path: facts for facts in read_all(wanted, LIMIT, 1)}
    assert alone.keys() == wanted.keys()
    assert {facts.path: facts for facts in read_all(wanted, LIMIT, 2)} == alone
    assert not list(read_all({}, LIMIT, 2))


@pytest.mark.parametrize(("jobs", "threads"), [(1, False), (2, True), (2, False)])
def test_voxels_are_kept_of_what_is_asked_for_alone(wanted: dict[str, bool], jobs: int, threads: bool) -> None:
    some = {path for path in wanted if "training2" in path}
    assert len(some) == 2
    found = list(read_all(wanted, LIMIT, jobs, threads=threads, sampled=some))
    assert {facts.path for facts in found if facts.volume is not None and facts.volume.voxels is not None} == some


def test_a_process_that_dies_is_a_fault_of_its_file(wanted: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_processes, "read_facts", die_at_one)
    found = {facts.path: facts.problem for facts in read_all(wanted, LIMIT, 2)}
    assert found.keys() == wanted.keys()
    ((path, problem),) = [(path, problem) for path, problem in found.items() if problem is not None]
    assert path.endswith("images/training3.nii.gz")
    assert problem.kind == "unreadable"
    assert "process that read it was ended" in problem.text


def die_at_one(path: str, *more: Any) -> ScanFacts:
    if path.endswith("images/training3.nii.gz"):
        os._exit(9)
    return read_facts(path, *more)


def test_small_data_is_read_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_data(tmp_path)
    paths = [str(path) for path in tmp_path.glob("*/*.gz")] + ["missing", "a\0b"]
    assert check_processes._usual_jobs(paths) == 1
    monkeypatch.setattr(check_processes, "_WORTH", 1000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    assert check_processes._usual_jobs(paths) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2))
    assert check_processes._usual_jobs(paths) == 2
