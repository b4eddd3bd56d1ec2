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
            for ending in ("_seg.nii.gz", "_boxes.json"):
                (Path(settings["output_dir"]) / name.replace(".nii.gz", ending)).touch()

    monkeypatch.setattr(predictions, "run_bundle", run)
    return asked


def scans(folder: Path) -> list[Path]:
    (folder / "model.pt").touch()
    (folder / "configs").mkdir()
    (folder / "configs" / "inference.yaml").touch()
    paths = [folder / "a.nii.gz", folder / "b.nii.gz"]
    for path in paths:
        path.touch()
    return paths


def test_only_what_is_not_there_is_predicted(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    images = scans(tmp_path)
    settings = {"device": "cpu", "flip_axes": [0], "tolerance_mm": 2.0}
    first = predict(tmp_path, tmp_path / "model.pt", tmp_path / "run", images[:1], settings, "segmentation")
    assert first == {images[0]: tmp_path / "run" / PREDICTIONS / "a_seg.nii.gz"}
    assert predict(tmp_path, tmp_path / "model.pt", tmp_path / "run", images, settings, "segmentation").keys() == set(
        images
    )
    predict(tmp_path, tmp_path / "model.pt", tmp_path / "run", images, settings, "segmentation")
    assert [one["names"] for one in calls] == [["a.nii.gz"], ["b.nii.gz"]]
    assert calls[0]["configs"] == ["inference.yaml"]
    assert (calls[0]["device"], calls[0]["flip_axes"]) == ("cpu", [0])
    assert "tolerance_mm" not in calls[0]


def test_a_new_model_predicts_anew(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    images = scans(tmp_path)
    predict(tmp_path, tmp_path / "model.pt", tmp_path, images, {}, "segmentation")
    later = (tmp_path / PREDICTIONS / "a_seg.nii.gz").stat().st_mtime + 10
    os.utime(tmp_path / "model.pt", (later, later))
    predict(tmp_path, tmp_path / "model.pt", tmp_path, images, {}, "segmentation")
    assert len(calls) == 2


def test_without_weights_or_scans_nothing_is_made(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    images = scans(tmp_path)
    images[1].unlink()
    with pytest.raises(OSError, match=r"b\.nii\.gz"):
        predict(tmp_path, tmp_path / "model.pt", tmp_path / "run", images, {}, "segmentation")
    (tmp_path / "model.pt").unlink()
    with pytest.raises(OSError, match=r"model\.pt"):
        predict(tmp_path, tmp_path / "model.pt", tmp_path / "run", images[:1], {}, "segmentation")
    assert calls == []
    assert not (tmp_path / "run").exists()


def test_a_failing_workflow_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"console\.txt: the run ended with status"):
        predict(tmp_path, tmp_path / "model.pt", tmp_path / "run", scans(tmp_path), {}, "segmentation")


def test_of_a_detector_it_is_the_file_of_boxes(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    images = scans(tmp_path)
    settings = {"score_threshold": 0.1, "coordinates": "LPS"}
    made = predict(tmp_path, tmp_path / "model.pt", tmp_path, images, settings, "detection")
    assert [path.name for path in made.values()] == ["a_boxes.json", "b_boxes.json"]
    assert all(path.is_file() for path in made.values())
    assert calls[0]["score_threshold"] == 0.1
    assert "coordinates" not in calls[0]


def test_what_a_killed_workflow_leaves_is_not_taken_for_a_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(bundle: Path, configs: list[str], settings: dict[str, Any], *, console: Path) -> None:
        (Path(settings["output_dir"]) / "a_seg.nii.gz").write_bytes(b"half")
        raise UserError("killed")

    images = scans(tmp_path)
    monkeypatch.setattr(predictions, "run_bundle", killed)
    with pytest.raises(UserError, match="killed"):
        predict(tmp_path, tmp_path / "model.pt", tmp_path, images, {}, "segmentation")
    assert list((tmp_path / PREDICTIONS).iterdir()) == []
