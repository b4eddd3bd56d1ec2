from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_ssl.data.cases import load_cases, load_images
from monai_ssl.data.exclude import names_of
from monai_ssl.data.images import images_to_learn_from
from monai_ssl.utils.errors import UserError
from tests.data.check_files import make_data, write_list


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_list(tmp_path, make_data(tmp_path)[0])


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, ()),
        ([], ()),
        ("", ()),
        ("[]", ()),
        ("a", ("a",)),
        ("[a, b]", ("a", "b")),
        ("a,b", ("a", "b")),
        (("a", "b"), ("a", "b")),
        (["a.nii", 7], ("a.nii", "7")),
    ],
)
def test_a_setting_as_the_command_line_gives_it(given: Any, names: tuple[str, ...]) -> None:
    assert names_of(given) == names


def test_no_names() -> None:
    with pytest.raises(UserError, match=r"`exclude` must be names of cases, as \[case_1,case_2\], got 3\."):
        names_of(3)


def test_cases_are_left_out_by_name_and_by_path(path: Path) -> None:
    exclude = ["training1", "images/training4.nii.gz", "unlabeled0"]
    (path.parent / "images/training1.nii.gz").unlink()  # of a case that nobody reads
    assert [Path(case["image"]).name[8] for case in load_cases(path, "training", exclude=exclude)] == list("0235")
    (unlabeled,) = load_cases(path, "unlabeled", exclude=exclude)
    assert unlabeled["image"].endswith("unlabeled1.nii.gz")
    assert len(load_images(path, parts=("training", "unlabeled"), exclude=exclude)) == 5
    assert len(images_to_learn_from(path, None, exclude="[training1]")) == 7


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("training9", "; did you mean 'training[0-9]'"),
        ("images/unlabeled0.nii", "; did you mean 'images/unlabeled0.nii.gz'"),
        ("test0", ""),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(path: Path, name: str, hint: str) -> None:
    message = rf"{path}: `exclude` has '{name}', and no case to train on has this name{hint}"
    for call in (lambda: load_cases(path, "unlabeled", exclude=[name]), lambda: load_images(path, exclude=name)):
        with pytest.raises(UserError, match=message):
            call()


def test_scans_of_a_folder(path: Path) -> None:
    folder = path.parent / "images"
    assert len(images_to_learn_from(None, folder)) == 12
    found = images_to_learn_from(None, folder, exclude=["test0", str(folder / "test1.nii.gz")])
    assert len(found) == 10
    with pytest.raises(UserError, match=rf"{folder}: `exclude` has 'tset0'.* did you mean 'test0'"):
        images_to_learn_from(None, folder, exclude=["tset0"])
