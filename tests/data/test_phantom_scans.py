from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.data.phantom_scans import check_counts, ct_scan, empty_folder, placed, save_scan
from monai_ssl.utils.errors import UserError


@pytest.mark.parametrize(
    ("size", "counts", "message"),
    [
        ((16, 16, 16), {"seed": -1}, r"`seed` must not be negative, got -1\."),
        ((16, 16, 15), {}, r"`size` must be three numbers of at least 16 voxels, got \(16, 16, 15\)\."),
        ((16, 16), {"seed": 0}, r"`size` must be three numbers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(size: Sequence[int], counts: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_counts(size, 16, **counts)
    check_counts((16, 17, 18), 16, seed=0, index=3)


def test_a_ct_scan_is_whole_hounsfield_units_with_noise_that_neighbours_share() -> None:
    tissue = np.full((40, 40, 40), -1000.0)
    tissue[:, :, 20:] = 50.0
    scan = ct_scan(np.random.default_rng(0), tissue, tissue > -1000, blur=(0.4, 0.6))
    assert (scan == np.rint(scan)).all()
    assert scan.min() >= -1024
    assert abs(scan[:, :, 25:].mean() - 50) < 3
    noise = scan[:, :, 2:15] + 1000
    assert 2 < noise.std() < 40
    neighbours = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    apart = np.corrcoef(noise[4:].ravel(), noise[:-4].ravel())[0, 1]
    assert neighbours > 0.2 > 0.1 > abs(apart)
    # texture is the body's alone
    assert scan[:, :, 25:].std() > noise.std()


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "RPI"])
def test_a_placed_scan_has_its_orientation_and_stays_where_it_was(orientation: str) -> None:
    shape, spacing = (5, 6, 7), np.array([1.0, 1.5, 2.0])
    flips, affine = placed(np.random.default_rng(3), shape, spacing, [orientation])
    _, as_drawn = placed(np.random.default_rng(3), shape, spacing, ["RAS"])
    assert "".join(nib.aff2axcodes(affine)) == orientation
    assert (affine == affine.astype(np.float32)).all()
    grid = np.arange(5 * 6 * 7).reshape(shape)
    stored = grid[flips]
    for voxel in ((0, 0, 0), (4, 0, 3), (1, 5, 6)):
        drawn = np.argwhere(grid == stored[voxel])[0]
        np.testing.assert_allclose((affine @ [*voxel, 1])[:3], (as_drawn @ [*drawn, 1])[:3], atol=1e-4)


def test_phantoms_replace_nothing(tmp_path: Path) -> None:
    root = empty_folder(tmp_path / "new", ("images", "labels"))
    assert sorted(path.name for path in root.iterdir()) == ["images", "labels"]
    with pytest.raises(UserError, match=r"new: phantoms are written to a new or empty folder: remove it or name"):
        empty_folder(root, ("images",))
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"file: phantoms are written to a new or empty folder"):
        empty_folder(tmp_path / "file", ())
    assert (tmp_path / "file").read_text() == "kept"


def test_a_saved_scan_comes_back(tmp_path: Path) -> None:
    array, affine = np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([1.5, 2.0, 0.5, 1.0])
    save_scan(array, affine, tmp_path / "a.nii.gz")
    back: Any = nib.load(tmp_path / "a.nii.gz")
    assert back.header.get_xyzt_units()[0] == "mm"
    assert (back.affine == affine).all()
    assert back.get_data_dtype() == np.int16
    assert (np.asarray(back.dataobj) == array).all()
