from __future__ import annotations

import re

import pytest

from monai_ssl.study import process
from tests.cli.helpers import monai_ssl
from tests.report.pages import study_content, write_content, write_detector
from tests.study.helpers import fake_command, write_plan


def test_the_page_is_written_where_it_is_asked_for(tmp_path):
    folder = write_content(tmp_path / "study", study_content())
    result = monai_ssl("report", folder, "--output", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert "Note: The plan, its bundle or its data are not where they were" in result.stdout
    assert (
        f"Wrote {tmp_path}/page.html, one page for any browser; its figures are in {folder}/figures." in result.stdout
    )
    assert (folder / "figures/curve.svg").is_file()
    result = monai_ssl("report", folder, "--output", tmp_path / "page.html")
    assert result.exit_code == 1
    assert re.fullmatch(
        r"Error: [^\n]*page\.html: is there already\. Replace it with --overwrite[^\n]*\n", result.stderr
    )
    assert monai_ssl("report", folder, "--output", tmp_path / "page.html", "--overwrite").exit_code == 0


def test_a_run_is_told_where_its_scans_are(tmp_path):
    run, data = write_detector(tmp_path)
    result = monai_ssl("report", run)
    assert result.exit_code == 0, result.output
    assert "Note: Slices and a viewer of single cases need the scans: name the list" in result.stdout
    (tmp_path / "elsewhere").mkdir()
    weights = (run / "model.pt").rename(tmp_path / "elsewhere" / "model.pt")
    (run / "preprocessing.json").rename(tmp_path / "elsewhere" / "preprocessing.json")
    told = ("--datalist", data.datalist, "--dataset_dir", data.datalist.parent, "--weights", weights)
    result = monai_ssl("report", run, "--overwrite", *told)
    assert result.exit_code == 0, result.output
    assert "Note" not in result.stdout
    assert "Viewer" in (run / "report.html").read_text()


@pytest.mark.parametrize("folder", ["nothing", "gone"])
def test_a_folder_without_a_run_is_one_line(tmp_path, folder):
    (tmp_path / "nothing").mkdir()
    result = monai_ssl("report", tmp_path / folder)
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: [^\n]*(holds neither a study|is no folder)[^\n]*\n", result.stderr)


def test_a_study_ends_with_its_page(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "bundle_command", fake_command)
    plan = write_plan(tmp_path, budgets=[2])
    for _ in range(2):
        result = monai_ssl("study", plan, "--output", tmp_path / "out", "--jobs", 2)
        assert result.exit_code == 0, result.output
        assert f"Wrote {tmp_path}/out/report.html" in result.stdout
    assert "mean_teacher against supervised" in (tmp_path / "out/report.html").read_text()
