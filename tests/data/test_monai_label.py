from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImaged, RandShiftIntensityd

from monai_ssl.data.monai_label import StudyDataset, all_studies, check_labels, study_path, unlabeled_studies
from monai_ssl.data.scans import ScanDataset
from monai_ssl.data.two_stream import TwoStreamLoader
from monai_ssl.utils.errors import UserError


class Store:
    """A datastore as MONAI Label's: names, some with a label, and where the files are."""

    def __init__(self, folder: Path, labelled: set[str]) -> None:
        self.files = {path.name.split(".")[0]: path for path in folder.glob("*.nii.gz")}
        self.labelled = labelled

    def list_images(self) -> list[str]:
        return list(self.files)

    def get_unlabeled_images(self) -> list[str]:
        return [name for name in self.files if name not in self.labelled]

    def get_image_uri(self, name: str) -> str:
        return str(self.files[name])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(4):
        image = np.full((4, 5, 6), index, np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / f"study_{index}.nii.gz")
    return tmp_path


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """This process belongs to a server whose study 1 has a label."""
    store = Store(folder, {"study_1"})
    names = ("monailabel", "monailabel.interfaces", "monailabel.interfaces.utils", "monailabel.interfaces.utils.app")
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    app = type("App", (), {"datastore": lambda self: store})()
    sys.modules[names[-1]].app_instance = lambda: app  # type: ignore[attr-defined]
    monkeypatch.setenv("MONAI_LABEL_APP_DIR", "/app")
    return store


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONAI_LABEL_APP_DIR", raising=False)


def names(cases: list[dict[str, str]]) -> list[str]:
    assert all(set(case) == {"image"} for case in cases)
    return [Path(case["image"]).name for case in cases]


def test_unlabelled_studies_are_images_alone(server: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="monai_ssl"):
        found = unlabeled_studies()
    assert names(found) == ["study_0.nii.gz", "study_2.nii.gz", "study_3.nii.gz"]
    assert caplog.messages == ["learning from 3 unlabelled studies of this server"]


def test_all_studies_have_the_labelled_ones_too(server: Store) -> None:
    assert names(all_studies()) == [f"study_{index}.nii.gz" for index in range(4)]


def test_a_dicomweb_store_names_a_lasting_file_from_the_second_time_on(server: Store, tmp_path: Path) -> None:
    """As MONAI Label's does: the first answer is a temporary file, which another process may find gone."""
    asked: list[str] = []

    def get_image_uri(name: str) -> str:
        asked.append(name)
        return str(server.files[name]) if asked.count(name) > 1 else str(tmp_path / "temporary.nii.gz")

    server.get_image_uri = get_image_uri  # type: ignore[method-assign]
    assert study_path(server, "study_2") == server.files["study_2"]
    assert [case["image"] for case in unlabeled_studies()] == [
        str(server.files[f"study_{number}"]) for number in (0, 2, 3)
    ]


def test_a_study_that_is_gone_is_left_out_and_named(
    server: Store, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "study_2.nii.gz").unlink()
    with caplog.at_level(logging.INFO, logger="monai_ssl"):
        assert names(unlabeled_studies()) == ["study_0.nii.gz", "study_3.nii.gz"]
    assert caplog.messages == [
        "1 studies are gone and are skipped: study_2.nii.gz",
        "learning from 2 unlabelled studies of this server",
    ]


def test_outside_of_a_server_there_are_none_and_nothing_is_asked_for(
    outside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "monailabel", None)  # an import would fail
    assert unlabeled_studies() == all_studies() == []
    check_labels([])


def test_what_a_server_cannot_train_on_is_said(server: Store) -> None:
    check_labels([{"image": "a", "label": "b"}])
    with pytest.raises(UserError, match="no study has a label yet: label one, submit it, and train again"):
        check_labels([])
    server.files.clear()
    assert unlabeled_studies() == []
    with pytest.raises(UserError, match=r"no study to learn from. Put NIfTI files into the server's studies folder"):
        all_studies()


def transform() -> Compose:
    return Compose([LoadImaged(keys="image"), RandShiftIntensityd(keys="image", prob=1.0, offsets=0.4)])


def cases(folder: Path) -> list[dict[str, str]]:
    return [{"image": str(path)} for path in sorted(folder.glob("*.nii.gz"))]


def spoil(folder: Path, *numbers: int) -> None:
    for number in numbers:
        path = folder / f"study_{number}.nii.gz"
        path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_a_broken_study_is_named_once_and_the_next_one_taken(
    server: Store, folder: Path, cache_rate: float, caplog: pytest.LogCaptureFixture
) -> None:
    data = cases(folder)
    spoil(folder, 1, 2)
    (folder / "study_2.nii.gz").unlink()
    with caplog.at_level(logging.WARNING, logger="monai_ssl"):
        dataset = StudyDataset(data, transform(), cache_rate=cache_rate)
        for _ in range(2):
            assert [round(dataset[index]["image"].mean().item()) for index in range(4)] == [0, 3, 3, 3]
    told = [message for message in caplog.messages if "skipped" in message]
    assert len(told) == 2
    for number, message in zip((1, 2), told, strict=True):
        assert f"study_{number}.nii.gz: cannot be read and prepared" in message
        assert message.endswith("It is skipped.")


def test_where_all_are_broken_one_of_them_is_named(server: Store, folder: Path) -> None:
    data = cases(folder)
    spoil(folder, 0, 1, 2, 3)
    dataset = StudyDataset(data, transform())
    for _ in range(2):
        with pytest.raises(UserError, match=r"none of 4 studies can be used. The last: .*study_\d\.nii\.gz: cannot be"):
            dataset[0]


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_outside_of_a_server_a_broken_scan_is_an_error(outside: None, folder: Path, cache_rate: float) -> None:
    spoil(folder, 1)
    with pytest.raises(UserError, match=r"study_1.nii.gz: cannot be read and prepared .*leave the case out.$"):
        StudyDataset(cases(folder), transform(), cache_rate=cache_rate)[1]


@pytest.mark.parametrize("inside", [False, True])
def test_where_nothing_is_broken_it_is_a_scan_dataset(
    folder: Path, server: Store, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not inside:
        monkeypatch.delenv("MONAI_LABEL_APP_DIR")
    batches = [
        next(iter(TwoStreamLoader(kind(cases(folder), transform()), labeled_batch_size=4, unlabeled_batch_size=0)))
        for kind in (ScanDataset, StudyDataset)
    ]
    assert torch.equal(*(batch["labeled"]["image"] for batch in batches))


def labelled(folder: Path, value: int) -> list[dict[str, Any]]:
    path = folder / "labels" / "study_0.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(np.full((4, 5, 6), value, np.uint8), np.eye(4)), path)
    return [{"image": case["image"], "label": str(path)} for case in cases(folder)[:2]]


def test_a_label_that_is_no_class_ends_the_training_inside_too(server: Store, folder: Path) -> None:
    """A person must correct it; a scan of too many channels without a label is passed over."""
    both = Compose([LoadImaged(keys=["image", "label"], allow_missing_keys=True)])
    with pytest.raises(UserError, match=r"study_0\.nii.gz: has the value 7; labels must be whole numbers from 0 to 1"):
        StudyDataset(labelled(folder, 7), both, classes=2)[0]
    first = Compose([LoadImaged(keys="image", ensure_channel_first=True)])
    with pytest.raises(UserError, match=r"none of 4 studies can be used. .* has 1 channels, the network takes 2"):
        StudyDataset(cases(folder), first, channels=2)[0]
