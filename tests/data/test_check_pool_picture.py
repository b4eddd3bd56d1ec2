from __future__ import annotations

from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np

from monai_ssl.data.check_facts import Fault
from monai_ssl.data.check_pool_picture import _slices, draw_suspects


def test_the_most_suspicious_come_first_and_each_scan_once(tmp_path: Path) -> None:
    paths = {}
    for number in range(30):
        name = f"{number}.nii.gz"
        nib.save(nib.Nifti1Image(np.random.default_rng(number).random((9, 12, 5)), np.eye(4)), tmp_path / name)
        paths["unlabeled", name] = str(tmp_path / name)
    faults = [Fault("outlier", "has x", "unlabeled", str(n), f"{n}.nii.gz") for n in range(30)]
    faults.append(Fault("near_leak", "looks like y", "unlabeled", "7", "7.nii.gz"))
    faults.append(Fault("truncated", "is cut off", "unlabeled", "8", "8.nii.gz"))
    shown = draw_suspects(faults, paths, tmp_path / "pool.png")
    assert len(shown) == 24
    assert (shown[0].kind, shown[0].case) == ("near_leak", "7")
    assert len({fault.file for fault in shown}) == 24
    assert {fault.kind for fault in shown} == {"near_leak", "outlier"}
    picture = matplotlib.image.imread(tmp_path / "pool.png")
    assert picture.std() > 0.1
    assert draw_suspects([], {}, tmp_path / "none.png") == []
    assert (tmp_path / "none.png").stat().st_size > 0


def test_slices_show_front_and_top_upwards() -> None:
    volume = np.zeros((10, 20, 30), np.float32)
    volume[:, :, 25:] = 1  # the top, in RAS
    drawn = _slices(volume)
    assert drawn.shape == (96, 3 * 96)
    sagittal, coronal, axial = np.split(drawn, 3, 1)
    for plane in (sagittal, coronal):
        assert plane[:10].max() == 1
        assert plane[30:].max() == 0
    assert axial.max() == axial.min()
