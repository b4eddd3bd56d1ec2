from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.data.cases import load_cases
from monai_ssl.data.datalist import class_names
from monai_ssl.data.phantoms import PHANTOM_CLASSES, PHANTOM_MODALITIES, phantom, write_phantoms
from monai_ssl.utils.errors import UserError

SMALL = (32, 34, 28)
CASES = 60


@pytest.fixture(scope="module")
def population() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [phantom(index, seed=3) for index in range(CASES)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def canonical(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return np.asarray(nib.as_closest_canonical(nib.Nifti1Image(array, affine)).dataobj)


@pytest.mark.parametrize("modality", PHANTOM_MODALITIES)
def test_a_case_is_a_function_of_its_arguments(modality: str) -> None:
    first = phantom(5, seed=2, modality=modality, size=SMALL)
    phantom(0)
    for a, b in zip(first, phantom(5, seed=2, modality=modality, size=SMALL), strict=True):
        np.testing.assert_array_equal(a, b)


def test_cases_and_seeds_differ() -> None:
    images = [phantom(index, seed=seed, size=SMALL)[0] for index, seed in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert len({image.tobytes() for image in images}) == 4
    labels = [phantom(index, seed=seed, size=SMALL)[1] for index, seed in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert len({label.tobytes() for label in labels}) == 4


def test_both_modalities_show_the_same_body() -> None:
    mri, ct = phantom(4, modality="MRI", size=SMALL), phantom(4, modality="CT", size=SMALL)
    np.testing.assert_array_equal(mri[1], ct[1])
    np.testing.assert_array_equal(mri[2], ct[2])
    assert not np.array_equal(mri[0], ct[0])


def test_every_class_has_its_share(population: list[tuple[np.ndarray, ...]]) -> None:
    for _, label, _ in population:
        assert label.dtype == np.uint8
        share = np.bincount(label.ravel(), minlength=4) / label.size
        assert len(share) == len(PHANTOM_CLASSES)
        for value, low, high in ((1, 0.02, 0.12), (2, 0.005, 0.04), (3, 0.002, 0.02)):
            assert low <= share[value] <= high


def test_every_class_is_present_at_the_smallest_size() -> None:
    for index in range(100):
        assert set(np.unique(phantom(index, size=(24, 24, 24))[1])) == {0, 1, 2, 3}


def test_size_strays_by_up_to_a_sixteenth(population: list[tuple[np.ndarray, ...]]) -> None:
    sizes = np.array([image.shape for image, _, _ in population])
    for axis, size in enumerate((48, 56, 40)):
        allowed = set(range(size - size // 16, size + size // 16 + 1))
        assert set(sizes[:, axis]) == allowed


def test_geometry_varies_as_documented(population: list[tuple[np.ndarray, ...]]) -> None:
    affines = [affine for _, _, affine in population]
    for affine in affines:
        spacing = nib.affines.voxel_sizes(affine)
        assert 0.9 <= spacing[0] <= 1.1
        np.testing.assert_allclose(spacing, spacing[0] * np.array([1, 1, 1.2]), rtol=1e-6)
    assert {"".join(nib.aff2axcodes(affine)) for affine in affines} == {"RAS", "LPS", "LAS"}
    assert len({tuple(affine[:3, 3]) for affine in affines}) == CASES


def test_the_affine_tells_where_the_body_is(population: list[tuple[np.ndarray, ...]]) -> None:
    # the lobe lies on the right of the gland, whatever the orientation of the file
    for _, label, affine in population:
        lobe, gland = (affine[:3] @ [*np.argwhere(label == value).mean(0), 1] for value in (1, 2))
        assert lobe[0] > gland[0]


@pytest.mark.parametrize("modality", PHANTOM_MODALITIES)
def test_image_is_finite_float32_on_the_labels_grid(modality: str) -> None:
    image, label, affine = phantom(1, modality=modality, size=SMALL)
    assert image.dtype == np.float32
    assert image.shape == label.shape
    assert affine.shape == (4, 4)
    assert np.isfinite(image).all()


def test_ct_is_in_hounsfield_units() -> None:
    for index in range(10):
        image, label, affine = phantom(index, modality="CT")
        assert image.min() >= -1024
        assert image.max() <= 3071
        np.testing.assert_array_equal(image, np.rint(image))
        # front corners are outside the body, whatever the pose
        corner = canonical(image, affine)[:2, -2:]
        assert abs(np.median(corner) + 1000) < 40
        for value, low, high in ((1, 100, 140), (2, 80, 120), (3, 140, 185)):
            assert low < np.median(image[label == value]) < high


def test_mri_is_not_negative_and_its_scale_is_arbitrary(population: list[tuple[np.ndarray, ...]]) -> None:
    scales = np.array([np.percentile(image, 99) for image, _, _ in population])
    assert min(image.min() for image, _, _ in population) >= 0
    assert scales.max() / scales.min() > 100


def test_written_files_give_back_the_cases(tmp_path: Path) -> None:
    for modality in PHANTOM_MODALITIES:
        path = write_phantoms(tmp_path / modality, cases=2, modality=modality, seed=7, size=SMALL)
        assert path == tmp_path / modality / "dataset.json"
        for index, entry in enumerate(json.loads(path.read_text())["training"]):
            image, label = (nib.load(path.parent / entry[key]) for key in ("image", "label"))
            expected = phantom(index, seed=7, modality=modality, size=SMALL)
            np.testing.assert_array_equal(np.asanyarray(image.dataobj), expected[0])
            np.testing.assert_array_equal(np.asanyarray(label.dataobj), expected[1])
            np.testing.assert_array_equal(image.affine, expected[2])
            np.testing.assert_array_equal(label.affine, expected[2])
            assert label.get_data_dtype() == np.uint8
            assert image.header.get_xyzt_units()[0] == "mm"


def test_more_cases_leave_the_first_ones_as_they_are(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "few", cases=2, size=SMALL)
    write_phantoms(tmp_path / "more", cases=3, unlabeled=1, size=SMALL)
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    del few["dataset.json"]
    assert len(few) == 4
    assert few.items() <= more.items()


def test_the_list_is_one_that_the_package_reads(tmp_path: Path) -> None:
    path = write_phantoms(tmp_path, cases=3, unlabeled=2, modality="CT", size=SMALL)
    listing = json.loads(path.read_text())
    assert listing["modality"] == {"0": "CT"}
    assert listing["tensorImageSize"] == "3D"
    assert listing["numTraining"] == len(listing["training"]) == 3
    assert listing["numTest"] == len(listing["test"]) == 0
    assert list(class_names(path, None)) == list(PHANTOM_CLASSES)
    assert len(load_cases(path, "training")) == 3
    assert len(load_cases(path, "unlabeled")) == 2


def test_an_unlabeled_case_has_no_label_anywhere(tmp_path: Path) -> None:
    listing = json.loads(write_phantoms(tmp_path, cases=1, unlabeled=2, size=SMALL).read_text())
    assert [set(entry) for entry in listing["unlabeled"]] == [{"image"}, {"image"}]
    assert all((tmp_path / entry["image"]).is_file() for entry in listing["unlabeled"])
    assert [file.name for file in (tmp_path / "labelsTr").iterdir()] == ["phantom_000.nii.gz"]


def test_without_unlabeled_cases_the_list_has_no_such_part(tmp_path: Path) -> None:
    assert "unlabeled" not in json.loads(write_phantoms(tmp_path, cases=1, size=SMALL).read_text())
    assert not (tmp_path / "imagesUn").exists()


def test_the_list_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(index: int, **settings: Any) -> Any:
        if index == 1:
            raise KeyboardInterrupt
        return phantom(index, **settings)

    monkeypatch.setattr("monai_ssl.data.phantoms.phantom", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path, cases=2, size=SMALL)
    assert (tmp_path / "imagesTr" / "phantom_000.nii.gz").is_file()
    assert not (tmp_path / "dataset.json").exists()
    with pytest.raises(UserError, match="new or empty folder"):
        write_phantoms(tmp_path, cases=2, size=SMALL)


def test_a_file_in_the_way_is_kept(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder" / "mine.txt", tmp_path / "file"):
        path.write_text("mine")
    for name in ("folder", "file"):
        with pytest.raises(UserError, match=rf"{name}: phantoms are written to a new or empty folder"):
            write_phantoms(tmp_path / name, cases=1, size=SMALL)
    assert contents(tmp_path) == {"folder/mine.txt": b"mine", "file": b"mine"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cases": 0}, "`cases` must be at least 1, got 0"),
        ({"unlabeled": -1}, "`unlabeled` must not be negative, got -1"),
        ({"seed": -2}, "`seed` must not be negative, got -2"),
        ({"modality": "PET"}, "`modality` must be one of MRI, CT, got 'PET'"),
        ({"size": (32, 32)}, r"`size` must be three numbers of at least 24 voxels, got \(32, 32\)"),
        ({"size": (32, 32, 23)}, r"got \(32, 32, 23\)"),
    ],
)
def test_wrong_arguments_leave_no_folder(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_phantoms(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_a_case_before_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match="`index` must not be negative, got -1"):
        phantom(-1)
