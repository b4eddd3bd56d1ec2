from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from monai_ssl.report import run_sources
from monai_ssl.report.run_sources import GivenData, find_sources
from monai_ssl.study.splits import HELD_OUT


def test_a_run_of_a_study_takes_what_the_plan_says(real_study: Path) -> None:
    run = real_study / "runs/1/mean_teacher/seed0"
    scored = run / "test/metrics.json"
    for folder in (run, run / "test"):
        found = find_sources(folder, scored, {"weights": "model.pt"}, {}, "segmentation", GivenData())
        assert found is not None
        assert (found.weights, found.datalist) == (run / "model.pt", real_study / HELD_OUT)
        assert found.dataset_dir == real_study.parent / "data"
        assert found.bundle.name == "semi_segmentation"


def test_settings_of_the_training_are_not_those_of_the_evaluation(
    real_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = run_sources.read_plan(real_study / "plan.yaml")
    settings = {"max_boxes": 4, "score_threshold": 0.5, "device": "cpu", "coordinates": "LPS"}
    given = replace(plan, settings=settings, evaluation={"overlap": 0.25})
    monkeypatch.setattr(run_sources, "read_plan", lambda _: given)
    run = real_study / "runs/1/mean_teacher/seed0"
    found = find_sources(run, run / "test/metrics.json", {}, {}, "segmentation", GivenData())
    assert found is not None
    assert found.settings == {"device": "cpu", "coordinates": "LPS", "overlap": 0.25}


def test_coordinates_are_those_that_were_scored(real_study: Path, tmp_path: Path) -> None:
    run, given = real_study / "runs/1/mean_teacher/seed0", GivenData(tmp_path / "list.json")
    manifest = {"settings": {"coordinates": "RAS"}}
    for figures, coordinates in (({"coordinates": "LPS"}, "LPS"), ({}, "RAS")):
        found = find_sources(run, run / "test/metrics.json", figures, manifest, "detection", given)
        assert found is not None
        assert found.settings == {"coordinates": coordinates}


def test_what_the_user_says_goes_first(real_study: Path, tmp_path: Path) -> None:
    run = real_study / "runs/1/mean_teacher/seed0"
    given = GivenData(tmp_path / "list.json", tmp_path, tmp_path / "other.pt")
    manifest = {"settings": {"coordinates": "LPS", "max_steps": 5, "max_boxes": 4}}  # of a patch, not of a scan
    figures = {"iou_threshold": 0.2}
    found = find_sources(run, run / "test/metrics.json", figures, manifest, "detection", given)
    assert found is not None
    assert (found.datalist, found.dataset_dir, found.weights) == (tmp_path / "list.json", tmp_path, given.weights)
    assert found.bundle.name == "focalmix_detection"
    assert found.settings == {"coordinates": "LPS", "iou_threshold": 0.2}
    alone = find_sources(run, run / "m.json", {}, {}, "segmentation", GivenData(dataset_dir=tmp_path))
    assert alone is not None
    assert alone.datalist == tmp_path


def test_a_run_that_stands_alone_does_not_know_its_scans(real_study: Path, tmp_path: Path) -> None:
    run = shutil.copytree(real_study / "runs/1/mean_teacher/seed0", tmp_path / "a/b/c/d/e/f/run")
    assert find_sources(run, run / "test/metrics.json", {}, {}, "segmentation", GivenData()) is None
    (run / "plan.yaml").write_text("nothing: 1")
    assert find_sources(run, run / "test/metrics.json", {}, {}, "segmentation", GivenData()) is None
