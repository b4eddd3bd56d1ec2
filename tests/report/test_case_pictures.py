from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from monai_ssl.report.case_pictures import picture_cases
from monai_ssl.report.drawing import Drawings
from monai_ssl.report.page import Written, write_report
from monai_ssl.report.pairs import paired_cases
from monai_ssl.report.predictions import PREDICTIONS
from monai_ssl.report.study_files import open_study
from tests.report.pages import parse


@pytest.mark.usefixtures("real_page")
def test_the_shown_cases_are_the_extremes_with_the_predictions_of_both(real_study: Path, tmp_path: Path) -> None:
    study = open_study(real_study)
    pairs = paired_cases(study, [0])
    shown = picture_cases(study, pairs, 0, Drawings(tmp_path), "cpu")
    ranked = sorted(pairs, key=lambda pair: pair.method)
    assert [case.rank for case in shown.cases] == ["Worst", "Median", "Best"]
    assert [case.name for case in shown.cases] == [ranked[0].name, ranked[1].name, ranked[-1].name]
    assert [words for words, _ in shown.cases[0].pictures] == ["mean_teacher: Dice 0.550", "supervised: Dice 0.500"]
    layers = [layer["name"] for layer in shown.cases[0].volumes["layers"]]
    assert layers == ["Label", "Prediction of mean_teacher", "Prediction of supervised"]
    assert [name for name, _ in shown.classes] == ["lobe", "gland", "node"]
    assert len(list((real_study / "runs/1/mean_teacher/seed0" / PREDICTIONS).glob("*_seg.nii.gz"))) == 3


def test_without_one_models_weights_the_others_slices_are_shown(
    real_study: Path, real_page: Written, tmp_path: Path
) -> None:
    copy = shutil.copytree(real_study, tmp_path / "study")
    (copy / "runs/1/supervised/seed0/model.pt").unlink()
    written = write_report(copy, overwrite=True, device="cpu")
    assert written.notes == ["supervised could not predict the cases again, so its slices are left out."]
    page = parse(written.path)
    assert len(page.all("img")) == len(parse(real_page.path).all("img")) - 3
    assert page.all("canvas")


@pytest.mark.usefixtures("real_page")
def test_without_the_scans_the_rest_is_shown(real_study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(real_study, tmp_path / "study")
    held_out = copy / "splits/held_out.json"
    content = json.loads(held_out.read_text())
    for case in content["test"]:
        case["image"] = f"gone/{case['image']}"
    held_out.write_text(json.dumps(content))
    written = write_report(copy, overwrite=True, device="cpu")
    page = parse(written.path)
    assert any("are not where they were or cannot be read" in note for note in written.notes)
    assert page.all("canvas") == []
    assert page.all("img") == []
    assert "Case by case" in page.text("h2")
