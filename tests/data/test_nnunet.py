from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.data.cases import load_cases, load_images
from monai_ssl.data.check_list import read_listing
from monai_ssl.data.datalist import channel_count, class_names
from monai_ssl.data.images import images_to_learn_from
from monai_ssl.data.nnunet import nnunet_parts, refuse_unsupported_labels
from monai_ssl.data.split import write_split
from monai_ssl.utils.errors import UserError

LABELS = {"background": 0, "liver": 1, "tumour": 2}


def make(folder: Path, channels: int = 2, ending: str = ".nii.gz", **said: Any) -> Path:
    """Three labelled cases, one without a label, a labelled and an unlabelled test case."""
    for case in ("a", "b", "c_1", "d"):
        touch(folder, *(f"imagesTr/{case}_000{number}{ending}" for number in range(channels)))
    touch(folder, *(f"labelsTr/{case}{ending}" for case in ("a", "b", "c_1")), f"labelsTs/t{ending}")
    touch(folder, *(f"imagesTs/{case}_000{number}{ending}" for case in "tu" for number in range(channels)))
    names = {str(number): f"T{number}" for number in range(channels)}
    content = {"channel_names": names, "labels": LABELS, "numTraining": 3, "file_ending": ending, **said}
    (folder / "dataset.json").write_text(
        json.dumps({key: value for key, value in content.items() if value is not None})
    )
    return folder


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def relative(folder: Path, cases: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{key: str(Path(path).relative_to(folder)) for key, path in case.items()} for case in cases]


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_a_folder_is_read_as_it_is(ending: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "Dataset004_X", ending=ending)
    touch(folder, "imagesTr/._a_0000" + ending, "imagesTr/notes.txt")
    training = [
        {"image": f"imagesTr/{case}_0000{ending}", "label": f"labelsTr/{case}{ending}"} for case in ("a", "b", "c_1")
    ]
    assert relative(folder, load_cases(None, "training", folder)) == training
    assert relative(folder, load_cases(None, "unlabeled", folder)) == [{"image": f"imagesTr/d_0000{ending}"}]
    test = [{"image": f"imagesTs/t_0000{ending}", "label": f"labelsTs/t{ending}"}]
    assert relative(folder, load_cases(folder / "dataset.json", "test")) == test
    assert load_cases(None, "validation", folder) == []
    assert class_names(None, folder) == ["background", "liver", "tumour"]
    assert channel_count(None, folder) == 2
    assert len(load_images(None, folder)) == 5
    # a test case never gets into a training, with a label or without one
    learned = relative(folder, images_to_learn_from(None, folder))
    assert learned == [{"image": f"imagesTr/{case}_0000{ending}"} for case in ("a", "b", "c_1", "d")]


def test_a_split_and_a_check_of_a_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "Dataset004_X")
    split = write_split(folder, tmp_path / "split.json", labels=1, validation=1)
    assert [len(split[part]) for part in ("training", "unlabeled", "validation", "test")] == [1, 2, 1, 1]
    assert channel_count(tmp_path / "split.json") == 2
    assert len(load_cases(tmp_path / "split.json", "unlabeled", folder)) == 2
    listing = read_listing(folder / "dataset.json")
    assert (len(listing.cases), listing.channels, listing.faults) == (5, 2, [])
    assert list(listing.classes.values()) == list(LABELS)


@pytest.mark.parametrize("number", [3, 4, None])
def test_the_number_of_cases_with_or_without_those_that_have_no_label(number: int | None, tmp_path: Path) -> None:
    assert len(load_cases(None, "training", make(tmp_path, numTraining=number))) == 3


def test_a_folder_without_test_cases(tmp_path: Path) -> None:
    folder = make(tmp_path)
    for file in (*folder.glob("imagesTs/*"), *folder.glob("labelsTs/*")):
        file.unlink()
    assert load_cases(None, "test", folder) == []
    (folder / "imagesTs").rmdir()
    assert load_cases(None, "test", folder) == []


