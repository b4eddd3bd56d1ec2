from __future__ import annotations

import json
from pathlib import Path

from monai_ssl.report.page import write_report
from monai_ssl.report.run_page import is_run
from tests.report.pages import Page, parse

MANIFEST = {
    "started": "2026-01-02T03:04:05+0000",
    "versions": {"torch": "2.10"},
    "python": "3.11",
    "settings": {"bundle_root": "semi_segmentation"},
    "fingerprint": {
        "seed": "0",
        "objective::_target_": "monai_ssl.objectives.MeanTeacher",
        "objective::network": "@network",
        "weights": "/data/John Doe/model.pt",
    },
}


def page_of(folder: Path, **files: object) -> Page:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}{'.csv' if isinstance(content, str) else '.json'}").write_text(text)
    return parse(write_report(folder, overwrite=True).path)


def scored(*values: float) -> dict:
    cases = [{"image": f"c{i}.nii.gz", "mean": {"dice": value}} for i, value in enumerate(values)]
    return {"part": "test", "list": "held_out.json", "weights": "model.pt", "mean": {"dice": 0.5}, "cases": cases}


def test_a_training_shows_its_curves_settings_and_versions(tmp_path: Path) -> None:
    steps = "step,loss,seconds\n" + "".join(f"{i},{1 / i},1\n" for i in range(1, 41))
    page = page_of(tmp_path, steps=steps, run_manifest=MANIFEST, audit="step,kept\n1,0.5\n")
    assert page.text("h1") == [f"MeanTeacher, {tmp_path.name}"]
    assert "Training run · semi_segmentation" in page.text("p")
    assert "After 40 steps the training loss is 0.025; over its first steps it was 0.750." in page.text("p")
    assert any(one.startswith("Unfinished: there is no model yet") for one in page.text("p"))
    assert "torch 2.10, Python 3.11" in page.text("dd")
    cells = page.text("td")
    assert cells[cells.index("weights") + 1] == "model.pt"
    assert "objective#network" not in cells
    assert {path.name for path in (tmp_path / "figures").glob("*.svg")} == {"training_progress.svg", "audit.svg"}


def test_an_evaluation_shows_its_cases(tmp_path: Path) -> None:
    page = page_of(tmp_path, metrics=scored(0.25, 0.75))
    assert "Mean Dice 0.500 over 2 cases of the test part, single cases from 0.250 to 0.750." in page.text("p")
    assert page.text("td") == ["c0.nii.gz", "0.2500", "c1.nii.gz", "0.7500"]
    assert not any(one.startswith("Unfinished") for one in page.text("p"))


def test_validation_stands_in_for_a_test_and_is_called_so(tmp_path: Path) -> None:
    page = page_of(tmp_path, run_manifest=MANIFEST, validation_metrics={**scored(0.5), "part": "validation"})
    assert any("1 case of the validation part" in one for one in page.text("p"))
    assert "The run was not scored on test cases; its figures are of validation cases." in page.text("li")
    (tmp_path / "test").mkdir()
    (tmp_path / "test/metrics.json").write_text(json.dumps(scored(0.5)))
    assert any("1 case of the test part" in one for one in page_of(tmp_path).text("p"))


def test_a_detector_shows_its_curve_and_what_it_found(tmp_path: Path) -> None:
    found = {"n": {"boxes": 2, "hit_scores": [0.9], "false_scores": [0.8, 0.1, 0.05]}}
    cases = [{"image": "c0.nii.gz", "boxes": 2, "classes": found}]
    page = page_of(tmp_path, metrics={"part": "test", "mean": {"cpm": 0.5, "sensitivity_1": 0.5}, "cases": cases})
    assert "CPM 0.500 over 1 case of the test part together." in page.text("p")
    assert page.text("td") == ["c0.nii.gz", "2", "1", "3"]
    assert "sensitivity" in page.text("text")


def test_broken_files_leave_notes(tmp_path: Path) -> None:
    page = page_of(tmp_path, metrics="", run_manifest=[1], steps="nothing\n1\n")
    assert "Nothing was measured yet." in page.text("p")
    assert sum("cannot be read" in one for one in page.text("li")) >= 2


def test_what_is_no_run_is_none(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    (tmp_path / "steps.csv").touch()
    assert is_run(tmp_path)
