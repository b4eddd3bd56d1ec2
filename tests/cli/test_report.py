from __future__ import annotations

import re

from monai_ssl.study import process
from tests.cli.helpers import monai_ssl
from tests.report.pages import study_content, write_content
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


def test_a_study_ends_with_its_page(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "bundle_command", fake_command)
    plan = write_plan(tmp_path, budgets=[2])
    for _ in range(2):
        result = monai_ssl("study", plan, "--output", tmp_path / "out", "--jobs", 2)
        assert result.exit_code == 0, result.output
        assert f"Wrote {tmp_path}/out/report.html" in result.stdout
    assert "mean_teacher against supervised" in (tmp_path / "out/report.html").read_text()
