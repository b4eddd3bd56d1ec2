from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.data import check_processes, check_scans
from monai_ssl.data.cases import load_cases
from monai_ssl.data.check_facts import ScanFacts
from monai_ssl.data.check_scan import read_facts
from monai_ssl.data.phantoms import PHANTOM_CLASSES, write_phantoms
from monai_ssl.utils.errors import UserError
from tests.data.check_files import BROKEN, Made, image, image_voxels, make_data, write_list

CLASSES = ("background", "liver", "tumour")
PARTS = ("training", "unlabeled", "validation")


def made(folder: Path) -> tuple[Path, dict[str, list[dict[str, Any]]], list[Made]]:
    """A list, what a training gets of it, and its cases of ``training``."""
    data, cases = make_data(folder)
    path = write_list(folder, data)
    return path, {part: load_cases(path, part) for part in PARTS}, cases


def test_clean_cases_pass_in_silence_and_nothing_else_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, parts, _ = made(tmp_path)
    asked: list[str] = []

    def read(file: str, *more: Any) -> ScanFacts:
        asked.append(str(Path(file).relative_to(tmp_path)))
        return read_facts(file, *more)

    monkeypatch.setattr(check_processes, "read_facts", read)
    parts["unlabeled"][0]["label"] = str(tmp_path / "labels" / "unlabeled0.nii.gz")
    with caplog.at_level(logging.INFO):
        check_scans(parts, datalist=path, channels=1, classes=CLASSES)
    assert not caplog.records
    assert len(asked) == 6 * 2 + 2 + 2 * 2
    assert not [file for file in asked if "test" in file or "labels/unlabeled" in file]


def test_the_first_error_is_named_and_the_others_counted(tmp_path: Path) -> None:
    path, parts, cases = made(tmp_path)
    BROKEN["half"][1](cases[2])
    file = cases[2].path("image")
    with pytest.raises(UserError) as one:
        check_scans(parts, datalist=path, channels=1, classes=CLASSES)
    again = "Copy or export the file again from its source."
    assert str(one.value) == (
        f"{file}: is cut off: its gzip stream has no end. {again} `monai-ssl check {path}` lists all."
    )
    BROKEN["negative class"][1](cases[4])
    with pytest.raises(UserError) as two:
        check_scans(parts, dataset_dir=tmp_path, channels=1, classes=CLASSES)
    assert str(two.value).endswith(f"{again} There is 1 more error. `monai-ssl check {tmp_path}` lists all.")
    BROKEN["sheared"][1](cases[5])
    with pytest.raises(UserError, match=r"There are 3 more errors\. `monai-ssl check a --dataset_dir b` lists all\.$"):
        check_scans(parts, datalist="a", dataset_dir="b")
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"source\. There are 3 more errors\.$"):
        check_scans(parts, dataset_dir=tmp_path)


def test_a_held_out_scan_among_the_unlabelled_ones_is_a_leak(tmp_path: Path) -> None:
    path, parts, _ = made(tmp_path)
    copy = tmp_path / "images" / "copy.nii.gz"
    copy.write_bytes((tmp_path / "images" / "validation0.nii.gz").read_bytes())
    parts["unlabeled"].append({"image": str(copy)})
    with pytest.raises(UserError, match=rf"^{copy}: has the voxels of \S+/validation0.nii.gz in `validation`\. Leave"):
        check_scans(parts, datalist=path)


def test_what_the_network_takes_is_what_counts(tmp_path: Path) -> None:
    _, parts, _ = made(tmp_path)
    with pytest.raises(UserError, match="has 1 channels instead of 2"):
        check_scans(parts, channels=2)
    with pytest.raises(UserError, match=r"has 2 \(27 voxels\), and the list declares 0 to 1"):
        check_scans(parts, classes=CLASSES[:2])
    check_scans(parts)


def test_boxes_are_looked_at(tmp_path: Path) -> None:
    _, parts, _ = made(tmp_path)
    entry = {"image": parts["training"][0]["image"], "box": [[500.0, 0, 0, 1, 1, 1]], "label": [0]}
    with pytest.raises(UserError, match=r"has box 1, .* lies outside its image"):
        check_scans({"training": [entry]})


def test_warnings_are_logged_a_line_a_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, parts, cases = made(tmp_path)
    BROKEN["blank"][1](cases[0])
    for case in cases[1:3]:
        BROKEN["nothing labelled"][1](case)
    with caplog.at_level(logging.INFO):
        check_scans(parts, classes=CLASSES)
    told = [record.getMessage() for record in caplog.records]
    assert [re.sub(r"^.*/", "", line) for line in told] == [
        "training0.nii.gz: is 3 everywhere. Look at the scan, and leave it out if it is blank.",
        "training1.nii.gz: is 0 everywhere. Look whether the case has been labelled. (1 more like it.)",
    ]
    caplog.clear()
    image(lambda: 1000 * image_voxels(95), affine=np.diag([9.0, 9, 9, 1]))(cases[5])
    parts["validation"][0]["label"] = parts["validation"][1]["label"]
    parts["training"] = [*parts["training"][:3], *parts["training"][:1]]
    parts["unlabeled"].append({"image": str(cases[5].path("image"))})
    check_scans(parts, classes=CLASSES)
    assert len(caplog.records) == 4
    assert caplog.messages[-1] == "there are 2 more kinds of warnings; `monai-ssl check` lists them."


def test_a_label_that_lost_its_side_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_phantoms(tmp_path / "data", cases=3, modality="CT", size=(32, 32, 24))
    cases = load_cases(path, "training")
    label = nib.load(cases[2]["label"])
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj)[::-1], label.affine), cases[2]["label"])
    with caplog.at_level(logging.INFO):
        check_scans({"training": cases}, classes=PHANTOM_CLASSES)
    (line,) = caplog.messages
    assert re.match(rf"{cases[2]['label']}: fits its image better mirrored left to right \(by 0\.\d+\)\. Look", line)


def test_nothing_is_checked_inside_monai_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, parts, cases = made(tmp_path)
    cases[0].path("image").write_bytes(b"")
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", str(tmp_path))
    check_scans(parts)
