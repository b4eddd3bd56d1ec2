from __future__ import annotations

import base64
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_ssl.data.box_files import write_boxes
from monai_ssl.report.box_pictures import BoxedScan, Boxes, box_volumes, draw_boxes, read_boxed_scan

# voxels of 2 mm, the first axis from right to left
AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])
FOUND, MISSED = [-20.0, 20.0, 20.0, 8.0, 8.0, 8.0], [-60.0, 60.0, 60.0, 8.0, 8.0, 8.0]
ALARM = [-60.0, 20.0, 40.0, 8.0, 8.0, 8.0]


def read(folder: Path, truth: dict, coordinates: str = "RAS", least: float = 0.3) -> BoxedScan:
    image = np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32)
    nib.save(nib.nifti1.Nifti1Image(image, AFFINE), folder / "scan.nii.gz")
    boxes = [[-20.0, 21.0, 20.0, 8.0, 8.0, 8.0], ALARM, MISSED]
    write_boxes(folder / "boxes.json", "scan.nii.gz", boxes, [0, 0, 0], [0.9, 0.5, 0.2], ["nodule"])
    files = {"m": Boxes(folder / "boxes.json", least)}
    return read_boxed_scan(folder / "scan.nii.gz", truth, coordinates, files, 1, 0.1)


def layers(scan: BoxedScan) -> dict[str, nib.nifti1.Nifti1Image]:
    return {
        one["name"]: nib.nifti1.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(one["data"])))
        for one in box_volumes(scan)["layers"]
    }


def test_hits_misses_and_false_alarms_are_those_above_the_score(tmp_path: Path) -> None:
    scan = read(tmp_path, {"box": [FOUND, MISSED], "label": [0, 0]})
    figure, words = draw_boxes(scan, "m", ["nodule"])
    assert words == "1 of 2 found, 1 false alarm"
    told = [axes.texts[0].get_text() for axes in figure.axes]
    assert told == ["missed", "found, score 0.9", "false alarm, score 0.5"]
    # of what is missed the weak prediction is not drawn
    assert [len(axes.patches) for axes in figure.axes] == [1, 2, 1]
    assert draw_boxes(read(tmp_path, {"box": [FOUND, MISSED], "label": [0, 0]}, least=0.0), "m", ["nodule"])[1] == (
        "2 of 2 found, 1 false alarm"
    )


def test_a_healthy_scan_without_alarms_is_drawn_through_its_middle(tmp_path: Path) -> None:
    figure, words = draw_boxes(read(tmp_path, {"box": [], "label": []}, least=1.0), "m", ["nodule"])
    assert words == "nothing to find, no false alarm"
    assert [axes.texts[2].get_text() for axes in figure.axes] == ["Axial", "Coronal", "Sagittal"]


def test_boxes_of_a_mask_and_in_lps_are_the_same(tmp_path: Path) -> None:
    wanted = read(tmp_path, {"box": [FOUND], "label": [0]}).true_boxes
    lps = [20.0, -20.0, *FOUND[2:]]
    np.testing.assert_allclose(read(tmp_path, {"box": [lps], "label": [0]}, "LPS").true_boxes, wanted)
    mask = np.zeros((40, 40, 40), np.uint8)
    low, high = wanted[0, :3].round().astype(int), wanted[0, 3:].round().astype(int)
    mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 1
    nib.save(nib.nifti1.Nifti1Image(mask, AFFINE), tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(read(tmp_path, {"label": tmp_path / "mask.nii.gz"}).true_boxes, [[*low, *high]])


@pytest.mark.parametrize("count", [1, 60])
def test_outlines_surround_the_boxes_in_the_world_also_where_the_scan_is_thinned(tmp_path: Path, count: int) -> None:
    scan = read(tmp_path, {"box": [FOUND], "label": [0]}, least=0.8)
    if count > 1:  # a scan of 200 voxels, thinned to 144
        fine = np.zeros((200, 200, 200), np.float32)
        affine = np.diag([-0.4, 0.4, 0.4, 1.0])
        nib.save(nib.nifti1.Nifti1Image(fine, affine), tmp_path / "fine.nii.gz")
        far = [*FOUND[:3], 6.0, 6.0, 6.0], [-70.0, 70.0, 70.0, 6.0, 6.0, 6.0]
        files = {"m": Boxes(tmp_path / "boxes.json", 0.8)}
        scan = read_boxed_scan(tmp_path / "fine.nii.gz", {"box": far, "label": [0, 0]}, "RAS", files, 1, 0.1)
    for name, value in (("True boxes", 1), ("True boxes and m", 2)):
        volume = layers(scan)[name]
        assert max(volume.shape) <= 144
        voxels = np.argwhere(np.asarray(volume.dataobj) == value)
        world = voxels @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        near = world[np.abs(world - FOUND[:3]).max(1) < 15]
        np.testing.assert_allclose(near.mean(0), FOUND[:3], atol=1.5)
    values = np.asarray(layers(scan)["True boxes"].dataobj)
    assert set(np.unique(values)) == {0, 1}
    focus = box_volumes(scan)["focus"]
    np.testing.assert_allclose(focus, FOUND[:3], atol=1.0)


def test_a_box_at_the_border_of_the_scan_is_cut(tmp_path: Path) -> None:
    scan = read(tmp_path, {"box": [[1.0, -1.0, -1.0, 8.0, 8.0, 8.0]], "label": [0]}, least=1.0)
    assert np.asarray(layers(scan)["True boxes"].dataobj).any()
