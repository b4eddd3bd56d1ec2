from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.data.leaks import check_leaks
from monai_ssl.utils.errors import UserError

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a list; the guard reads nothing else."""

    def write(data: dict[str, Any]) -> Path:
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps(data))
        return path

    return write


def case(name: str, **more: Any) -> dict[str, Any]:
    return {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz", **more}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("training", "unlabeled"),
        ("training", "validation"),
        ("training", "test"),
        ("unlabeled", "validation"),
        ("unlabeled", "test"),
        ("validation", "test"),
    ],
)
def test_the_same_image_in_two_parts_is_refused(write: Write, tmp_path: Path, one: str, other: str) -> None:
    same = {"image": f"{tmp_path}/images/../images/a.nii.gz", "label": "labels/a.nii.gz"}
    path = write({one: [case("a")], other: [case("b"), same]})
    with pytest.raises(UserError, match=rf"a\.nii\.gz is in `{one}` and in `{other}`"):
        check_leaks(path)


def test_an_image_behind_a_link_is_the_same_image(write: Write, tmp_path: Path) -> None:
    path = write({"training": [case("a")], "test": [case("b")]})
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.nii.gz").touch()
    check_leaks(path)
    (tmp_path / "images" / "b.nii.gz").symlink_to("a.nii.gz")
    with pytest.raises(UserError, match=r"b\.nii\.gz is in `training` and in `test`"):
        check_leaks(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("training", "validation"),
        ("training", "test"),
        ("unlabeled", "validation"),
        ("unlabeled", "test"),
        ("validation", "test"),
    ],
)
def test_a_patient_on_two_sides_is_refused(write: Write, one: str, other: str) -> None:
    path = write({one: [case("a", patient=5)], other: [case("b"), case("c", patient="5")]})
    with pytest.raises(UserError, match=rf"patient 5 is in `{one}` \(images/a.* and in `{other}` \(images/c"):
        check_leaks(path)


def test_a_patient_hides_behind_neither_order_nor_a_third_part(write: Write) -> None:
    parts = {"training": [case("a", patient="p")], "unlabeled": [case("b", patient="p")]}
    path = write({"test": [case("c", patient="p")], **parts})
    with pytest.raises(UserError, match=r"patient p is in `training` .* and in `test`"):
        check_leaks(path)


def test_unlabelled_scans_of_a_labelled_patient_are_fine(write: Write) -> None:
    check_leaks(
        write({"training": [case("a", patient="p")], "unlabeled": [case("b", patient="p")], "test": ["c", "d"]})
    )


@pytest.mark.parametrize("part", ["training", "unlabeled"])
def test_what_is_not_used_leaks_nothing(write: Write, part: str) -> None:
    path = write({part: [case("a"), case("b", patient="p"), case("c")], "test": [case("a"), case("d", patient="p")]})
    for exclude, told in (((), "a.nii.gz is in"), ("a", "patient p is in"), (["b"], "a.nii.gz is in")):
        with pytest.raises(UserError, match=told):
            check_leaks(path, exclude=exclude)
    check_leaks(path, exclude="[a,images/b.nii.gz]")
    with pytest.raises(UserError, match="`exclude` has 'd', and no case to train on has this name"):
        check_leaks(path, exclude="d")


def test_a_held_out_case_cannot_be_excluded_by_a_training_case_of_its_name(write: Write) -> None:
    path = write({"training": [case("a")], "validation": [case("b")], "test": [case("b"), {"image": "x/a.nii.gz"}]})
    with pytest.raises(UserError, match=r"b\.nii\.gz is in `validation` and in `test`"):
        check_leaks(path, exclude="a")
