from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from monai_ssl.metrics.case_influence import cpm_influences
from monai_ssl.report.page import LARGEST_PAGE, Written, write_report
from monai_ssl.report.predictions import PREDICTIONS
from monai_ssl.report.run_cases import scored_cases
from monai_ssl.report.run_sources import GivenData
from tests.report.pages import from_elsewhere, parse, write_detector


@pytest.fixture
def run(real_study: Path, real_page: Written, tmp_path: Path) -> Path:
    """A run out of a study, with its predictions: what is left of it stands alone."""
    return shutil.copytree(real_study / "runs/1/mean_teacher/seed0", tmp_path / "a/b/c/d/run")


def given(study: Path) -> GivenData:
    return GivenData(study / "splits/held_out.json", study.parent / "data")


def test_the_page_of_a_run_has_slices_and_a_viewer_and_is_one_small_file(run: Path, real_study: Path) -> None:
    written = write_report(run, given=given(real_study), device="cpu")
    assert written.notes == []
    assert written.path.stat().st_size < LARGEST_PAGE
    page = parse(written.path)
    assert [one for one in page.text("h3") if one in ("Worst", "Median", "Best")] == ["Worst", "Median", "Best"]
    assert page.all("canvas")
    captions = [float(one.split()[1]) for one in page.text("figcaption") if one.startswith("Dice")]
    np.testing.assert_allclose(captions, [0.55, 0.65, 0.85])
    assert from_elsewhere(page) == []
    assert str(real_study.parent) not in page.html


def test_without_the_scans_the_page_says_how_to_get_them(run: Path) -> None:
    written = write_report(run)
    (note,) = written.notes
    assert note.startswith("Slices and a viewer of single cases need the scans: name the list")
    assert parse(written.path).all("canvas") == []
    assert "Case by case" in parse(written.path).text("h2")


def test_scans_that_are_gone_are_told(run: Path, real_study: Path, tmp_path: Path) -> None:
    listed = real_study / "splits/held_out.json"
    gone = write_report(run, given=GivenData(listed, tmp_path / "gone"))
    assert "The data list or its folder is not there or cannot be read, so single cases are not shown." in gone.notes
    (tmp_path / "empty").mkdir()
    empty = write_report(run, given=GivenData(listed, tmp_path / "empty"), overwrite=True)
    assert any("Scans of single cases are not where they were" in note for note in empty.notes)
    assert parse(empty.path).all("canvas") == []
    (tmp_path / "half.json").write_text(listed.read_text()[:100])
    half = write_report(run, given=GivenData(tmp_path / "half.json"), overwrite=True)
    assert gone.notes == half.notes


def test_a_list_in_another_order_is_searched_by_name(run: Path, real_study: Path, tmp_path: Path) -> None:
    content = json.loads((real_study / "splits/held_out.json").read_text())
    content["test"].reverse()
    (tmp_path / "other.json").write_text(json.dumps(content))
    written = write_report(run, given=GivenData(tmp_path / "other.json", real_study.parent / "data"), device="cpu")
    assert written.notes == []


def test_a_detector_shows_its_boxes(tmp_path: Path) -> None:
    run, data = write_detector(tmp_path)
    written = write_report(run, given=data)
    assert written.notes == []
    assert written.path.stat().st_size < LARGEST_PAGE
    page = parse(written.path)
    assert page.all("canvas")
    assert from_elsewhere(page) == []
    captions = page.text("figcaption")
    assert any(one.endswith("found, 1 false alarm") and not one.startswith("0 of") for one in captions)
    assert "True boxes and predictions" in page.html
    assert {"true box", "prediction"} <= set(page.text("li"))


def test_a_broken_file_of_boxes_is_told(tmp_path: Path) -> None:
    run, data = write_detector(tmp_path)
    for path in (run / PREDICTIONS).iterdir():
        path.write_text(path.read_text()[:40])
        os.utime(path, (2e9, 2e9))
    written = write_report(run, given=data)
    assert len(written.notes) == 3
    assert all("cannot be shown, since its files cannot be read" in note for note in written.notes)


def test_cases_have_their_figure_or_what_they_add_to_it() -> None:
    records = [{"image": f"d/c{i}", "mean": {"dice": value}} for i, value in enumerate((0.5, None, 0.25))]
    assert [(one.number, one.name, one.method) for one in scored_cases(records, "dice")] == [
        *((0, "c0", 0.5), (2, "c2", 0.25))
    ]
    boxes = [
        {"image": f"c{i}", "boxes": 1, "classes": {"n": {"boxes": 1, "hit_scores": hits, "false_scores": [0.5]}}}
        for i, hits in enumerate(([0.9], [0.4], []))
    ]
    np.testing.assert_allclose([one.method for one in scored_cases(boxes, "cpm")], cpm_influences(boxes))
    alone = [boxes[0], {**boxes[2], "boxes": 0, "classes": {"n": {"boxes": 0, "hit_scores": [], "false_scores": []}}}]
    assert all(math.isnan(value) for value in cpm_influences(alone))
    assert scored_cases(alone, "cpm") == []
