from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_ssl.data.check_header import Layout
from monai_ssl.data.check_scan import read_facts
from monai_ssl.data.check_tally import MAX_SAMPLES, MAX_VALUES, Tally
from tests.data.check_files import image_voxels, save

LIMIT = 10**9


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<i4", ">u4", "<i8", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("scaling", [(1.0, 0.0), (0.5, -3.0)])
@pytest.mark.parametrize("is_label", [False, True])
def test_numbers_are_those_of_numpy(dtype: str, scaling: tuple[float, float], is_label: bool) -> None:
    generator = np.random.default_rng(0)
    stored = generator.integers(0, 60, (7, 6, 5)).astype(dtype)
    if stored.dtype.kind == "f":
        stored[1, 2, 3], stored[4, 4, 4] = np.nan, np.inf
    slope, inter = scaling
    tally = Tally(Layout((7, 6, 5), stored.dtype, 352, slope, inter, np.eye(4)), is_label)
    left = bytes(352) + stored.tobytes("F") + b"behind"
    while left:
        cut = int(generator.integers(1, 200))
        tally.add(left[:cut])
        left = left[cut:]
    found = tally.volume()
    values = stored.astype(float) * slope + inter
    finite = values[np.isfinite(values)]
    assert found.non_finite == values.size - finite.size
    numbers = (found.minimum, found.maximum, found.mean, found.std)
    np.testing.assert_allclose(numbers, (finite.min(), finite.max(), finite.mean(), finite.std()), rtol=1e-6)
    assert found.values == (dict(sorted(Counter(finite.tolist()).items())) if is_label else {})


@pytest.mark.parametrize("shape", [(7, 6, 5), (128, 3, 2), (129, 3, 2), (3, 300, 2), (2, 3, 641), (5, 4, 3, 2)])
def test_samples_are_every_nth_voxel_from_the_middle(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    stored = generator.integers(0, 1000, shape).astype("<i2")
    tally = Tally(Layout(shape, stored.dtype, 352, 0.5, -3.0, np.eye(4)), False, sampled=True)
    left = bytes(352) + stored.tobytes("F")
    while left:
        cut = int(generator.integers(1, 700))
        tally.add(left[:cut])
        left = left[cut:]
    found = tally.volume().voxels
    assert found is not None
    expected = (stored if len(shape) == 3 else stored[..., 0]) * 0.5 - 3.0
    for axis, length in enumerate(shape[:3]):
        step = next(step for step in range(1, 9) if len(range(0, length, step)) <= MAX_SAMPLES)
        places = range(0, length, step)
        before = (length - 1 - places[-1]) // 2
        expected = expected.take([place + before for place in places], axis)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    assert Tally(Layout(shape, stored.dtype, 352, 0.5, -3.0, np.eye(4)), False).volume().voxels is None


def test_great_numbers_do_not_leave_float32(tmp_path: Path) -> None:
    for voxels in (np.array([-3e38, 3e38, 1.0]), np.array([0.0, 0, 2e30]), np.array([5e30, 5e30, 6e30])):
        volume_of = np.tile(voxels.astype(np.float32), 9).reshape(3, 3, 3)
        save(tmp_path / "a.nii", volume_of)
        volume = read_facts(str(tmp_path / "a.nii"), False, LIMIT).volume
        assert volume is not None
        np.testing.assert_allclose(volume.std, volume_of.astype(np.float64).std(), rtol=1e-6)


def test_a_far_mean_costs_no_digits(tmp_path: Path) -> None:
    voxels = 1e7 + np.random.default_rng(0).integers(0, 5, (20, 20, 20))
    save(tmp_path / "a.nii", voxels)
    volume = read_facts(str(tmp_path / "a.nii"), False, LIMIT).volume
    assert volume is not None
    np.testing.assert_allclose((volume.mean, volume.std), (voxels.mean(), voxels.std()), rtol=1e-9)


def test_the_digest_is_of_the_values(tmp_path: Path) -> None:
    def digest(name: str, voxels: np.ndarray, **more: Any) -> str:
        save(tmp_path / name, voxels, **more)
        volume = read_facts(str(tmp_path / name), False, LIMIT).volume
        assert volume is not None
        return volume.digest

    voxels = np.random.default_rng(0).integers(0, 99, (9, 8, 7)).astype(np.int16)
    first = digest("a.nii.gz", voxels)
    assert digest("b.nii", voxels.astype(np.float64), affine=2 * np.eye(4)) == first
    voxels[0, 0, 0] += 1
    assert digest("c.nii.gz", voxels) != first


def test_a_label_with_too_many_values_keeps_some(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", image_voxels(0))
    volume = read_facts(str(tmp_path / "a.nii"), True, LIMIT).volume
    assert volume is not None
    assert len(volume.values) == MAX_VALUES
