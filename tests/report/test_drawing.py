from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from monai_ssl.report import drawing
from monai_ssl.report.drawing import Drawings
from tests.report.pages import Page


def drawn(words: str = "label") -> Figure:
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0], "o", gid="point", color="#222222")
    axes.set_xlabel(words, parse_math=False)
    return figure


def test_two_figures_share_no_identifier_and_leave_their_files(tmp_path: Path) -> None:
    drawings = Drawings(tmp_path / "figures")
    parts = [str(drawings.vector(drawn(), name, "words").body) for name in ("one", "two")]
    found = [{a["id"] for _, a in Page(part).tags if "id" in a} for part in parts]
    assert found[0]
    assert found[0].isdisjoint(found[1])
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"one.png", "one.svg", "two.png", "two.svg"}
    assert all("<style" not in part and "<metadata" not in part and "<?xml" not in part for part in parts)


def test_text_stays_text_in_the_colours_of_the_page(tmp_path: Path) -> None:
    part = str(Drawings(tmp_path).vector(drawn("a <b> & \\1 $x$"), "one", 'say "it" \\g<0>').body)
    page = Page(part)
    assert "a <b> & \\1 $x$" in page.text("text")
    assert 'say "it" \\g<0>' in page.text("title")
    assert "var(--ink)" in part
    assert "#222222" not in part
    assert "DejaVu" not in part


def test_a_point_can_have_words(tmp_path: Path) -> None:
    body = Drawings(tmp_path).vector(drawn(), "one", "alt", titles={"point": "<case>"}).body
    assert "<case>" in Page(str(body)).text("title")
    assert "<case>" not in str(body)


def test_a_figure_of_too_many_letters_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_LARGEST_VECTOR", 100)
    (image,) = Page(str(Drawings(tmp_path).vector(drawn(), "one", '"alt"').body)).all("img")
    assert image["alt"] == '"alt"'
    assert (image["width"], image["height"]) == ("300", "200")


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.png is no PNG file"):
        Drawings(tmp_path).file(tmp_path / "broken.png", "name", "words")


def test_a_file_that_would_make_the_page_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Drawings(tmp_path).picture(drawn(), "one", "words")
    assert Drawings(tmp_path).file(tmp_path / "one.png", "name", "words").body
    monkeypatch.setattr(drawing, "_LARGEST_PICTURE", 100)
    with pytest.raises(ValueError, match=r"one\.png is larger than 100 bytes"):
        Drawings(tmp_path).file(tmp_path / "one.png", "name", "words")


def test_a_slim_figure_shares_no_identifier_and_has_no_files(tmp_path: Path) -> None:
    made = Drawings(tmp_path / "figures").vector(drawn(), "one", "words", titles={"point": "case"}, slim=drawn())
    parts = [{a["id"] for _, a in Page(str(part)).tags if "id" in a} for part in (made.body, made.slim)]
    assert parts[0].isdisjoint(parts[1])
    assert all("case" in Page(str(part)).text("title") for part in (made.body, made.slim))
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"one.png", "one.svg"}
