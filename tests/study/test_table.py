from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
import yaml

from monai_ssl.study.findings import find
from monai_ssl.study.plan import runs
from monai_ssl.study.screen import choose
from monai_ssl.study.table import collect, write_tables
from monai_ssl.utils.errors import UserError
from tests.study.helpers import (
    open_study,
    write_cases,
    write_detection_plan,
    write_detections,
    write_figures,
    write_plan,
)

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
    assert "| labels | method | seeds | mean dice | 95 % interval | seed 0 | seed 1 |" in text
    mean = content["findings"]["means"][0]
    interval = f"{mean['low']:.4f} to {mean['high']:.4f}"
    assert f"| 2 | supervised | 2 | 0.1500 | {interval} | 0.0000 | 0.3000 |" in text
    assert "| all (9) | supervised | 2 |" in text
    assert "Without mean_teacher at all: all labels leave no unlabelled case." in text
    assert (content["ceiling"], content["margin"], content["chosen"]) == ("all", 0.005, [])
    assert "The list names no patients" in text
    times = (tmp_path / "o/times.csv").read_text().splitlines()
    assert times[:2] == ["budget,method,seed,steps,seconds", "2,supervised,0,4,4.0"]


def test_findings_are_those_of_the_content_and_stand_in_every_file(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path, seeds=3), tmp_path / "out")
    for number, spec in enumerate(specs):
        write_figures(study, spec, (0.5 if spec.method.label == "supervised" else 0.6) + (number % 3) / 100)
    content = write_tables(study)
    findings = content.pop("findings")
    assert find(content) == findings
    assert findings["primary"]["seeds"] == [0, 1, 2]
    text = (tmp_path / "out/study.md").read_text()
    assert all(sentence in text for sentence in (*findings["answer"], *findings["limits"]))


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
    assert "| 2 | mean_teacher | 0 |  |  |  |  |" in text
    assert "Not finished: 7 runs." in text
    assert content["findings"]["left_out_runs"] == [{"budget": "2", "method": "mean_teacher", "seed": 0}]


def test_figures_of_other_cases_are_refused(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    write_figures(study, specs[0], 0.5)
    path = study.metrics(specs[0])
    metrics = json.loads(path.read_text())
    metrics["cases"].pop()
    path.write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=r"was not made from the study's 3 test cases"):
        collect(study)


@pytest.mark.parametrize("metric", ["cpm", "sensitivity_1"])
def test_of_a_detector_the_values_are_influences_and_their_mean_its_figure(metric: str, tmp_path: Path) -> None:
    study, specs = open_study(write_detection_plan(tmp_path, metric=metric), tmp_path / "out")
    for number, spec in enumerate(specs):
        write_detections(study, spec, number)
    content = write_tables(study)
    spread = []
    for entry in content["scores"]:
        for mean, values in zip(entry["means"], entry["values"], strict=True):
            assert sum(values) / 6 == pytest.approx(mean, abs=1e-12)
            spread.append(max(values) - min(values))
    assert max(spread) > 0.1
    by_seed = [mean for entry in content["findings"]["means"] for mean in entry["by_seed"]]
    assert by_seed == pytest.approx([mean for entry in content["scores"] for mean in entry["means"]], abs=1e-8)
    assert "reason" not in content["findings"]["primary"]
    assert content["margin"] == 0.02
    assert (tmp_path / "out/study.csv").read_text().splitlines()[0].split(",")[6] == metric
    assert f"| mean {metric} |" in (tmp_path / "out/study.md").read_text()


def test_other_measures_of_the_task_are_told_as_if_the_study_were_about_them(tmp_path: Path) -> None:
    found = {}
    for metric in ("cpm", "sensitivity_1"):
        (tmp_path / metric).mkdir()
        study, specs = open_study(write_detection_plan(tmp_path / metric, metric=metric), tmp_path / metric / "out")
        for number, spec in enumerate(specs):
            write_detections(study, spec, number)
        found[metric] = write_tables(study)
    for metric, other in (("cpm", "sensitivity_1"), ("sensitivity_1", "cpm")):
        (beside,) = found[metric]["beside"]
        assert beside == {"metric": other, "scores": found[other]["scores"]}
        assert beside["scores"] != found[metric]["scores"]
        assert found[metric]["findings"]["beside"][0]["means"] == found[other]["findings"]["means"]


