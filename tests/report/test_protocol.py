from __future__ import annotations

from pathlib import Path

from monai_ssl.report.protocol import study_protocol, versions_words
from monai_ssl.report.study_files import StudyFiles, open_study
from tests.report.pages import study_content


def test_the_protocol_names_budgets_seeds_steps_and_lists(real_study: Path) -> None:
    said = dict(study_protocol(open_study(real_study)))
    assert said["Labels"].startswith("Budgets of 1 labelled cases")
    assert said["Seeds"].startswith("0. ")
    assert said["Training"].startswith("4 optimiser steps for every run; the last checkpoint is scored")
    assert said["Test"].startswith("4 cases that no training saw")
    assert said["Data lists"].startswith("splits/held_out.json")
    assert said["Bundle"] == "semi_segmentation, on the list dataset.json"
    assert not any(str(real_study.parent) in words for words in said.values())


def test_what_was_added_on_the_way_is_told() -> None:
    content = study_content(growth=["seed 5"], chosen=["mt"], validation_cases=3)
    said = dict(study_protocol(StudyFiles(Path("nowhere"), content, None)))
    assert said["Added on the way"] == "seed 5"
    assert "but for mt" in said["Training"]
    assert "3 further cases for validation" in said["Test"]
    assert "Bundle" not in said
    cases = len(content["cases"])
    owned = {**content, "patients": [place // 2 for place in range(cases)]}
    said = dict(study_protocol(StudyFiles(Path("nowhere"), owned, None)))
    assert said["Test"].startswith(f"{cases} cases of {(cases + 1) // 2} patients that no training saw")


def test_versions_are_those_of_the_manifest() -> None:
    assert versions_words({"versions": {"torch": "2.0"}, "python": "3.11"}) == [("Versions", "torch 2.0, Python 3.11")]
    assert versions_words({}) == []
    assert versions_words({"versions": "broken"}) == []
