from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from monai.transforms import LoadImage

from monai_ssl.data.readers import ScanReader
from monai_ssl.utils.errors import UserError
from tests.data.scan_files import FILES, SHAPE, itk_image, oblique_affine, voxels, write_dicom, write_scan, write_series


def load(path: Path, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    image = LoadImage(reader=ScanReader(channels), ensure_channel_first=True)(path)
    return image.numpy(), image.affine.numpy()


@pytest.mark.parametrize("name", [*FILES, "series", "series_without_endings"])
def test_a_scan_is_the_same_in_every_format(name: str, tmp_path: Path) -> None:
    affine, expected = oblique_affine(), voxels()
    if name.startswith("series"):
        write_series(tmp_path / name, expected, affine, name="IM{:04d}" if "without" in name else "{:03d}.dcm")
        (tmp_path / name / "notes.txt").write_text("no slice")
    else:
        write_scan(tmp_path / name, expected, affine)
    array, found = load(tmp_path / name)
    assert array.dtype == np.float32
    assert np.array_equal(array, expected[None])
    assert abs(found - affine).max() < 1e-4


def test_one_dicom_file_is_one_slice_with_its_place(tmp_path: Path) -> None:
    affine = oblique_affine((0.7, 0.8, 1.0))
    folder = write_series(tmp_path / "series", voxels(shape=(12, 14, 1)), affine)
    array, found = load(folder / "000.dcm")
    assert array.shape == (1, 12, 14, 1)
    assert abs(found - affine).max() < 1e-4


def test_slices_that_are_scaled_each_on_its_own_keep_fractions(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", voxels(), oblique_affine())
    half = sitk.ReadImage(str(folder / "005.dcm"))
    (folder / "005.dcm").unlink()
    scaled = sitk.Cast(half, sitk.sitkFloat64) * 0.5
    for key in half.GetMetaDataKeys():
        scaled.SetMetaData(key, half.GetMetaData(key))
    for tag, value in {"0028|1052": "0", "0028|1053": "0.5"}.items():
        scaled.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(folder / "005.dcm"))
    write_dicom(writer, scaled)
    array, _ = load(folder)
    assert np.array_equal(array[0, :, :, 1], voxels()[:, :, 1] * np.float32(0.5))  # the fifth file is the second slice


def test_channels_in_one_file_become_channels(tmp_path: Path) -> None:
    both = np.stack([voxels(0), voxels(1)], -1)
    sitk.WriteImage(itk_image(both, oblique_affine(), is_vector=True), str(tmp_path / "a.nrrd"))
    write_scan(tmp_path / "a.nii.gz", both, oblique_affine())
    for name in ("a.nrrd", "a.nii.gz"):
        assert np.array_equal(load(tmp_path / name, channels=2)[0], np.moveaxis(both, -1, 0))


def test_more_channels_in_one_file_than_itk_reads_are_told(tmp_path: Path) -> None:
    many = np.stack([voxels(number) for number in range(5)], -1)
    sitk.WriteImage(itk_image(many, oblique_affine(), is_vector=True), str(tmp_path / "a.nrrd"))
    with pytest.raises(UserError, match=r"a\.nrrd: has 5 channels, and ITK reads up to 4 in one file of this format"):
        load(tmp_path / "a.nrrd", channels=5)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "int32", "uint32", "int64", "uint64", "float64"])
def test_every_type_of_voxel_is_read(dtype: str, tmp_path: Path) -> None:
    array = abs(voxels() % 100).astype(dtype)
    for name in ("a.nrrd", "packed.mha"):
        assert np.array_equal(load(write_scan(tmp_path / name, array, oblique_affine()))[0], array[None])


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_channels_in_several_files_are_stacked(ending: str, tmp_path: Path) -> None:
    affine = oblique_affine()
    for number in range(3):
        write_scan(tmp_path / f"a_000{number}{ending}", voxels(number), affine)
    array, found = load(tmp_path / f"a_0000{ending}", channels=3)
    assert np.array_equal(array, np.stack([voxels(number) for number in range(3)]))
    assert abs(found - affine).max() < 1e-4
    assert load(tmp_path / f"a_0000{ending}")[0].shape == (1, *SHAPE)


def test_channels_of_other_grids_are_refused(tmp_path: Path) -> None:
    first = write_scan(tmp_path / "a_0000.nii.gz", voxels(), oblique_affine())
    write_scan(tmp_path / "a_0001.nii.gz", voxels()[:-1], oblique_affine())
    with pytest.raises(UserError, match=r"a_0001\.nii\.gz: is 11 x 14 x 9 voxels, its first channel 12 x 14 x 9"):
        load(first, channels=2)
    write_scan(tmp_path / "a_0001.nii.gz", voxels(), oblique_affine((0.7, 0.8, 3.1)))
    with pytest.raises(UserError, match=r"a_0001\.nii\.gz: lies elsewhere in space than its first channel"):
        load(first, channels=2)


def test_numbered_files_of_all_channels_are_not_taken_for_channels(tmp_path: Path) -> None:
    both = np.stack([voxels(0), voxels(1)], -1)
    for number in range(2):
        write_scan(tmp_path / f"a_000{number}.nii.gz", both, oblique_affine())
    with pytest.raises(UserError, match=r"a_0000\.nii\.gz: has 2 channels of its own, and there are files of further"):
        load(tmp_path / "a_0000.nii.gz", channels=2)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_cut_file_is_never_filled_up(name: str, share: float, tmp_path: Path) -> None:
    # `LoadImage` would go on to readers that fill it with zeros, were it told of the fault by `read`
    path = write_scan(tmp_path / name, voxels(), oblique_affine())
    data = path.with_suffix(".raw") if name.endswith(".mhd") else path
    content = data.read_bytes()
    data.write_bytes(content[: int(share * len(content))])
    if ".nii" in name:
        with pytest.raises((EOFError, OSError, UserError)):
            load(path)
    else:
        with pytest.raises(UserError, match=f"{data.name}: "):
            load(path)


def test_a_cut_slice_is_told(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", voxels(), oblique_affine())
    content = (folder / "004.dcm").read_bytes()
    (folder / "004.dcm").write_bytes(content[:-50])
    with pytest.raises(UserError, match=r"004\.dcm: is cut off, or no DICOM image\. Copy it again"):
        load(folder)
    with pytest.raises(UserError, match=r"004\.dcm: cannot be read .* Where it is cut off, copy or export it again"):
        load(folder / "004.dcm")


def test_nan_stays_nan(tmp_path: Path) -> None:
    array = voxels().astype(np.float32)
    array[3, 4, 5] = np.nan
    for name in FILES:
        assert np.isnan(load(write_scan(tmp_path / name, array, oblique_affine()))[0]).sum() == 1


def test_what_is_no_scan_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.nrrd: is missing"):
        load(tmp_path / "gone.nrrd")
    (tmp_path / "a.nrrd").write_text("hello")
    with pytest.raises(UserError, match=r"a\.nrrd: cannot be read \("):
        load(tmp_path / "a.nrrd")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: is a folder without DICOM files"):
        load(tmp_path / "empty")
    with pytest.raises(ValueError, match="`channels` must be 1 or more, got 0"):
        ScanReader(0)


def test_what_a_dicom_file_says_of_the_patient_stays_there(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", voxels(), oblique_affine(), **{"0010|0010": "Doe^Jane"})
    image = LoadImage(reader=ScanReader())(folder / "000.dcm")
    assert "Doe" not in str(image.meta)
    shutil.rmtree(folder)
    assert float(image.sum()) == float(image.clone().sum())  # of its own memory
