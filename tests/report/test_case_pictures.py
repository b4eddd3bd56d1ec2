from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from monai_ssl.report.case_pictures import list_case
from monai_ssl.report.page import Written, write_report
from tests.report.pages import parse


def test_without_one_models_weights_the_others_slices_are_shown(
    real_study: Path, real_page: Written, tmp_path: Path
) -> None:
    copy = shutil.copytree(real_study, tmp_path / "study")
    (copy / "runs/1/supervised/seed0/model.pt").unlink()
    written = write_report(copy, overwrite=True, device="cpu")
    assert written.notes == ["supervised could not predict the cases again, so its slices are left out."]
    page = parse(written.path)
    assert len(page.all("img")) == len(parse(real_page.path).all("img")) - 3
    assert page.all("canvas")


@pytest.mark.usefixtures("real_page")
def test_without_the_scans_the_rest_is_shown(real_study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(real_study, tmp_path / "study")
    held_out = copy / "splits/held_out.json"
    content = json.loads(held_out.read_text())
    for case in content["test"]:
        case["image"] = f"gone/{case['image']}"
    held_out.write_text(json.dumps(content))
    written = write_report(copy, overwrite=True, device="cpu")
    page = parse(written.path)
    assert any("are not where they were or cannot be read" in note for note in written.notes)
    assert page.all("canvas") == []
    assert page.all("img") == []
    assert "Case by case" in page.text("h2")


@pytest.mark.usefixtures("real_page")
def test_a_case_whose_files_do_not_fit_is_told_and_the_others_are_shown(real_study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(real_study, tmp_path / "study")
    worst = next(one for one in parse(copy / "report.html").text("span") if one.endswith(".nii.gz"))
    for path in copy.glob(f"runs/*/*/*/report/predictions/{worst.removesuffix('.nii.gz')}_seg.nii.gz"):
        path.write_bytes(path.read_bytes()[:200])
    written = write_report(copy, overwrite=True, device="cpu")
    assert written.notes == [f"{worst} cannot be shown, since its files cannot be read or do not fit."]
    assert [one for one in parse(written.path).text("h3") if one in ("Worst", "Median", "Best")] == ["Median", "Best"]


def test_a_case_is_listed_only_where_its_files_can_be_opened(real_study: Path) -> None:
    data = real_study.parent / "data"
    entry = json.loads((data / "dataset.json").read_text())["training"][0]
    image, truth = list_case(data, entry, "segmentation") or (None, {})
    assert (image, truth["label"]) == (data / entry["image"], data / entry["label"])
    boxed = {"image": entry["image"], "box": [], "label": []}
    assert list_case(data, boxed, "detection") == (data / entry["image"], boxed)
    for wrong in (boxed, {**entry, "label": "gone.nii.gz"}, {**entry, "image": "gone.nii.gz"}, {}, None, "text"):
        assert list_case(data, wrong, "segmentation") is None
