from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monai_ssl.cli import app
from monai_ssl.data.check_facts import Fault
from monai_ssl.data.check_run import DataCheck
from monai_ssl.data.check_show import fault_rows, reading_bar, summary
from tests.data.check_files import BROKEN, make_data, write_list


def check(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_rows_and_summary() -> None:
    error = Fault("empty", "is empty", "training", "a", "images/a.nii.gz")
    result = DataCheck((error, Fault("constant", "is 0 everywhere")), 3, 5, 2_500_000)
    assert fault_rows(result)[0] == (
        *("error", "training", "a", "images/a.nii.gz", "is empty"),
        "Copy or export the file again from its source.",
    )
    assert summary(result) == "1 error and 1 warning in 3 cases, 5 files, 2.5 MB."
    assert summary(DataCheck((), 1, 2, 0)) == "No fault in 1 case, 2 files, 0.0 MB."


def test_the_bar_is_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with reading_bar() as progress:
        progress(1, 2)
    assert capsys.readouterr().err == ""


def test_a_clean_data_set_ends_well(tmp_path: Path) -> None:
    data, _ = make_data(tmp_path)
    result = check(write_list(tmp_path, data), "--jobs", 1)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert result.stdout.startswith("No fault in 12 cases, 22 files")


@pytest.mark.parametrize(("name", "code"), [("half", 1), ("blank", 0)])
def test_errors_end_with_one_and_warnings_with_zero(tmp_path: Path, name: str, code: int) -> None:
    data, cases = make_data(tmp_path / "data")
    BROKEN[name][1](cases[1])
    path = write_list(tmp_path, data)
    result = check(path, "--dataset_dir", tmp_path / "data", "--json", tmp_path / "faults.json", "--jobs", 1)
    assert result.exit_code == code
    assert f"{cases[1].entry['image']}" in result.stdout
    written = json.loads((tmp_path / "faults.json").read_text())
    assert (written["cases"], written["files"], written["errors"], written["warnings"]) == (12, 22, code, 1 - code)
    (fault,) = written["faults"]
    assert (fault["kind"], fault["part"], fault["case"]) == (BROKEN[name][0], "training", "training1")
    assert fault["text"] in result.stdout
    assert fault["remedy"] in result.stdout


def test_an_unreadable_list_ends_with_one(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('{"training": [}')
    result = check(tmp_path / "list.json")
    assert result.exit_code == 1
    assert "not valid JSON at line 1, column 15" in result.stdout


@pytest.mark.parametrize("patch", ["48x64x48", "48,64", "a,b,c", ""])
def test_a_patch_is_three_numbers(tmp_path: Path, patch: str) -> None:
    data, _ = make_data(tmp_path)
    result = check(write_list(tmp_path, data), "--patch_size", patch)
    assert result.exit_code == 1
    assert "patch_size" in result.stderr


def test_settings_reach_the_check(tmp_path: Path) -> None:
    data, _ = make_data(tmp_path)
    path = write_list(tmp_path, data)
    assert "smaller" not in check(path, "--jobs", 1, "--patch_size", "4,4,4").stdout
    assert "12 warnings" in check(path, "--jobs", 1, "--patch_size", "4,4,99").stdout
    assert "22 errors" in check(path, "--jobs", 1, "--max_gigabytes", 1e-9).stdout
    assert "same" not in check(path, "--jobs", 1, "--patient_regex", r"[a-z]+\d").stdout
    assert "of patient 0" in check(path, "--jobs", 1, "--patient_regex", r"\d").stdout
