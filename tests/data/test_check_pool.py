from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.data.check_facts import Fault
from monai_ssl.data.check_pool import exclude_line, ras_volume
from monai_ssl.data.check_run import check_data
from tests.data.check_files import write_list
from tests.data.scan_files import FILES, oblique_affine, voxels, write_scan
from tests.data.test_check_alike import scan

SPACING = np.diag([1.0, 1.0, 2.0, 1.0])


def write(folder: Path, name: str, volume: np.ndarray, affine: np.ndarray = SPACING) -> dict[str, str]:
    nib.save(nib.Nifti1Image(volume, affine), folder / f"{name}.nii.gz")
    return {"image": f"{name}.nii.gz"}


@pytest.fixture
def pool(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Six labelled, four unlabelled and two test scans, all different."""
    labels = write(tmp_path, "label", (scan(50) > 0).astype(np.uint8))["image"]
    names = {"training": "abcdef", "unlabeled": "mnop", "test": "yz"}
    made = {part: [write(tmp_path, name, scan(ord(name))) for name in some] for part, some in names.items()}
    for part in ("training", "test"):
        made[part] = [{**case, "label": labels} for case in made[part]]
    return tmp_path, made


def told(folder: Path, data: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(fault.kind, fault.part, fault.case) for fault in check_data(write_list(folder, data), pool=True).faults]


def test_a_pool_without_fault_is_silent(pool: tuple[Path, dict[str, Any]]) -> None:
    assert told(*pool) == []


def test_near_copies_are_told_and_a_leak_is_called_one(pool: tuple[Path, dict[str, Any]]) -> None:
    folder, data = pool
    turned = np.diag([-1.0, 1.0, 2.0, 1.0])
    data["unlabeled"] += [
        write(folder, "leak", 2 * scan(ord("y"))[::-1] + 5, turned),
        write(folder, "twin", scan(ord("m"))[:, ::-1] * 3),
        write(folder, "copy", scan(ord("z"))),
    ]
    result = check_data(write_list(folder, data), pool=True)
    copies = [fault for fault in result.faults if fault.kind not in ("far_intensity", "outlier")]
    assert {(fault.kind, fault.part, fault.case) for fault in copies} == {
        ("near_leak", "unlabeled", "leak"),
        ("near_duplicate", "unlabeled", "twin"),
        ("leak", "unlabeled", "copy"),
    }
    by_kind = {fault.kind: fault for fault in copies}
    assert by_kind["near_leak"].text.startswith("looks like y.nii.gz of `test` (correlation 1.00)")
    assert "leak" in by_kind["near_leak"].remedy
    assert {kind for kind, fault in by_kind.items() if fault.level == "error"} == {"leak"}
    assert exclude_line(result.faults) == '--exclude "[copy,leak,twin]"'


@pytest.mark.parametrize(
    ("name", "volume", "affine", "words"),
    [
        ("bright", 40 * scan(9) + 5000, SPACING, "has a mean intensity of 5"),
        ("wide", 40 * scan(9), SPACING, "has a deviation of intensities of"),
        ("thick", scan(9), np.diag([1.0, 1, 9, 1]), "has a spacing of 1 x 1 x 9 mm, the labelled scans 1 x 1 x 2 mm"),
        ("short", scan(9)[:, :20], SPACING, "has a field of view of 60 x 20 x 88 mm, the labelled scans 60 x 52 x 88"),
    ],
)
def test_scans_unlike_the_labelled_ones(
    pool: tuple[Path, dict[str, Any]], name: str, volume: np.ndarray, affine: np.ndarray, words: str
) -> None:
    folder, data = pool
    data["unlabeled"].append(write(folder, name, volume, affine))
    found = [fault for fault in check_data(write_list(folder, data), pool=True).faults if fault.kind == "outlier"]
    assert {fault.case for fault in found} == {name}
    assert any(fault.text.startswith(words) for fault in found)
    assert exclude_line(found) is None  # a person decides


def test_without_enough_labelled_scans_nothing_is_unlike_them(pool: tuple[Path, dict[str, Any]]) -> None:
    folder, data = pool
    data["unlabeled"].append(write(folder, "thick", scan(9), np.diag([1.0, 1, 9, 1])))
    data["training"] = data["training"][:4]
    assert not [kind for kind, _, _ in told(folder, data) if kind == "outlier"]


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_turned_to_ras(tmp_path: Path, name: str) -> None:
    array = voxels()
    flipped = oblique_affine() @ np.diag([-1.0, -1.0, 1.0, 1.0])
    path = write_scan(tmp_path / name, array, flipped)
    assert np.array_equal(ras_volume(str(path)), array[::-1, ::-1].astype(np.float32))


def test_what_is_not_finite_is_zero_and_the_first_channel_is_taken(tmp_path: Path) -> None:
    array = np.stack([scan(0), scan(1)], -1)
    array[0, 0, 0, 0] = np.nan
    write(tmp_path, "a", array, np.eye(4))
    found = ras_volume(str(tmp_path / "a.nii.gz"))
    assert found[0, 0, 0] == 0
    assert np.array_equal(found[1:], array[1:, :, :, 0])


def test_only_what_is_trained_on_can_be_left_out() -> None:
    faults = [Fault("same_content", "", "validation", "v"), Fault("outlier", "", "unlabeled", "o")]
    assert exclude_line(faults) is None
    assert exclude_line([*faults, Fault("near_duplicate", "", "training", "t")]) == '--exclude "[t]"'
    twins = [Fault("duplicate", "", "unlabeled", "scan", "b/scan.nii.gz")]
    files = ["a/scan.nii.gz", "b/scan.nii.gz"]
    assert exclude_line(twins, files) == '--exclude "[b/scan.nii.gz]"'
