from __future__ import annotations

from pathlib import Path

from monai_ssl.report.page import write_report
from monai_ssl.study.findings import find
from tests.report.pages import Page, parse, study_content, write_content
from tests.study.contents import without


def page_of(folder: Path, content: dict) -> Page:
    return parse(write_report(write_content(folder, content), overwrite=True).path)


def test_the_answer_and_every_figure_are_those_of_the_study(tmp_path: Path) -> None:
    content = study_content(seeds=3)
    findings = content["findings"]
    page = page_of(tmp_path / "study", content)
    paragraphs = page.text("p")
    assert [one for one in paragraphs if one in findings["answer"]] == findings["answer"]
    assert not any(one.startswith("Unfinished") for one in paragraphs)
    cells = page.text("td")
    for row in content["runs"]:
        assert f"{row['mean']:.4f}" in cells
    for one in findings["others"]:
        assert f"{one['effect']['mean']:+.4f}" in cells
    listed = page.text("li")
    assert all(sentence in listed for sentence in findings["limits"])
    (point, *_) = findings["labels_saved"][0]["points"]
    assert f"mt: {point['words']}." in listed


def test_other_measures_are_on_the_page_of_a_study_that_has_them(tmp_path: Path) -> None:
    content = study_content(seeds=3)
    other = study_content(seeds=3, noise=0.02)
    without_them = {**content, "findings": {name: one for name, one in content["findings"].items() if name != "beside"}}
    assert "Other measures" not in page_of(tmp_path / "old", without_them).text("summary")
    content["beside"] = [{"metric": "surface_dice", "scores": other["scores"]}]
    page = page_of(tmp_path / "new", {**content, "findings": find(content)})
    assert "Other measures" in page.text("summary")
    assert f"{other['findings']['primary']['effect']['mean']:+.4f}" in page.text("td")


def test_a_study_that_is_not_finished_says_so_first(tmp_path: Path) -> None:
    content = without(study_content(seeds=2), "4", "mt", 1)
    content["runs"] = [row for row in content["runs"] if (row["budget"], row["method"], row["seed"]) != ("4", "mt", 1)]
    content = {**content, "findings": find(content)}
    folder = write_content(tmp_path / "study", content)
    run = folder / "runs/4/mt/seed1"
    run.mkdir(parents=True)
    (run / "console.txt").write_text("Error: out of memory\n")
    page = page_of(folder, content)
    status = next(one for one in page.text("p") if one.startswith("Unfinished"))
    assert "19 of 20 runs are there, and all below is of them alone. 1 run failed." in status
    assert page.text().index(status) < page.text().index(content["findings"]["answer"][0])
    assert "Error: out of memory" in page.text("code")


def test_a_study_without_a_finished_run_has_a_page(tmp_path: Path) -> None:
    content = study_content(seeds=1)
    empty = {**content, "scores": [], "runs": [], "impossible": []}
    empty["missing"] = [{"budget": "2", "method": "mt", "seed": 0}]
    page = page_of(tmp_path / "study", {**empty, "findings": find(empty)})
    assert any("Unfinished: no run of 1 run yet." in one for one in page.text("p"))
    assert "no finished run yet" in page.text("text")


def test_a_distance_and_one_seed_have_a_page(tmp_path: Path) -> None:
    content = study_content(seeds=1, metric="hausdorff_95")
    page = page_of(tmp_path / "study", content)
    assert any("cannot be told" in one for one in page.text("p"))
    assert "Case by case" in page.text("h2")


def test_the_answer_ends_with_what_to_do_next(tmp_path: Path) -> None:
    said = {}
    for name, seeds in (("one", 1), ("three", 3)):
        content = study_content(seeds=seeds)
        (said[name],) = [one for one in page_of(tmp_path / name, content).text("p") if one.startswith("Next: ")]
    assert "plan more seeds" in said["one"]
    assert "worst case" in said["three"]
