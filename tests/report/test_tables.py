from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_ssl.report.tables import read_cases, read_columns, read_object


def test_what_is_not_there_is_no_fault(tmp_path: Path) -> None:
    notes: list[str] = []
    missing = tmp_path / "none"
    assert (read_object(missing, "none", notes), read_cases(missing, "none", notes)) == ({}, [])
    assert read_columns(missing, "none", notes) == {}
    assert notes == []


@pytest.mark.parametrize("content", ["{", "[1]", "\xff"])
def test_a_broken_object_is_noted(tmp_path: Path, content: str) -> None:
    path, notes = tmp_path / "broken.json", list[str]()
    path.write_bytes(content.encode("latin-1"))
    assert read_object(path, "runs/broken.json", notes) == {}
    assert notes == ["runs/broken.json cannot be read, so what rests on it is left out."]


@pytest.mark.parametrize(
    "case", ['{"dice": 1}', '{"image": "a", "mean": null}', '{"image": "a", "mean": {"dice": "1"}}', "1"]
)
def test_cases_that_are_none_are_noted(tmp_path: Path, case: str) -> None:
    path, notes = tmp_path / "metrics.json", list[str]()
    path.write_text(f'{{"cases": [{case}]}}')
    assert read_cases(path, "metrics.json", notes) == []
    assert len(notes) == 1
    path.write_text('{"cases": [{"image": "a"}]}')
    assert read_cases(path, "metrics.json", notes) == [{"image": "a"}]


def test_a_table_that_a_kill_cut_short_is_read(tmp_path: Path) -> None:
    path, notes = tmp_path / "steps.csv", list[str]()
    path.write_text("step,loss,dice\n1,0.5,\n2,0.")
    columns = read_columns(path, "steps.csv", notes)
    np.testing.assert_array_equal(columns["step"], [1, 2])
    np.testing.assert_array_equal(columns["loss"], [0.5, 0.0])
    assert np.isnan(columns["dice"]).all()
    assert notes == []
    path.write_bytes(b"\x00\xff\xfe")
    assert read_columns(path, "steps.csv", notes) == {}
    assert notes == ["steps.csv cannot be read as a table of steps, so its curves are left out."]
