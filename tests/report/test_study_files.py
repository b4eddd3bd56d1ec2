from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from monai_ssl.report.study_files import StudyFiles, open_study
from monai_ssl.utils.errors import UserError
from tests.report.pages import study_content, write_content
from tests.study.contents import without


@pytest.mark.parametrize(
    ("content", "message"), [("{", "cannot be read"), ("[]", "has no `metric`"), ('{"metric": "dice"}', "no `primary`")]
)
def test_a_table_that_is_none_of_a_study_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(UserError, match=rf"study\.json: .*{message}.* The command `study` writes it anew\."):
        open_study(tmp_path)


def test_a_plan_that_is_gone_is_noted(tmp_path: Path) -> None:
    study = open_study(write_content(tmp_path / "study", study_content()))
    assert study.plan is None
    assert study.notes == ["The plan, its bundle or its data are not where they were, so nothing is predicted anew."]
    assert study.run("2", "Mean Teacher", 1) == study.folder / "runs/2/mean_teacher/seed1"
    assert study.training("2", "mt", 0) == study.run("2", "mt", 0)
    assert study.case_names[0] == "c0.nii.gz"


def test_a_whole_study_is_found_in_its_folders(real_study: Path) -> None:
    study = open_study(real_study)
    assert study.notes == []
    assert (study.training("1", "mean_teacher", 0) / "model.pt").is_file()
    cases = study.cases("1", "mean_teacher", 0)
    assert [case["mean"]["dice"] for case in cases] == list(study.scores("1", "mean_teacher")[0])
    assert study.manifest() == {}


def test_methods_that_share_a_training_have_one(tmp_path: Path) -> None:
    from tests.study.helpers import write_plan

    flips = {"label": "flips", "method": "supervised", "evaluation": {"flip_axes": [0]}}
    plan = write_plan(tmp_path, methods=["supervised", "mean_teacher", flips])
    folder = write_content(tmp_path / "study", study_content())
    shutil.copy(plan, folder / "plan.yaml")
    shutil.copytree(tmp_path / "data", folder / "data")
    study = open_study(folder)
    assert study.training("2", "flips", 0) == study.run("2", "supervised", 0)
    assert study.run("2", "flips", 0) == folder / "runs/2/flips/seed0"


def test_a_run_that_failed_says_why_and_one_that_waits_says_nothing(tmp_path: Path) -> None:
    study = StudyFiles(tmp_path, without(study_content(), "2", "mt"), None)
    for seed, text in enumerate(("step 1\nValueError: /data/me/c0.nii.gz: broken\nbye\n", "step 1\n")):
        folder = study.run("2", "mt", seed)
        folder.mkdir(parents=True)
        (folder / "console.txt").write_text(text)
    assert [(one.seed, one.reason) for one in study.open_runs()] == [(0, "ValueError: c0.nii.gz: broken"), (1, "")]


def test_broken_figures_of_a_run_are_noted(real_study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(real_study, tmp_path / "study")
    (copy / "runs/1/supervised/seed0/test/metrics.json").write_text("{")
    (copy / "runs/1/supervised/seed0/audit.csv").write_bytes(b"\xff")
    study = open_study(copy)
    assert study.cases("1", "supervised", 0) == []
    assert study.table("1", "supervised", 0, "audit.csv") == {}
    assert [note.partition(" ")[0] for note in study.notes] == [
        "runs/1/supervised/seed0/test/metrics.json",
        "runs/1/supervised/seed0/audit.csv",
    ]


@pytest.mark.parametrize("name", ["findings", "metric", "runs"])
def test_a_file_of_a_study_with_a_part_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    content = study_content(seeds=3) | {name: 7}
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"study\.json: has no `.*`, so it is none of a study\. The command `study`"):
        open_study(tmp_path)


def test_findings_of_another_kind_are_refused(tmp_path: Path) -> None:
    content = study_content(seeds=3)
    content["findings"]["primary"] = "none"
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="has no `primary`"):
        open_study(tmp_path)
