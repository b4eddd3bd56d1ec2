from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.data.check_scan import read_facts
from tests.data.check_files import flipped, label_voxels, save

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
