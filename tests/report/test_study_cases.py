from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from monai_ssl.report import study_cases as module
from monai_ssl.report.case_pictures import CasePictures, Model
from monai_ssl.report.drawing import Drawings
from monai_ssl.report.pairs import paired_cases
from monai_ssl.report.predictions import PREDICTIONS
from monai_ssl.report.study_cases import study_cases
from monai_ssl.report.study_files import StudyFiles, open_study
from tests.report.pages import study_content


@pytest.mark.usefixtures("real_page")
def test_the_shown_cases_are_the_extremes_with_the_predictions_of_both(real_study: Path, tmp_path: Path) -> None:
    study = open_study(real_study)
    pairs = paired_cases(study, [0])
    shown = study_cases(study, pairs, 0, Drawings(tmp_path), "cpu")
    ranked = sorted(pairs, key=lambda pair: pair.method)
    assert [case.rank for case in shown.cases] == ["Worst", "Median", "Best"]
    assert [case.name for case in shown.cases] == [ranked[0].name, ranked[1].name, ranked[-1].name]
    assert [words for words, _ in shown.cases[0].pictures] == ["mean_teacher: Dice 0.550", "supervised: Dice 0.500"]
    layers = [layer["name"] for layer in shown.cases[0].volumes["layers"]]
    assert layers == ["Label", "Prediction of mean_teacher", "Prediction of supervised"]
    assert [name for name, _ in shown.classes] == ["lobe", "gland", "node"]
    assert len(list((real_study / "runs/1/mean_teacher/seed0" / PREDICTIONS).glob("*_seg.nii.gz"))) == 3
    assert shown.words.startswith("Models of seed 0; the cases are chosen by the method's figure. ")


def test_models_predict_with_the_settings_of_the_evaluation(
    real_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(real_study)
    assert study.plan is not None
    settings = {"max_boxes": 4, "coordinates": "LPS"}
    study = replace(study, plan=replace(study.plan, settings=settings, evaluation={"overlap": 0.25}))
    models: list[Model] = []
    monkeypatch.setattr(module, "picture_cases", lambda cases, made, *_: models.extend(made) or CasePictures())
    study_cases(study, paired_cases(study, [0]), 0, Drawings(tmp_path), "cpu")
    assert [model.settings for model in models] == [{"coordinates": "LPS", "overlap": 0.25, "device": "cpu"}] * 2


def test_without_the_plan_or_cases_nothing_is_shown(real_study: Path, tmp_path: Path) -> None:
    study = StudyFiles(tmp_path, study_content(), None)
    assert study_cases(study, paired_cases(study, [0]), 0, Drawings(tmp_path), None).cases == []
    assert study_cases(open_study(real_study), [], 0, Drawings(tmp_path), None).cases == []
    assert list(tmp_path.iterdir()) == []
