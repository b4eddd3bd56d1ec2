from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import NibabelReader
from monai.transforms import Compose, Lambda, LoadImaged, RandShiftIntensityd

from monai_ssl.data.scans import ScanDataset
from monai_ssl.utils.errors import UserError


@pytest.fixture
def cases(tmp_path: Path) -> list[dict[str, str]]:
    paths = [tmp_path / f"scan_{index}.nii.gz" for index in range(3)]
    for index, path in enumerate(paths):
        nib.save(nib.Nifti1Image(np.full((4, 5, 6), index, np.float32), np.eye(4)), path)
    return [{"image": str(path)} for path in paths]


def transform() -> Compose:
    return Compose([LoadImaged(keys="image"), RandShiftIntensityd(keys="image", prob=1.0, offsets=1.0)])


@pytest.mark.parametrize("cache_rate", [0.0, 0.5, 1.0])
def test_cached_or_not_a_case_is_the_same(cases: list[dict[str, str]], cache_rate: float) -> None:
    plain, cached = ScanDataset(cases, transform()), ScanDataset(cases, transform(), cache_rate=cache_rate)
    for index in range(len(cases)):
        images = []
        for dataset in (plain, cached):
            dataset.transform.set_random_state(seed=index)
            images.append(dataset[index]["image"])
        assert torch.equal(*images)


def test_a_cached_scan_is_decoded_once(cases: list[dict[str, str]]) -> None:
    dataset = ScanDataset(cases, transform(), cache_rate=1.0)
    for case in cases:
        Path(case["image"]).unlink()
    assert [tuple(dataset[index]["image"].shape) for index in range(3)] == [(4, 5, 6)] * 3


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
@pytest.mark.parametrize("fault", ["truncated", "text", "missing"])
def test_a_broken_scan_is_named(cases: list[dict[str, str]], cache_rate: float, fault: str) -> None:
    broken = Path(cases[1]["image"])
    content = broken.read_bytes()
    if fault == "truncated":
        broken.write_bytes(content[: len(content) // 2])
    elif fault == "text":
        broken.write_bytes(gzip.compress(b"not an image"))
    else:
        broken.unlink()
    with pytest.raises(UserError, match=rf"{broken.name}: cannot be read and prepared .*leave the case out") as caught:
        ScanDataset(cases, transform(), cache_rate=cache_rate)[1]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cache_rate", [-0.1, 1.5])
def test_the_share_is_a_share(cases: list[dict[str, str]], cache_rate: float) -> None:
    with pytest.raises(UserError, match=f"cache_rate must be in 0 to 1, got {cache_rate}"):
        ScanDataset(cases, transform(), cache_rate=cache_rate)


def labelled(tmp_path: Path, label: np.ndarray, image: np.ndarray | None = None) -> list[dict[str, str]]:
    image = np.zeros((4, 5, 6), np.float32) if image is None else image
    for name, array in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    return [{name: str(tmp_path / f"{name}.nii.gz") for name in ("image", "label")}]


LOAD = Compose([LoadImaged(keys=["image", "label"], ensure_channel_first=True)])


@pytest.mark.parametrize("value", [3.0, -1.0, 0.5, np.nan])
def test_a_label_that_is_no_class_is_named_with_its_file(value: float, tmp_path: Path) -> None:
    label = np.zeros((4, 5, 6), np.float32)
    label[1, 2, 3] = value
    dataset = ScanDataset(labelled(tmp_path, label), LOAD, classes=3)
    with pytest.raises(UserError, match=rf"label\.nii\.gz: has the value {value:g}; .* from 0 to 2 \(class_names\)"):
        dataset[0]
    assert ScanDataset(labelled(tmp_path, np.full((4, 5, 6), 2.0)), LOAD, classes=3)[0]["label"].max() == 2


def test_an_image_of_other_channels_is_named(tmp_path: Path) -> None:
    cases = labelled(tmp_path, np.zeros((4, 5, 6)), np.zeros((4, 5, 6, 2), np.float32))
    with pytest.raises(UserError, match=r"image\.nii\.gz: has 2 channels, the network takes 1 \(in_channels\)"):
        ScanDataset(cases, LOAD, channels=1)[0]
    assert ScanDataset(cases, LOAD, channels=2)[0]["image"].shape == (2, 4, 5, 6)


def test_a_slice_is_no_scan(tmp_path: Path) -> None:
    cases = labelled(tmp_path, np.zeros((4, 5)), np.zeros((4, 5), np.float32))
    with pytest.raises(UserError, match=r"image\.nii\.gz: is 2D \(4 x 5 voxels\), and scans are 3D"):
        ScanDataset(cases, LOAD, channels=1)[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_where_that_is_asked(value: float, tmp_path: Path) -> None:
    image = np.zeros((4, 5, 6), np.float32)
    good = labelled(tmp_path, np.zeros((4, 5, 6)), image)
    assert ScanDataset(good, LOAD, finite=True)[0]["image"].shape == (1, 4, 5, 6)
    image[1, 2, 3] = value
    cases = labelled(tmp_path, np.zeros((4, 5, 6)), image)
    with pytest.raises(UserError, match=r"image\.nii\.gz: has voxels that are not finite"):
        ScanDataset(cases, LOAD, finite=True)[0]
    assert not np.isfinite(ScanDataset(cases, LOAD)[0]["image"]).all()


def refuses(case: dict[str, Any]) -> Any:
    raise UserError(f"{case['image'].meta['filename_or_obj']}: box 1 lies outside its image.")


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_what_a_transform_tells_a_user_is_told_as_it_is(cases: list[dict[str, str]], cache_rate: float) -> None:
    with pytest.raises(UserError) as caught:
        ScanDataset(cases, Compose([LoadImaged("image"), Lambda(refuses)]), cache_rate)[0]
    assert str(caught.value) == f"{cases[0]['image']}: box 1 lies outside its image."


@pytest.mark.parametrize("content", [b"no scan", b"", b"\x1f\x8b\x08\x00broken"])
def test_the_line_about_a_broken_file_is_short(tmp_path: Path, content: bytes) -> None:
    """MONAI's message holds the tracebacks of all its readers."""
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(content)
    transform = Compose([LoadImaged("image", reader=NibabelReader, ensure_channel_first=True)])
    with pytest.raises(UserError) as caught:
        ScanDataset([{"image": str(path)}], transform)[0]
    line = str(caught.value)
    assert "Traceback" not in line
    assert len(line) < 400 + 2 * len(str(path))
    assert line.startswith(f"{path}: cannot be read and prepared (")
    assert line.endswith("Repair the file or leave the case out.")
