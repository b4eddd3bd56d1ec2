from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_ssl.report.page import write_report
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
    assert page.text("pre") == []
    assert "torch 2.10, Python 3.11" in page.text("dd")
    cells = page.text("td")
    assert cells[cells.index("weights") + 1] == "model.pt"
    assert "objective#network" not in cells
    assert {path.name for path in (tmp_path / "figures").glob("*.svg")} == {"training_progress.svg", "audit.svg"}


def test_an_evaluation_shows_its_cases(tmp_path: Path) -> None:
    page = page_of(tmp_path, metrics=scored(0.25, 0.75))
    (answer,) = [one for one in page.text("p") if one.startswith("Mean Dice 0.500")]
    assert answer.endswith("over 2 cases of the test part; look at c0.nii.gz first, the worst with 0.250.")
    assert "c1.nii.gz: 0.750" in page.text("title")
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
    (answer,) = [one for one in page.text("p") if one.startswith("CPM 0.500")]
    assert "over 1 case of the test part, 1 of 2 boxes found at one false positive a scan" in answer
    assert page.text("td") == ["c0.nii.gz", "2", "1", "1"]
    assert "sensitivity" in page.text("text")


def test_broken_files_leave_notes(tmp_path: Path) -> None:
    page = page_of(tmp_path, metrics="", run_manifest=[1], steps="nothing\n1\n")
    assert "Nothing was measured yet." in page.text("p")
    assert sum("cannot be read" in one for one in page.text("li")) >= 2


def test_an_unscored_training_says_how_to_score_it(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    page = page_of(tmp_path, steps="step,loss,seconds\n1,0.5,1\n", run_manifest=MANIFEST)
    assert any(one.endswith("Next: evaluate it, and write this page anew.") for one in page.text("p"))
    (command,) = [one for one in page.text("code") if "evaluate.yaml" in one]
    assert command.startswith("BUNDLE=$(monai-ssl path semi_segmentation)")
    assert "Single cases" not in page.text("h2")


def test_a_pretraining_shows_its_pictures_and_is_not_to_be_scored(tmp_path: Path) -> None:
    for name in ("model.pt", "seen_scans.json"):
        (tmp_path / name).touch()
    figure = Figure(figsize=(2, 1))
    FigureCanvasAgg(figure).print_png(tmp_path / "pretext.png")
    page = page_of(tmp_path, steps="step,loss,seconds\n1,0.5,1\n", run_manifest=MANIFEST)
    assert [image["alt"] for image in page.all("img")] == ["What this run was asked and answered"]
    assert not any("evaluate.yaml" in one for one in page.text("code"))
    assert any("Next: train from them and from scratch" in one for one in page.text("p"))


@pytest.mark.parametrize("mean", [{"dice": "0.5"}, {"dice": None}, 0.5, {}])
def test_figures_that_are_none_leave_the_rest(tmp_path: Path, mean: object) -> None:
    page = page_of(tmp_path, metrics={"part": "test", "mean": mean, "cases": scored(0.5)["cases"]})
    assert page.text("td") == ["c0.nii.gz", "0.5000"]
    assert "Nothing was measured yet." in page.text("p")
