from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImaged, RandShiftIntensityd

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
