from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest

from monai_ssl.study.plan import runs
from monai_ssl.study.screen import choose
from monai_ssl.study.table import collect, write_tables
from monai_ssl.utils.errors import UserError
from tests.study.helpers import open_study, write_figures, write_plan

FILES = ("study.json", "study.csv", "study.md")


def test_every_run_has_its_row_and_every_case_its_score(tmp_path: Path) -> None:
    study, specs = open_study(
        write_plan(tmp_path, budgets=[2, "all"], methods=["supervised", "mean_teacher"]), tmp_path / "o"
    )
    for number, spec in enumerate(study.possible(specs)):
        write_figures(study, spec, number / 10)
    content = write_tables(study)
    assert content == json.loads((tmp_path / "o/study.json").read_text())
    assert len(content["runs"]) == 6
    assert content["missing"] == []
    assert [(place["budget"], place["method"]) for place in content["impossible"]] == [("all", "mean_teacher")] * 2
    assert [(group["budget"], group["method"]) for group in content["scores"]] == [
        ("2", "supervised"),
        ("2", "mean_teacher"),
        ("all", "supervised"),
    ]
    first = content["scores"][0]
    assert (first["seeds"], first["labels"], first["means"]) == ([0, 1], [2, 2], [0.0, 0.3])
    assert first["values"] == [[0.0] * 3, [0.3] * 3]
    assert len(content["cases"]) == 3
    with open(tmp_path / "o/study.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["budget", "labels", "unlabeled", "method", "seed", "stage", "dice", "steps"]
    assert [row["labels"] for row in rows] == ["2"] * 4 + ["9"] * 2
    assert [row["unlabeled"] for row in rows] == ["7"] * 4 + ["0"] * 2
    text = (tmp_path / "o/study.md").read_text()
    assert "| labels | method | seeds | mean | seed 0 | seed 1 |" in text
    assert "| 2 | supervised | 2 | 0.1500 | 0.0000 | 0.3000 |" in text
    assert "| all (9) | supervised | 2 |" in text
    assert "mean_teacher needs unlabelled cases, of which all labels leave none." in text
    times = (tmp_path / "o/times.csv").read_text().splitlines()
    assert times[:2] == ["budget,method,seed,steps,seconds", "2,supervised,0,4,4.0"]


def test_the_order_in_which_runs_end_leaves_no_trace(tmp_path: Path) -> None:
    tables = []
    for number in range(3):
        folder = tmp_path / str(number)
        study, specs = open_study(write_plan(tmp_path), folder)
        figures = {spec.folder: index / 7 for index, spec in enumerate(specs)}
        for spec in random.Random(number).sample(specs, len(specs)):
            write_figures(study, spec, figures[spec.folder], seconds=number)
            write_tables(study)
        tables.append([(folder / name).read_bytes() for name in FILES])
    assert tables[0] == tables[1] == tables[2]


def test_what_is_missing_is_said_and_an_undefined_figure_is_null(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    write_figures(study, specs[1], None)
    content = write_tables(study)
    assert content["missing"][0] == {"budget": "2", "method": "supervised", "seed": 0}
    assert len(content["missing"]) == 7
    assert content["scores"][0]["means"] == [None]
    text = (tmp_path / "out/study.md").read_text()
    assert "| 2 | mean_teacher | 0 |  |  |  |" in text
    assert "Not finished: 7 runs." in text


def test_figures_of_other_cases_are_refused(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    write_figures(study, specs[0], 0.5)
    path = study.metrics(specs[0])
    metrics = json.loads(path.read_text())
    metrics["cases"].pop()
    path.write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=r"was not made from the study's 3 test cases"):
        collect(study)


def test_runs_of_the_screen_alone_stay_out_of_the_scores(tmp_path: Path) -> None:
    third = {"label": "third", "method": "mean_teacher"}
    screen = {"budget": 2, "seeds": [0, 9], "keep": 1}
    path = write_plan(tmp_path, methods=["supervised", "mean_teacher", third], screen=screen)
    study, specs = open_study(path, tmp_path / "out")
    for spec in specs[:6]:
        write_figures(study, spec, {"supervised": 0.5, "mean_teacher": 0.6, "third": 0.4}[spec.method.label])
    choice = choose(study)
    assert choice is not None
    for spec in runs(study.plan, choice.kept):
        write_figures(study, spec, 0.5)
    content = write_tables(study, choice)
    assert content["screen"]["kept"] == ["supervised", "mean_teacher"]
    assert {group["method"] for group in content["scores"]} == {"supervised", "mean_teacher"}
    assert all(group["seeds"] == [0, 1] for group in content["scores"])
    stages = {(row["method"], row["seed"], row["budget"]): row["stage"] for row in content["runs"]}
    assert stages["supervised", 0, "2"] == "grid"
    assert stages["supervised", 9, "2"] == stages["third", 0, "2"] == "screen"
    assert content["missing"] == []
    assert "The screen at 2 labels (2 seeds) chose by test cases" in (tmp_path / "out/study.md").read_text()