def test_a_measure_that_some_run_lacks_is_left_out(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    for number, spec in enumerate(specs):
        write_figures(study, spec, number / 10)
        path = study.metrics(spec)
        metrics = json.loads(path.read_text())
        for one in (metrics, *metrics["cases"]):
            one["mean"] |= {"surface_dice": 0.9, **({"hausdorff_95": None} if number else {})}
        path.write_text(json.dumps(metrics))
    content = write_tables(study)
    assert [one["metric"] for one in content["beside"]] == ["surface_dice"]
    assert content["beside"][0]["scores"][0]["means"] == [0.9, 0.9]
    assert "## Other measures" in (tmp_path / "out/study.md").read_text()


def test_cases_of_one_patient_are_told_by_numbers(tmp_path: Path) -> None:
    write_cases(tmp_path / "data", patients=True)
    study, specs = open_study(write_plan(tmp_path, test=4), tmp_path / "out")
    for number, spec in enumerate(specs):
        write_figures(study, spec, number / 10)
    content = write_tables(study)
    assert content["patients"] == [0, 0, 1, 1]
    assert {line for line in (tmp_path / "out/study.json").read_text().split('"') if line.startswith("p0")} == set()
    assert "over 2 seeds and 4 test cases of 2 patients" in content["findings"]["answer"][0]
    named, _ = open_study(write_plan(tmp_path, test=4, patient_regex="c(.)"), tmp_path / "out")
    assert collect(named)["patients"] == [0, 0, 1, 1]  # the list's own names stay the rule
    (tmp_path / "one").mkdir()
    apart, _ = open_study(write_plan(tmp_path / "one"), tmp_path / "one/out")
    assert "patients" not in collect(apart)


def test_a_detector_whose_boxes_are_all_in_one_case_has_no_interval(tmp_path: Path) -> None:
    study, specs = open_study(write_detection_plan(tmp_path), tmp_path / "out")
    for number, spec in enumerate(specs):
        write_detections(study, spec, number, sick=1)
    content = write_tables(study)
    assert all(value is None for entry in content["scores"] for values in entry["values"] for value in values)
    assert all(isinstance(mean, float) for entry in content["scores"] for mean in entry["means"])
    assert content["findings"]["primary"]["reason"] == "no finished run of supervised with 2 labels has figures"
    assert "fewer than two cases have a box" in (tmp_path / "out/study.md").read_text()


def test_a_distance_over_some_of_the_classes_is_no_figure(tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path, metric="hausdorff_95"), tmp_path / "out")
    for spec in specs:
        write_figures(study, spec, 0.5)
        path = study.metrics(spec)
        metrics = json.loads(path.read_text())
        metrics["mean"]["hausdorff_95"] = 2.0
        for case in metrics["cases"]:
            case["mean"]["hausdorff_95"] = 2.0
            case["classes"] = {name: {"dice": 0.5, "hausdorff_95": 2.0} for name in "ab"}
            case["classes"]["absent"] = {"dice": None, "hausdorff_95": None}
        if spec is specs[0]:
            metrics["cases"][1]["classes"]["a"] = {"dice": 0.0, "hausdorff_95": None}
        path.write_text(json.dumps(metrics))
    content = write_tables(study)
    assert content["scores"][0]["values"] == [[2.0, None, 2.0], [2.0] * 3]
    assert content["findings"]["left_out_cases"] == [content["cases"][1]]
    assert content["margin"] is None


def test_a_chosen_checkpoint_costs_labels_and_runs_may_share_a_training(tmp_path: Path) -> None:
    chosen = {"label": "chosen", "method": "supervised", "checkpoint": "chosen"}
    flipped = {"label": "flipped", "method": "supervised", "evaluation": {"overlap": 0.25}}
    path = write_plan(tmp_path, budgets=[1, 5], methods=["supervised", "mean_teacher", chosen, flipped], seeds=1)
    plan = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**plan, "primary": {**plan["primary"], "budget": 5}}))
    study, specs = open_study(path, tmp_path / "out")
    for spec in study.possible(specs):
        write_figures(study, spec, 0.5)
        if spec.method.label == "flipped":
            (study.folder(spec) / "steps.csv").unlink()
    content = write_tables(study)
    assert content["chosen"] == ["chosen"]
    labels = {(row["budget"], row["method"]): row["labels"] for row in content["runs"]}
    assert ("1", "chosen") not in labels
    assert labels["5", "chosen"] == labels["5", "supervised"] == 5
    text = (tmp_path / "out/study.md").read_text()
    assert "Without chosen at 1: 1 label cannot spare a case for validation." in text
    assert "for every method, but for chosen: chosen on a fifth of the labels" in text
    times = [row.split(",")[:2] for row in (tmp_path / "out/times.csv").read_text().splitlines()[1:]]
    assert times == [[row["budget"], row["method"]] for row in content["runs"]]


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
