from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.report import predictions
from monai_ssl.report.predictions import PREDICTIONS, predict
from monai_ssl.utils.errors import UserError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a workflow was asked for; in its place every scan gets an empty file."""
    asked: list[dict[str, Any]] = []

    def run(bundle: Path, configs: list[str], settings: dict[str, Any], *, console: Path) -> None:
        names = sorted(path.name for path in Path(settings["image"]).iterdir())
        asked.append({**settings, "configs": configs, "names": names})
        for name in names:
            (Path(settings["output_dir"]) / name.replace(".nii.gz", "_seg.nii.gz")).touch()

    monkeypatch.setattr(predictions, "run_bundle", run)
    return asked


def scans(folder: Path) -> list[Path]:
    (folder / "model.pt").touch()
    paths = [folder / "a.nii.gz", folder / "b.nii.gz"]
    for path in paths:
        path.touch()
    return paths


def test_only_what_is_not_there_is_predicted(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    images = scans(tmp_path)
    settings = {"device": "cpu", "flip_axes": [0], "tolerance_mm": 2.0}
    first = predict(tmp_path, tmp_path, tmp_path / "run", images[:1], settings)
    assert first == {images[0]: tmp_path / "run" / PREDICTIONS / "a_seg.nii.gz"}
    assert predict(tmp_path, tmp_path, tmp_path / "run", images, settings).keys() == set(images)
    predict(tmp_path, tmp_path, tmp_path / "run", images, settings)
    assert [one["names"] for one in calls] == [["a.nii.gz"], ["b.nii.gz"]]
    assert calls[0]["configs"] == ["inference.yaml"]
    assert (calls[0]["device"], calls[0]["flip_axes"]) == ("cpu", [0])
    assert "tolerance_mm" not in calls[0]


def test_a_new_model_predicts_anew(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    images = scans(tmp_path)
    predict(tmp_path, tmp_path, tmp_path, images, {})
    later = (tmp_path / PREDICTIONS / "a_seg.nii.gz").stat().st_mtime + 10
    os.utime(tmp_path / "model.pt", (later, later))
    predict(tmp_path, tmp_path, tmp_path, images, {})
    assert len(calls) == 2


def test_without_weights_or_scans_nothing_is_made(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    images = scans(tmp_path)
    images[1].unlink()
    with pytest.raises(OSError, match=r"b\.nii\.gz"):
        predict(tmp_path, tmp_path, tmp_path / "run", images, {})
    (tmp_path / "model.pt").unlink()
    with pytest.raises(OSError, match=r"model\.pt"):
        predict(tmp_path, tmp_path, tmp_path / "run", images[:1], {})
    assert calls == []
    assert not (tmp_path / "run").exists()


def test_a_failing_workflow_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"console\.txt: the run ended with status"):
        predict(tmp_path, tmp_path, tmp_path / "run", scans(tmp_path), {})