def test_the_file_may_name_the_cases_itself(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"elsewhere/scan{number}_000{channel}.nii.gz" for number in (1, 2) for channel in (0, 1)),
        "l.nii.gz",
    )
    named = {
        "one": {"images": ["elsewhere/scan1_0000.nii.gz", "elsewhere/scan1_0001.nii.gz"], "label": "l.nii.gz"},
        "two": {"images": ["elsewhere/scan2_0000.nii.gz", "elsewhere/scan2_0001.nii.gz"]},
    }
    folder = make(tmp_path, dataset=named, numTraining=2)
    found = relative(folder, load_cases(None, "training", folder))
    assert found == [{"image": "elsewhere/scan1_0000.nii.gz", "label": "l.nii.gz"}]
    assert relative(folder, load_cases(None, "unlabeled", folder)) == [{"image": "elsewhere/scan2_0000.nii.gz"}]
    assert len(load_cases(None, "test", folder)) == 1


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ([], "`dataset` must be an object of cases"),
        (
            {"one": {"images": "a.nii.gz"}},
            r"`dataset` must give one `images`, a list of one path for each of 2 channels",
        ),
        ({"one": {"images": ["a_0000.nii.gz"]}}, "a list of one path for each of 2 channels"),
        (
            {"one": {"images": ["t1.nii.gz", "t2.nii.gz"]}},
            r"must be <name>_0000, <name>_0001, \.\. in one folder, got t1",
        ),
    ],
)
def test_cases_that_the_file_names_wrongly(named: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_cases(None, "training", make(tmp_path, dataset=named))


@pytest.mark.parametrize(
    ("touched", "removed", "said", "message"),
    [
        (None, "imagesTr/b_0001.nii.gz", {}, r"imagesTr/b_0001\.nii\.gz: is missing: `channel_names` names 2 channels"),
        (None, "imagesTs/u_0000.nii.gz", {}, r"imagesTs/u_0000\.nii\.gz: is missing"),
        ("imagesTr/b_0002.nii.gz", None, {}, r"imagesTr/b_0002\.nii\.gz: is one too many"),
        ("imagesTr/b.nii.gz", None, {}, r"imagesTr/b\.nii\.gz: has no channel in its name"),
        (
            "labelsTr/e.nii.gz",
            None,
            {},
            r"labelsTr/e\.nii\.gz: is a label without an image: there is no imagesTr/e_0000",
        ),
        ("labelsTs/e.nii.gz", None, {}, r"labelsTs/e\.nii\.gz: is a label without an image"),
        (None, None, {"numTraining": 5}, "`numTraining` is 5, and there are 3 cases with a label and 1 without"),
        (None, None, {"file_ending": ".nrrd"}, r"imagesTr: holds no case: there is no file <case>_0000\.nrrd"),
        (None, None, {"file_ending": ".png"}, r"`file_ending` must be one of \.nii\.gz, .* got '\.png'"),
        (None, None, {"file_ending": None}, "`file_ending` must be one of .* got None"),
        (None, None, {"channel_names": None}, "`channel_names` must name the channels"),
    ],
)
def test_faults_of_a_folder(
    touched: str | None, removed: str | None, said: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = make(tmp_path, **said)
    if touched:
        touch(folder, touched)
    if removed:
        (folder / removed).unlink()
    with pytest.raises(UserError, match=message) as told:
        load_cases(None, "training", folder)
    assert "\n" not in str(told.value)
    faults = read_listing(folder / "dataset.json").faults
    assert [fault.kind for fault in faults] == ["list"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({**LABELS, "whole": [1, 2]}, r"has the region 'whole' of the values \[1, 2\]: regions that overlap cannot be"),
        ({**LABELS, "ignore": 3}, r"has `ignore` \(3\): voxels cannot be left out of the loss"),
    ],
)
def test_labels_that_are_not_supported(labels: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = make(tmp_path, labels=labels)
    with pytest.raises(UserError, match=message):
        load_cases(None, "training", folder)
    with pytest.raises(UserError, match=message):
        class_names(None, folder)
    with pytest.raises(UserError, match=message):
        write_split(folder, tmp_path / "split.json", labels=1)
    assert [fault.kind for fault in read_listing(folder / "dataset.json").faults] == ["labels"]
    # whoever learns without labels may
    assert len(images_to_learn_from(None, folder)) == 4


def test_plain_labels_and_none_pass(tmp_path: Path) -> None:
    for labels in (LABELS, {"0": "background"}, None, "labels"):
        refuse_unsupported_labels(tmp_path, labels)


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder imagesTr beside it"):
        nnunet_parts(tmp_path / "dataset.json", {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz"})
