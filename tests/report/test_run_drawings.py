from __future__ import annotations

from pathlib import Path

from monai_ssl.report.drawing import Drawings
from monai_ssl.report.run_drawings import file_drawing, training_drawings


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
