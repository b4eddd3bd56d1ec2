from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from monai_ssl.report import page as pages
from monai_ssl.report.page import LARGEST_PAGE, Written, write_report
from monai_ssl.utils.errors import UserError
from tests.report.pages import Page, from_elsewhere, parse, study_content, write_content

HOSTILE = "<script>alert(1)</script>"


def test_a_whole_study_is_one_file_with_slices_and_a_viewer(real_study: Path, real_page: Written) -> None:
    assert real_page.notes == []
    assert real_page.path == real_study / "report.html"
    page = parse(real_page.path)
    assert real_page.path.stat().st_size < LARGEST_PAGE
    assert [name for name in ("runs", "contrasts", "pairs", "cases", "viewer", "protocol", "limits") if name not in {
        attributes.get("id") for attributes in page.all("section")
    }] == []  # fmt: skip
    titles = page.text("h3")
    assert [one for one in titles if one in ("Worst", "Median", "Best")] == ["Worst", "Median", "Best"]
    assert page.all("canvas")
    figures = {path.name for path in (real_study / "figures").iterdir()}
    for name in ("curve", "cases", "case_worst_method", "case_best_baseline"):
        assert {f"{name}.png", f"{name}.svg"} <= figures


@pytest.mark.parametrize(
    "html",
    [
        '<img src="https://x/y.png">',
        '<link href="page.css">',
        "<style>@import 'x'</style>",
        "<style>a { background: url(http://x) }</style>",
        "<script>fetch('x')</script>",
    ],
)
def test_what_is_loaded_from_elsewhere_is_found(html: str) -> None:
    assert from_elsewhere(Page(f"{html}<script>0</script>" if "script" not in html else html))
    assert from_elsewhere(Page("<p>https://x</p><script>0</script>")) == []


def test_nothing_is_loaded_from_elsewhere(real_page: Written) -> None:
    page = parse(real_page.path)
    assert from_elsewhere(page) == []
    assert page.all("link") == []
    assert re.findall(r"url\((?!#)", "".join(words for tag, words in page.words if tag == "style")) == []
    assert page.words[-1][1].startswith('"use strict"')
    (policy,) = [one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert re.search(r"script-src( 'sha256-[^']+'){2};", policy)


def test_no_folder_of_the_machine_is_told(real_study: Path, real_page: Written) -> None:
    html = real_page.path.read_text()
    for folder in (real_study.parent, Path.home(), Path(pages.__file__).parents[2]):
        assert str(folder) not in html
    assert re.findall(r"/(?:tmp|home|root|usr|var)/", html) == []


def test_headings_are_in_order_and_what_is_seen_is_said(real_page: Written) -> None:
    page = parse(real_page.path)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1
    assert all(image["alt"] for image in page.all("img"))
    pictures = [one for one in page.all("svg") if one.get("aria-hidden") != "true"]
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert pictures
    assert all(one["role"] == "img" and one["aria-labelledby"] in identifiers for one in pictures)
    used = {one["href"][1:] for one in page.all("use")} | set(re.findall(r"url\(#([^)]*)\)", page.html))
    assert used <= set(identifiers)


def test_hostile_names_come_out_escaped(tmp_path: Path) -> None:
    content = study_content(
        gains={"sup": 0.0, HOSTILE: 0.1}, primary={"method": HOSTILE, "baseline": "sup", "budget": "2"}
    )
    content["cases"][0] = f"./folder/{HOSTILE[:-9]}.nii.gz"
    content["patient_rule"] = "</style><img src=x onerror=alert(1)>"
    page = parse(write_report(write_content(tmp_path / "study", content)).path)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert any(HOSTILE in words for words in page.text("h1"))
    assert any(HOSTILE[:-9] in words for words in page.text("td"))


def test_a_page_is_not_replaced_unasked(tmp_path: Path) -> None:
    folder = write_content(tmp_path / "study", study_content())
    page = write_report(folder).path
    first = page.read_bytes()
    page.write_bytes(first.replace(b"</html>", b"<!-- old --></html>"))
    with pytest.raises(UserError, match=r"report\.html: is there already\. Replace it with --overwrite, or"):
        write_report(folder)
    assert write_report(folder, tmp_path / "other.html").path == tmp_path / "other.html"
    assert page.read_bytes() != first
    write_report(folder, overwrite=True)
    assert page.read_bytes() == (tmp_path / "other.html").read_bytes() == first


@pytest.mark.parametrize("name", ["labels.csv", "other.html", "folder"])
def test_what_is_no_page_is_never_replaced(tmp_path: Path, name: str) -> None:
    folder = write_content(tmp_path / "study", study_content())
    (tmp_path / "folder").mkdir()
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe")
    (tmp_path / "other.html").write_text("<html>mine</html>")
    with pytest.raises(UserError, match=rf"{name}: is there already and no page of this command\. Give another"):
        write_report(folder, tmp_path / name, overwrite=True)
    assert (tmp_path / "other.html").read_text() == "<html>mine</html>"
    assert not (folder / "figures").exists()


def test_a_page_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    folder = write_content(tmp_path / "study", study_content())
    with pytest.raises(
        UserError, match=r"page\.html: cannot be written \(No such file or directory\)\. Give another --o"
    ):
        write_report(folder, "/proc/page.html")  # a folder in which nobody can write


def test_a_page_goes_only_where_there_is_a_folder(tmp_path: Path) -> None:
    folder = write_content(tmp_path / "study", study_content())
    with pytest.raises(UserError, match=r"page\.html: its folder is not there\. Make it"):
        write_report(folder, tmp_path / "none" / "page.html")


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds neither a study \(study\.json\) nor a run\. Give the --output of one"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
    for path in (tmp_path / "gone", Path(__file__)):
        with pytest.raises(UserError, match="is no folder"):
            write_report(path)
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / "steps.csv").touch()
    with pytest.raises(UserError, match="Give a folder in it, such as seed0"):
        write_report(tmp_path)
    (tmp_path / "plan.yaml").touch()
    with pytest.raises(UserError, match=r"its study has no study\.json yet"):
        write_report(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"metric": "dice"}'])
def test_a_half_written_study_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(UserError, match=r"study\.json: .*The command `study` writes it anew") as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)


def test_too_many_volumes_are_left_out_with_a_note(
    real_study: Path, real_page: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LARGEST_PAGE", real_page.path.stat().st_size - 1)
    copy = shutil.copytree(real_study, tmp_path / "study")
    written = write_report(copy, overwrite=True, device="cpu")
    assert written.path.stat().st_size < real_page.path.stat().st_size
    (note,) = written.notes
    assert note.startswith("1 of 3 cases are not in the viewer, since the page would be larger than")
    assert any(note in words for words in parse(written.path).text("li"))
