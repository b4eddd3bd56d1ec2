from __future__ import annotations

from pathlib import Path

from monai_ssl.report.drawing import Drawings
from monai_ssl.report.pairs import ScoredCase
from monai_ssl.report.run_drawings import file_drawing, lead_drawing, training_drawings
from tests.report.pages import Page


def test_broken_files_are_noted_and_missing_ones_are_not(tmp_path: Path) -> None:
    drawings, notes = Drawings(tmp_path / "figures"), list[str]()
    assert training_drawings(tmp_path, "t", "this run", drawings, notes) == []
    assert notes == []
    (tmp_path / "steps.csv").write_text("nothing\n1\n")
    (tmp_path / "embeddings.csv").write_text("nothing\n1\n")
    (tmp_path / "pretext.png").write_bytes(b"nothing")
    assert training_drawings(tmp_path, "t", "this run", drawings, notes) == []
    assert [note.partition(" ")[0] for note in notes] == ["steps.csv", "embeddings.csv", "pretext.png"]
    assert file_drawing(tmp_path / "none.png", "n", "words", drawings, notes) is None
    assert len(notes) == 3


def test_a_scored_run_has_its_cases_or_its_curve_for_two_widths(tmp_path: Path) -> None:
    drawings = Drawings(tmp_path)
    cases = [ScoredCase(0, "a", 0.5), ScoredCase(1, "b", 0.75)]
    drawing = lead_drawing("dice", {"mean": {"dice": 0.625}}, [], cases, drawings)
    assert drawing is not None
    assert drawing.slim
    assert {"a: 0.500", "b: 0.750"} <= set(Page(str(drawing.body)).text("title"))
    assert lead_drawing("dice", {"mean": {"dice": 0.625}}, [], [], drawings) is None
    record = {"boxes": 1, "classes": {"n": {"boxes": 1, "hit_scores": [0.9], "false_scores": []}}}
    curve = lead_drawing("cpm", {}, [record], [], drawings)
    assert curve is not None
    assert curve.name == "froc"
    assert curve.slim
    empty = {"boxes": 0, "classes": {"n": {"boxes": 0, "hit_scores": [], "false_scores": []}}}
    assert lead_drawing("cpm", {}, [empty], [], drawings) is None
