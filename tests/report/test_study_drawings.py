from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_ssl.report.drawing import Drawings
from monai_ssl.report.pairs import paired_cases
from monai_ssl.report.study_drawings import (
    audit_drawing,
    curve_drawing,
    free_response_drawing,
    overlay_drawings,
    pair_drawing,
    pretraining_drawings,
)
from monai_ssl.report.study_files import StudyFiles
from tests.report.pages import Page, study_content

PNG = b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR" + (7).to_bytes(4, "big") + (5).to_bytes(4, "big")


@pytest.fixture
def study(tmp_path: Path) -> StudyFiles:
    return StudyFiles(tmp_path, study_content(), None)


@pytest.fixture
def drawings(tmp_path: Path) -> Drawings:
    return Drawings(tmp_path / "figures")


def test_far_ends_of_intervals_do_not_press_the_means_together(study: StudyFiles, drawings: Drawings) -> None:
    assert "are cut" not in curve_drawing(study, drawings).caption
    for mean in study.content["findings"]["means"]:
        mean["low"], mean["high"] = -5.0, 5.0
    drawing = curve_drawing(study, drawings)
    assert "are cut" in drawing.caption
    ticks = [float(one) for one in Page(str(drawing.body)).text("text") if one.startswith("0.")]
    assert min(ticks) > 0.3


def test_each_point_of_a_pair_has_its_case(study: StudyFiles, drawings: Drawings) -> None:
    pairs = paired_cases(study, [0, 1])
    drawing = pair_drawing(study, pairs, drawings, False)
    assert drawing is not None
    titles = Page(str(drawing.body)).text("title")
    assert titles[1:] == [f"{p.name}: mt {p.method:.3f}, sup {p.baseline:.3f}" for p in pairs]
    assert pair_drawing(study, [], drawings, False) is None


def test_what_was_left_by_runs_is_drawn_and_what_is_broken_noted(study: StudyFiles, drawings: Drawings) -> None:
    assert audit_drawing(study, drawings) is None
    assert list(overlay_drawings(study, [0], drawings)) == []
    assert list(pretraining_drawings(study, drawings)) == []
    for place, label in enumerate(("mt", "sup")):
        run = study.run("2", label, 0)
        (run / "test").mkdir(parents=True)
        (run / "test/overlay.png").write_bytes(PNG if place else b"broken")
        (run / "audit.csv").write_text("step,kept\n1,0.5\n2,0.25\n")
    first = study.folder / "pretraining/rotation_1/seed0"
    first.mkdir(parents=True)
    (first / "steps.csv").write_text("step,loss,seconds\n1,0.5,1\n2,0.25,1\n")
    (first / "embeddings.csv").write_text("step,feature_spread\n0,0.5\n2,0.25\n")
    assert audit_drawing(study, drawings) is not None
    assert [one.name for one in overlay_drawings(study, [0], drawings)] == ["overlay_1"]
    assert study.notes == ["overlay.png cannot be read or is too large, so it is left out: mt with 2 labels, seed 0."]
    ((name, found),) = pretraining_drawings(study, drawings)
    assert name == "rotation_1, seed0"
    assert [one.name for one in found] == ["pretraining_0_progress", "pretraining_0_embeddings"]


def test_a_detector_has_a_free_response_curve(study: StudyFiles, drawings: Drawings) -> None:
    assert free_response_drawing(study, [0], drawings) is None
    case = {"image": "a", "boxes": 1, "classes": {"n": {"boxes": 1, "hit_scores": [0.9], "false_scores": [0.1]}}}
    path = study.run("2", "mt", 0) / "test/metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"cases": [case]}))
    drawing = free_response_drawing(study, [0], drawings)
    assert drawing is not None
    assert "mt" in Page(str(drawing.body)).text("text")
