from __future__ import annotations

import json
from pathlib import Path

from tests.study.helpers import open_study, write_plan, write_rounds_plan


def test_why_a_run_cannot_be(tmp_path: Path) -> None:
    chosen = {"label": "chosen", "method": "supervised", "checkpoint": "chosen"}
    path = write_plan(tmp_path, methods=["supervised", "mean_teacher", chosen], budgets=[1, 2, "all"], seeds=1)
    study, specs = open_study(path, tmp_path / "out")
    assert {spec.name: study.impossible(spec) for spec in specs if study.impossible(spec)} == {
        "chosen, labels 1, seed 0": "1 label cannot spare a case for validation",
        "mean_teacher, labels all, seed 0": "all labels leave no unlabelled case",
    }
    assert len(study.possible(specs)) == 7


def test_methods_without_an_unlabelled_case_left_are_not_possible(tmp_path: Path) -> None:
    zero = {"label": "zero", "method": "mean_teacher", "settings": {"unlabeled_batch_size": 0}}
    study, specs = open_study(
        write_plan(tmp_path, budgets=[2, "all"], methods=["supervised", "mean_teacher", zero], seeds=1),
        tmp_path / "out",
    )
    left = [(spec.budget, spec.method.label) for spec in study.possible(specs)]
    assert left == [("2", "supervised"), ("2", "mean_teacher"), ("2", "zero"), ("all", "supervised"), ("all", "zero")]


def test_the_record_holds_no_path(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    study.begin(specs[0])
    record = json.loads((study.folder(specs[0]) / "run.json").read_text())
    assert record["trained"] is False
    assert str(tmp_path) not in json.dumps(record)


def test_a_list_of_chosen_cases_lies_with_the_training_that_they_are_for(tmp_path: Path) -> None:
    flips = {"label": "flips", "method": "mean_teacher", "acquisition": "uncertainty", "evaluation": {"device": "cpu"}}
    study, specs = open_study(write_rounds_plan(tmp_path, flips), tmp_path / "out")
    lists = {(spec.budget, spec.method.label): study.datalist(spec).relative_to(study.output) for spec in specs}
    drawn = {place: Path(f"splits/{place[0]}/seed0.json") for place in lists}
    chosen = {
        (b, label): Path(f"runs/{b}/unsure/seed0/cases.json") for b in ("4", "6") for label in ("unsure", "flips")
    }
    assert lists == {**drawn, **chosen}
    assert [study.counts(spec)["labels"] for spec in specs] == [int(spec.budget) for spec in specs]
