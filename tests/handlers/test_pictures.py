from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from monai_ssl.handlers import pictures
from monai_ssl.handlers.pictures import CasePicture, Overlay, draw_overlay, take_picture
from monai_ssl.utils.errors import UserError

SHAPE = (20, 24, 16)
SPACING = (1.0, 1.5, 3.0)
# voxel axes to the patient's: RAS as it is, mirrored in all axes, and with the axes in another order
RAS = np.diag([*SPACING, 1.0])
ORIENTATIONS = [((0, 1, 2), (1, 1, 1)), ((0, 1, 2), (-1, -1, -1)), ((2, 0, 1), (1, -1, 1)), ((1, 2, 0), (-1, 1, -1))]


def volumes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In RAS: an image that grows to the right, the front and the top, a label of two classes, and a prediction."""
    right, front, top = np.meshgrid(*(np.arange(side) for side in SHAPE), indexing="ij")
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[8:13, 6:12, 5:10] = 1
    label[8:13, 12:16, 5:10] = 2
    return (right + 2 * front + 3 * top).astype(np.float32), label, np.roll(label, 1, axis=1)


def stored(volume: np.ndarray, order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    return np.flip(volume.transpose(order), tuple(axis for axis, sign in enumerate(signs) if sign < 0))


def stored_affine(order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * SPACING[world]
    return affine


def a_case(name: str, dice: float | None) -> CasePicture:
    image, label, prediction = volumes()
    return take_picture(name, dice, image, label, prediction, RAS)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_slices_stand_upright_whatever_the_orientation(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    image, label, prediction = volumes()
    parts = [stored(part, order, signs) for part in (image, label, prediction)]
    picture = take_picture("a", 0.5, parts[0], parts[1], parts[2], stored_affine(order, signs))
    axial, coronal, sagittal = picture.planes
    assert [plane.title for plane in picture.planes] == ["Axial", "Coronal", "Sagittal"]
    assert [plane.spacing for plane in picture.planes] == [(1.5, 1.0), (3.0, 1.0), (3.0, 1.5)]
    for plane in picture.planes:  # the image grows to the top, and to the patient's right or front, which are left
        grey = plane.image.astype(int)
        assert grey[0, 0] == grey.max()
        assert grey[-1, -1] == grey.min()
    # 15 mm below and above the label: all of the slice but its topmost row
    assert np.array_equal(coronal.reference > 0, np.flip(label[:, 8, :15].T > 0))
    # the second class lies in front of the first: above it from above, left of it from the side
    assert np.argwhere(axial.reference == 2).mean(0)[0] < np.argwhere(axial.reference == 1).mean(0)[0]
    assert np.argwhere(sagittal.reference == 2).mean(0)[1] < np.argwhere(sagittal.reference == 1).mean(0)[1]
    assert axial.sides == "RL"
    assert sagittal.sides == "AP"


def test_slices_go_through_the_largest_cross_section_of_the_label() -> None:
    image, label, prediction = volumes()
    label[2:18, 3:20, 12] = 1
    axial = take_picture("a", 0.5, image, label, prediction, RAS).planes[0]
    assert (axial.reference > 0).sum() == 16 * 17


def test_a_picture_stays_small() -> None:
    label = np.zeros((700, 600, 40), dtype=np.uint8)
    label[5:695, 5:595, 3:37] = 1
    picture = take_picture("a", 1.0, label.astype(np.float32), label, label, np.diag([0.5, 0.5, 2.0, 1.0]))
    parts = [part for plane in picture.planes for part in (plane.image, plane.reference, plane.prediction)]
    assert all(part.dtype == np.uint8 and max(part.shape) <= pictures.LONGEST_SIDE for part in parts)
    # a view would keep the whole volume alive
    assert all(part.base is None or part.base.nbytes <= 2 * part.nbytes for part in parts)
    assert picture.planes[0].spacing == (1.5, 1.5)  # every third voxel


def test_the_crop_is_the_labelled_box_and_15_mm() -> None:
    label = np.zeros((100, 100, 100), dtype=np.uint8)
    label[40:50, 40:50, 40:50] = 1
    axial = take_picture("a", 1.0, label.astype(np.float32), label, label, np.diag([1.0, 3.0, 1.0, 1.0])).planes[0]
    assert axial.image.shape == (10 + 2 * 5, 10 + 2 * 15)


@pytest.mark.parametrize("number", [1, 2, 3, 8])
def test_overlay_is_a_png_with_a_row_per_case(number: int, tmp_path: Path) -> None:
    path = tmp_path / "overlay.png"
    draw_overlay([a_case(f"case_{index}.nii.gz", index / 8) for index in range(number)], path, ["front", "back"])
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        width, height = picture.size
    assert width == 1440
    assert height == pytest.approx(150 * (0.75 + 3.45 * min(number, 3)), abs=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["overlay.png"]
    assert plt.get_fignums() == []  # pyplot knows of none, so none can leak


def test_worst_median_and_best_are_chosen() -> None:
    cases = [a_case(str(dice), dice) for dice in (0.6, 0.9, None, 0.1, 0.7, 0.3)]
    chosen = pictures._worst_median_best(cases)
    assert [(rank, case.dice) for rank, case in chosen] == [("Worst", 0.1), ("Median", 0.6), ("Best", 0.9)]
    assert [rank for rank, _ in pictures._worst_median_best(cases[:2])] == ["Worst", "Best"]
    assert [rank for rank, _ in pictures._worst_median_best(cases[2:3])] == ["Only case"]
    assert [rank for rank, _ in pictures._worst_median_best(cases[1:3])] == ["Only scored case"]


@pytest.mark.parametrize("empty", ["label", "prediction", "both", "image"])
def test_empty_maps_and_flat_images_can_be_drawn(empty: str, tmp_path: Path) -> None:
    image, label, prediction = volumes()
    if empty in ("label", "both"):
        label[:] = 0
    if empty in ("prediction", "both"):
        prediction[:] = 0
    if empty == "image":
        image[:] = np.nan
    overlay = Overlay(tmp_path / "overlay.png")
    overlay.add("a.nii.gz", None if empty == "both" else 0.0, image, label, prediction, RAS)
    overlay.draw(["front", "back"])
    assert overlay.path.is_file()


def test_a_class_that_fills_the_slice_can_be_drawn(tmp_path: Path) -> None:
    full = np.ones((6, 6, 6), dtype=np.uint8)
    draw_overlay([take_picture("a", 1.0, full, full, full, np.eye(4))], tmp_path / "overlay.png", ["all"])


def test_an_interrupted_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "overlay.png"
    draw_overlay([a_case("a", 0.5)], path, ["front", "back"])
    before = path.read_bytes()

    def print_half(self: Any, stream: Any) -> None:
        stream.write(before[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", print_half)
    with pytest.raises(KeyboardInterrupt):
        draw_overlay([a_case("b", 0.7)], path, ["front", "back"])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["overlay.png"]


def test_overlay_needs_a_case(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "overlay.png")
    overlay.cases.append(a_case("a", 0.5))
    overlay.clear()
    with pytest.raises(UserError, match=r"`cases` must hold at least one case to draw overlay\.png, got none"):
        overlay.draw(["front"])
