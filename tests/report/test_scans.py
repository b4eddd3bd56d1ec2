from __future__ import annotations

import base64
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.report.scans import Scan, is_scan, read_image, read_scan, region_around, thin, volume_text


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    image = nib.nifti1.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.header["descrip"] = b"DOE^JOHN"
    nib.save(image, path)
    return path


def opened(text: str) -> nib.nifti1.Nifti1Image:
    import gzip

    return nib.nifti1.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_a_cut_keeps_every_labelled_voxel_where_it_is_in_the_world() -> None:
    generator = np.random.default_rng(0)
    label = np.zeros((200, 90, 60), np.uint8)
    label[20:190, 40:50, 30:34] = 1
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [5, 6, 7]
    scan = Scan(generator.normal(size=label.shape).astype(np.float32), label, {"m": np.roll(label, 5, 1)}, affine)
    cut = scan.cut()
    assert max(cut.image.shape) <= 112
    assert cut.image.shape == cut.label.shape == cut.predictions["m"].shape
    for whole, part in ((label, cut.label), (scan.predictions["m"], cut.predictions["m"])):
        volumes = [mask.sum() * abs(np.linalg.det(to[:3, :3])) for mask, to in ((whole, affine), (part, cut.affine))]
        assert volumes[1] == pytest.approx(volumes[0], rel=0.1)
        middles = [
            to[:3, :3] @ np.argwhere(mask).mean(0) + to[:3, 3] for mask, to in ((whole, affine), (part, cut.affine))
        ]
        np.testing.assert_allclose(middles[0], middles[1], atol=3)
    voxel = np.linalg.inv(cut.affine) @ [*cut.focus(), 1]
    assert cut.label[tuple(voxel[:3].round().astype(int))] == 1


def test_a_small_scan_is_not_resampled() -> None:
    label = np.zeros((30, 30, 30), np.uint8)
    label[10:12] = 2
    image = np.arange(27000, dtype=np.float32).reshape(30, 30, 30)
    cut = Scan(image, label, {"m": label}, np.eye(4)).cut()
    np.testing.assert_array_equal(cut.image, image)
    np.testing.assert_array_equal(cut.label, label)
    empty = Scan(image, 0 * label, {"m": 0 * label}, np.eye(4)).cut()
    assert empty.image.shape == image.shape


def test_a_volume_goes_round_and_takes_no_name_along(tmp_path: Path) -> None:
    image = save(tmp_path / "i.nii.gz", np.linspace(-5, 5, 27, dtype=np.float32).reshape(3, 3, 3))
    label = save(tmp_path / "l.nii.gz", np.arange(27, dtype=np.uint8).reshape(3, 3, 3))
    scan = read_scan(image, label, {"m": label})
    classes = opened(volume_text(scan.label, scan.affine, grey=False))
    np.testing.assert_array_equal(np.asarray(classes.dataobj), scan.label)
    assert classes.get_data_dtype() == np.uint8
    grey = opened(volume_text(scan.image, scan.affine, grey=True))
    assert (np.asarray(grey.dataobj).min(), np.asarray(grey.dataobj).max()) == (0, 255)
    assert b"DOE" in image.read_bytes() or b"DOE" in nib.load(image).header.binaryblock
    assert b"DOE" not in grey.to_bytes()


def test_files_that_do_not_fit_or_are_broken_are_told(tmp_path: Path) -> None:
    image = save(tmp_path / "i.nii.gz", np.zeros((3, 3, 3), np.float32))
    other = save(tmp_path / "o.nii.gz", np.zeros((3, 3, 4), np.uint8))
    with pytest.raises(ValueError, match=r"has \(3, 3, 4\) voxels where the image has \(3, 3, 3\)"):
        read_scan(image, other, {})
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    (tmp_path / "empty.nii.gz").touch()
    assert [is_scan(tmp_path / f"{name}.nii.gz") for name in ("i", "broken", "empty", "none")] == [True, *[False] * 3]
    with pytest.raises(OSError, match="broken"):
        read_scan(image, tmp_path / "broken.nii.gz", {})


def test_a_region_has_its_margin_within_the_scan() -> None:
    affine = np.diag([-2.0, 5.0, 40.0, 1.0])
    region = region_around([(30.5, 33.2), (2.0, 3.0), None], (100, 50, 7), affine)
    assert region == (slice(20, 44), slice(0, 7), slice(0, 7))
    assert region_around([(-90.0, -80.0)] * 3, (10, 10, 10), np.eye(4)) == (slice(0, 1),) * 3


def test_a_thinned_part_keeps_its_place() -> None:
    image = np.zeros((200, 20, 20), np.float32)
    image[100] = 1
    small, affine, factors = thin(image, np.eye(4), (slice(50, 150), slice(0, 20), slice(0, 20)), 25)
    assert small.shape == (25, 20, 20)
    assert factors == [0.25, 1.0, 1.0]
    assert affine[0, 0] * int(small.sum((1, 2)).argmax()) + affine[0, 3] == pytest.approx(100, abs=4)


def test_a_cut_off_or_flat_file_is_told_as_one_that_cannot_be_read(tmp_path: Path) -> None:
    whole = save(tmp_path / "i.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32))
    whole.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(OSError, match=r"i\.nii\.gz|ended"):
        read_image(whole)
    with pytest.raises(OSError, match="has 2 axes"):
        read_image(save(tmp_path / "flat.nii.gz", np.zeros((3, 3), np.float32)))
