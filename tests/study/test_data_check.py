from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.study import process
from monai_ssl.study.conduct import run_study
from monai_ssl.study.data_check import check_split, unchecked
from monai_ssl.utils.bundle_files import bundle_path
from monai_ssl.utils.errors import UserError
from tests.study.helpers import fake_command, open_study, write_cases, write_plan

SEGMENTATION = bundle_path("semi_segmentation")


def split(folder: Path) -> dict[str, Any]:
    parts = json.loads((folder / "dataset.json").read_text())
    return {**parts, "training": parts["training"][:8], "test": parts["training"][8:]}


def check(folder: Path, cases: dict[str, Any], bundle: Path = SEGMENTATION, **settings: Any) -> None:
    check_split(cases, folder / "dataset.json", bundle, settings, folder)


@pytest.mark.parametrize("file", ["c03.nii.gz", "l03.nii.gz", "c09.nii.gz", "l09.nii.gz", "u1.nii.gz"])
def test_every_part_is_read(tmp_path: Path, file: str) -> None:
    folder = write_cases(tmp_path / "data", unlabeled=2)
    check(folder, split(folder))
    (folder / file).write_bytes((folder / file).read_bytes()[:-9])
    with pytest.raises(UserError, match=rf"{file}: is cut off.*`monai-ssl check {folder}/dataset.json` lists all"):
        check(folder, split(folder))
    check(folder, split(folder), check="false")


def test_settings_of_the_trainings_count(tmp_path: Path) -> None:
    folder = write_cases(tmp_path / "data")
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), 2, np.uint8), np.eye(4)), folder / "l00.nii.gz")
    with pytest.raises(UserError, match="the list declares 0 to 1"):
        check(folder, split(folder))
    check(folder, split(folder), class_names=["background", "a", "b"])
    check(folder, split(folder), bundle_path("focalmix_detection"))
    with pytest.raises(UserError, match="has 1 channels instead of 2"):
        check(folder, split(folder), in_channels="2", class_names=["background", "a", "b"])


def test_a_bundle_without_the_setting_is_left_alone(tmp_path: Path) -> None:
    bundle = tmp_path / "old"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs" / "train.yaml").write_text("device: cpu")
    assert unchecked(bundle) == {}
    assert unchecked(SEGMENTATION) == {"check": False}
    folder = write_cases(tmp_path / "data")
    (folder / "c00.nii.gz").unlink()
    check(folder, split(folder), bundle)


def test_a_study_checks_once_and_its_runs_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def command(bundle: Path, configs: Any, settings: Any) -> list[str]:
        given.append((configs[0], settings.get("check")))
        return fake_command(bundle, configs, settings)

    monkeypatch.setattr(process, "bundle_command", command)
    plan = write_plan(tmp_path)
    run_study(plan, tmp_path / "out")
    assert given.count(("train.yaml", False)) == 8
    assert set(given) == {("train.yaml", False), ("evaluate.yaml", None)}
    finished, given[:] = {path: path.read_bytes() for path in (tmp_path / "out").rglob("run.json")}, []
    (tmp_path / "data" / "c00.nii.gz").unlink()
    run_study(plan, tmp_path / "out")  # nothing is left to train on it
    assert given == []
    assert {path: path.read_bytes() for path in finished} == finished


def test_a_broken_scan_refuses_a_study_before_anything_is_written(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    (tmp_path / "data" / "c05.nii.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"c05.nii.gz: is empty\."):
        run_study(plan, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_the_check_is_no_part_of_what_a_run_is_known_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, (spec, *_) = open_study(write_plan(tmp_path), tmp_path / "out")
    before = dict(study.record(spec).fingerprint)
    monkeypatch.setattr("monai_ssl.study.steps.unchecked", lambda bundle: {})
    assert dict(study.record(spec).fingerprint) == before
