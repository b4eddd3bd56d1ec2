from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.data.check_header import Layout
from monai_ssl.data.check_scan import MAX_VALUES, _Tally, read_facts
from tests.data.check_files import flipped, image_voxels, label_voxels, save

LIMIT = 10**9


def write(folder: Path, content: bytes) -> str:
    path = folder / "a.nii.gz"
    path.write_bytes(content)
    return str(path)


def zipped(folder: Path, shape: tuple[int, ...]) -> bytes:
    """A gzip file with a name in its header, as `gzip` writes it."""
    voxels = np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)
    with gzip.GzipFile(folder / "scan.nii.gz", "wb") as stream:
        stream.write(nib.Nifti1Image(voxels, np.eye(4)).to_bytes())
    return (folder / "scan.nii.gz").read_bytes()


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return zipped(tmp_path, (9, 8, 7))


def test_a_file_cut_anywhere_is_told(tmp_path: Path, content: bytes) -> None:
    assert read_facts(write(tmp_path, content), False, LIMIT).problem is None
    points = np.linspace(0, len(content) - 1, 200).astype(int)
    assert len(set(points)) == 200
    found = {cut: read_facts(write(tmp_path, content[:cut]), False, LIMIT).problem for cut in map(int, points)}
    assert [cut for cut, problem in found.items() if problem is None] == []
    assert {problem.kind for cut, problem in found.items() if problem and cut >= 2} == {"truncated"}


def test_every_flipped_bit_that_changes_data_is_told(tmp_path: Path) -> None:
    """Every bit of a small file. Nothing can see, nor needs to see, one that changes neither a voxel nor the NIfTI
    header: of the time, the name and the system in gzip's header, and hardly any other."""
    content = zipped(tmp_path, (4, 4, 3))
    whole = read_facts(write(tmp_path, content), False, LIMIT)
    unseen = []
    for bit in range(8 * len(content)):
        found = read_facts(write(tmp_path, flipped(content, *divmod(bit, 8))), False, LIMIT)
        if found.problem is None:
            assert found == whole
            unseen.append(bit // 8)
    assert sum(not 3 <= byte < content.index(b"\0", 10) for byte in unseen) < 12  # of thousands


def test_two_hundred_flipped_bits_of_the_data_are_told(tmp_path: Path, content: bytes) -> None:
    begin, end = content.index(b"\0", 10) + 1, len(content) - 9  # the stream without its padding
    bits = np.linspace(8 * begin, 8 * end - 1, 200).astype(int)
    whole = read_facts(write(tmp_path, content), False, LIMIT)
    found = [read_facts(write(tmp_path, flipped(content, *divmod(int(bit), 8))), False, LIMIT) for bit in bits]
    assert all(facts.problem is not None or facts == whole for facts in found)
    kinds = Counter(facts.problem.kind if facts.problem else "unseen" for facts in found)
    assert kinds["unseen"] <= 1, kinds
    assert kinds["corrupt"] > 100, kinds


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<i4", ">u4", "<i8", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("scaling", [(1.0, 0.0), (0.5, -3.0)])
@pytest.mark.parametrize("is_label", [False, True])
def test_numbers_are_those_of_numpy(dtype: str, scaling: tuple[float, float], is_label: bool) -> None:
    generator = np.random.default_rng(0)
    stored = generator.integers(0, 60, (7, 6, 5)).astype(dtype)
    if stored.dtype.kind == "f":
        stored[1, 2, 3], stored[4, 4, 4] = np.nan, np.inf
    slope, inter = scaling
    tally = _Tally(Layout((7, 6, 5), stored.dtype, 352, slope, inter, np.eye(4)), is_label)
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


def test_shape_and_affine(tmp_path: Path) -> None:
    affine = np.array([[0, 2.0, 0, 5], [-1.5, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    save(tmp_path / "a.nii.gz", label_voxels()[..., None], affine)
    volume = read_facts(str(tmp_path / "a.nii.gz"), False, LIMIT).volume
    assert volume is not None
    assert volume.shape == label_voxels().shape
    np.testing.assert_allclose(volume.affine, affine)


def test_a_second_member_and_zeros_behind_are_no_fault(tmp_path: Path, content: bytes) -> None:
    whole = gzip.decompress(content)
    volume = read_facts(write(tmp_path, content), False, LIMIT).volume
    for other in (
        gzip.compress(whole[:500]) + gzip.compress(whole[500:]),
        gzip.compress(whole[:360]) + bytes(300_000) + gzip.compress(whole[360:]) + bytes(600_000),
    ):
        assert read_facts(write(tmp_path, other), False, LIMIT).volume == volume


def test_the_limit_is_of_the_voxels(tmp_path: Path, content: bytes) -> None:
    path, size = write(tmp_path, content), 9 * 8 * 7 * 2
    assert read_facts(path, False, size).problem is None
    problem = read_facts(path, False, size - 1).problem
    assert problem is not None
    assert problem.kind == "too_large"
    assert problem.text.startswith("has a header that claims 9 x 8 x 7 voxels")


def test_changed_headers_never_end_the_check(tmp_path: Path, content: bytes) -> None:
    generator, whole = np.random.default_rng(0), gzip.decompress(content)
    kinds = Counter()
    for _ in range(500):
        changed = bytearray(whole)
        for place in generator.integers(0, 352, generator.integers(1, 6)):
            changed[place] = generator.integers(0, 256)
        path = tmp_path / "a.nii"
        path.write_bytes(changed)
        found = read_facts(str(path), bool(generator.integers(2)), LIMIT)
        assert (found.problem is None) != (found.volume is None)
        kinds[found.problem.kind if found.problem else "good"] += 1
    assert kinds["unreadable"] == 0, kinds
    assert len(kinds) > 3
