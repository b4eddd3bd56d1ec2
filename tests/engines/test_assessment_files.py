from __future__ import annotations

import json
import logging

import pytest

from monai_ssl.engines.assessment_files import assessment_table, open_assessment, write_assessment
from monai_ssl.utils import runs
from monai_ssl.utils.errors import UserError


@pytest.fixture(autouse=True)
def released():
    yield
    while runs._locks:
        runs._locks.popitem()[1].release()


def interval(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def figures(labels="mask"):
    score = "dice" if labels == "mask" else "linear: roc_auc"
    counts = {"training_cases": 4, "cases": 7}
    if labels == "class":
        counts = {"cases": 7, "patients": 6, "classes": {"0": 3, "1": 4}, "folds": 3, "repeats": 2}
        counts["chance"] = {"balanced_accuracy": 0.5, "roc_auc": 0.5}
    return {
        "labels": labels,
        **counts,
        "lengths": {"pretrained": 128, "random": 128, "intensity": 13},
        "features": {
            "pretrained": {score: interval(0.75)},
            "random": {score: {**interval(0.5), "per_seed": [0.4, 0.6]}},
            "intensity": {score: interval(0.25)},
        },
        "differences": {
            "pretrained - random": {score: interval(0.25)},
            "pretrained - intensity": {score: interval(0.5)},
        },
    }


def test_figures_are_written_and_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_assessment(tmp_path, figures(), "/somewhere/model.pt", "/else/list.json", part="test", seed=3)
    content = json.loads((tmp_path / "assessment.json").read_text())
    assert content == {"weights": "model.pt", "list": "list.json", "part": "test", "seed": 3, **figures()}
    table = (tmp_path / "assessment.md").read_text()
    assert table == assessment_table(content)
    assert table in caplog.text


def test_the_table_says_what_was_compared():
    names = {"weights": "model.pt", "list": "list.json"}
    table = assessment_table({**names, **figures()})
    assert "# Features of model.pt as they are, on list.json" in table
    assert "fitted to 4 cases, on 7 others. Random weights: the mean of 2 seeds." in table
    assert "| pretrained | 128 | 0.750 (0.650 to 0.850) |" in table
    assert "| random weights | 128 | 0.500 (0.400 to 0.600) |" in table
    assert "| pretrained minus intensities alone | | +0.500 (0.400 to 0.600) |" in table
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    table = assessment_table({**names, **figures("class")})
    assert (
        "7 cases of 6 patients (3 of class 0, 4 of class 1), 3-fold cross-validation by patients, dealt 2 times"
        in table
    )
    assert "Chance is balanced accuracy 0.500" in table
    assert "linear, ROC AUC" in table


def test_figures_are_not_overwritten(tmp_path):
    open_assessment(tmp_path / "new", "false")
    write_assessment(tmp_path / "new", figures(), "a", "b")
    with pytest.raises(UserError, match=r"new: holds assessment\.json already. Replace it with --overwrite true"):
        open_assessment(tmp_path / "new", "false")
    open_assessment(tmp_path / "new", "true")
