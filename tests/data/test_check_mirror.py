from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.data.check_facts import Problem, ScanFacts, Volume
from monai_ssl.data.check_mirror import MirrorTest, PairReader, mirror_test
from monai_ssl.data.check_scan import read_facts
from monai_ssl.data.phantoms import phantom
from tests.data.check_files import save

AXES = {
    "RAS": np.diag([1.0, 1, 1, 1]),
    "LPS": np.diag([-1.0, -1, 1, 1]),
    "ASR": np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
}


def read(path: Path, voxels: np.ndarray, affine: np.ndarray = AXES["RAS"], is_label: bool = False) -> Volume:
    save(path, voxels, affine)
    volume = read_facts(str(path), is_label, 10**9, sampled=True).volume
    assert volume is not None
    return volume


def compared(folder: Path, image: np.ndarray, label: np.ndarray, affine: np.ndarray = AXES["RAS"]) -> MirrorTest | None:
    one = read(folder / "image.nii.gz", image.astype(np.float32), affine)
    return mirror_test(one, read(folder / "label.nii.gz", label.astype(np.uint8), affine, is_label=True))


def body(modality: str = "CT", index: int = 0, size: tuple[int, int, int] = (32, 32, 24)) -> tuple[np.ndarray, ...]:
    """A body in RAS."""
    image, label, affine = phantom(index, modality=modality, size=size)
    turned = [nib.as_closest_canonical(nib.Nifti1Image(voxels, affine)) for voxels in (image, label)]
    return tuple(np.asarray(one.dataobj) for one in turned)


@pytest.mark.parametrize("modality", ["CT", "MRI"])
def test_a_mirrored_label_fits_better_the_other_way_round(tmp_path: Path, modality: str) -> None:
    image, label = body(modality)
    right, wrong = compared(tmp_path, image, label), compared(tmp_path, image, label[::-1])
    assert right is not None
    assert wrong is not None
    assert right.gain < -0.2
    # what is gained by one is what is lost by the other
    assert wrong.gain == pytest.approx(-right.gain, abs=1e-6)
    assert wrong.places == pytest.approx({value: -place for value, place in right.places.items()})
    assert wrong.faces == right.faces > 500


@pytest.mark.parametrize("axes", AXES)
def test_left_and_right_are_those_of_the_patient(tmp_path: Path, axes: str) -> None:
    image, label = body()
    expected = compared(tmp_path, image, label)
    assert expected is not None
    orientation = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
    )
    turned = [nib.orientations.apply_orientation(voxels, orientation) for voxels in (image, label)]
    found = compared(tmp_path, *turned, AXES[axes])
    assert found is not None
    assert found.gain == pytest.approx(expected.gain, abs=0.01)  # ranks are of other voxels
    assert found.places == pytest.approx(expected.places)
    assert expected.places[1] > 0.1 > -0.1 > expected.places[3]  # the lobe is on the right, the node on the left


def test_of_an_oblique_grid_the_nearest_axis_counts(tmp_path: Path) -> None:
    image, label = body()
    turn = np.eye(4)
    turn[:2, :2] = [[0.9, -0.436], [0.436, 0.9]]  # by 26 degrees
    straight, oblique = compared(tmp_path, image, label[::-1]), compared(tmp_path, image, label[::-1], turn)
    assert straight == oblique


def test_the_gain_is_what_the_classes_explain_and_the_jumps_at_their_faces(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    image, label = generator.permutation(20 * 12 * 10).reshape(20, 12, 10), np.zeros((20, 12, 10), int)
    label[4:9, 4:8, 4:7], label[9:11, 4:8, 4:7] = 1, 2

    def fit(mask: np.ndarray) -> float:
        where = np.argwhere(label > 0)
        box = [slice(max(low - 3, 0), high + 4) for low, high in zip(where.min(0), where.max(0), strict=True)]
        box[0] = slice(min(box[0].start, 20 - box[0].stop), max(box[0].stop, 20 - box[0].start))
        values, mask = image[tuple(box)].astype(float), mask[tuple(box)]
        ranks = np.vectorize(lambda value: (values < value).mean())(values)
        near, jumps = [], []
        for place in np.ndindex(mask.shape):
            steps = [abs(np.subtract(place, other)).sum() for other in np.argwhere(mask > 0)]
            near.append(min(steps) <= 2)
            for axis in range(3):
                other = tuple(np.add(place, np.eye(3, dtype=int)[axis]))
                if other[axis] < mask.shape[axis] and mask[place] != mask[other]:
                    jumps.append(abs(ranks[place] - ranks[other]))
        chosen, classes = ranks.ravel()[near], mask.ravel()[near]
        within = sum(((chosen[classes == value] - chosen[classes == value].mean()) ** 2).sum() for value in range(3))
        return float(1 - within / ((chosen - chosen.mean()) ** 2).sum() + 2 * np.mean(jumps))

    found = compared(tmp_path, image, label)
    assert found is not None
    assert found.gain == pytest.approx(fit(label[::-1]) - fit(label), abs=0.003)


def test_neither_unit_nor_contrast_matters(tmp_path: Path) -> None:
    image, label = body()
    image = image + np.random.default_rng(0).random(image.shape)
    found = [compared(tmp_path, voxels, label) for voxels in (image, 0.001 * image + 7, np.exp(image / 500))]
    assert [test.gain for test in found if test] == pytest.approx([found[0].gain] * 3 if found[0] else [], abs=0.002)


def test_a_symmetric_label_gains_nothing(tmp_path: Path) -> None:
    image, label = body()
    found = compared(tmp_path, image, np.maximum(label, label[::-1]))
    assert found is not None
    assert found.gain == pytest.approx(0, abs=1e-9)
    assert max(map(abs, found.places.values())) < 1e-9


def test_every_nth_voxel_of_a_large_scan_tells_as_much(tmp_path: Path) -> None:
    image, label = (np.repeat(voxels, 9, axis=0) for voxels in body())
    large = compared(tmp_path, image, label)
    small = compared(tmp_path, *body())
    assert large is not None
    assert small is not None
    assert large.gain == pytest.approx(small.gain, abs=0.1)
    for value, place in small.places.items():
        assert large.places[value] == pytest.approx(place, abs=0.01)


def test_nothing_is_compared_where_nothing_can_be(tmp_path: Path) -> None:
    image, label = body()
    assert compared(tmp_path, image, np.zeros_like(label)) is None
    assert compared(tmp_path, image, np.ones_like(label)) is None
    assert compared(tmp_path, image, label[:-1]) is None
    one = read(tmp_path / "a.nii", image.astype(np.float32))
    other = read(tmp_path / "b.nii", label, AXES["LPS"], is_label=True)
    assert mirror_test(one, other) is None
    same = read(tmp_path / "b.nii", label, is_label=True)
    assert mirror_test(one, same) is not None
    assert mirror_test(one, replace(same, voxels=None)) is None
    singular = replace(same, affine=((0.0,) * 4,) * 4)
    assert mirror_test(singular, same) is None
    many = read(tmp_path / "c.nii", np.arange(image.size, dtype=np.float32).reshape(image.shape), is_label=True)
    assert mirror_test(one, many) is None


def test_voxels_that_are_no_numbers_do_no_harm(tmp_path: Path) -> None:
    image, label = body()
    image, label = image.astype(np.float32), label.astype(np.float32)
    image[3, 3], label[0, 0] = np.nan, np.inf
    one = read(tmp_path / "a.nii", image)
    found = mirror_test(one, read(tmp_path / "b.nii", label, is_label=True))
    assert found is not None
    assert found.gain < -0.2
    assert mirror_test(read(tmp_path / "a.nii", np.full_like(image, 3)), one) is None
    blank = mirror_test(
        read(tmp_path / "a.nii", np.full_like(image, 3)), read(tmp_path / "b.nii", label, is_label=True)
    )
    assert blank is not None
    assert blank.gain == 0
    image[0], image[-1] = -3e38, 3e38
    assert mirror_test(read(tmp_path / "a.nii", image), read(tmp_path / "b.nii", label, is_label=True)) is not None


def facts_of(folder: Path, *names: str) -> list[ScanFacts]:
    image, label = body()
    for name in names:
        save(folder / name, label if "label" in name else image.astype(np.float32), AXES["RAS"])
    return [read_facts(str(folder / name), "label" in name, 10**9, sampled=True) for name in names]


def test_pairs_are_compared_as_they_come_and_keep_no_voxels(tmp_path: Path) -> None:
    image, label, other, broken, alone = facts_of(tmp_path, "image.nii", "label.nii", "label2.nii", "x.nii", "y.nii")
    broken = ScanFacts(broken.path, problem=Problem("empty", "is empty"))
    pairs = [(image.path, label.path), (image.path, other.path), (broken.path, other.path)]
    reader = PairReader(pairs)
    assert reader.files == {image.path, label.path, other.path, broken.path}
    for facts, left in ((label, 4), (image, 3), (alone, 3), (broken, 3), (other, 0)):
        known = reader.take(facts)
        assert known == facts
        assert known.volume is None or known.volume.voxels is None
        assert len(reader.files) == left
    assert list(reader.found) == pairs[:2]
    assert reader.found[pairs[0]] == reader.found[pairs[1]]
    assert not reader._read


def test_a_file_that_is_its_own_label_is_no_pair_to_compare(tmp_path: Path) -> None:
    (image,) = facts_of(tmp_path, "image.nii")
    reader = PairReader([(image.path, image.path)])
    reader.take(image)
    assert not reader.found
    assert not reader.files
