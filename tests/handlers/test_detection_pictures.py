from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import SubFigure
from PIL import Image

from monai_ssl.handlers import detection_pictures as module
from monai_ssl.handlers.detection_pictures import BoxOverlay, Tile, draw_tiles, take_tiles
from monai_ssl.metrics.box_matching import MatchedBoxes, detection_record, match_boxes
from monai_ssl.utils.errors import UserError

SHAPE = (40, 44, 30)
SPACING = (1.0, 1.5, 3.0)
TRUE = [12.0, 20.0, 10.0, 20.0, 24.0, 14.0]  # in RAS: x 8 mm, y 6 mm
NEAR = [13.0, 20.0, 10.0, 21.0, 24.0, 15.0]
FAR = [30.0, 30.0, 20.0, 35.0, 36.0, 24.0]
ORIENTATIONS = [((0, 1, 2), (1, 1, 1)), ((0, 1, 2), (-1, -1, -1)), ((2, 0, 1), (1, -1, 1)), ((1, 2, 0), (-1, 1, -1))]


def matched(boxes: list[list[float]], scores: list[float], true: list[list[float]]) -> MatchedBoxes:
    return match_boxes(boxes, scores, [0] * len(boxes), true, [0] * len(true))


def volume(box: list[float]) -> np.ndarray:
    """In RAS: grey, bright in the box."""
    image = np.full(SHAPE, 0.2, dtype=np.float32)
    x, y, z, right, front, top = (int(edge) for edge in box)
    image[x:right, y:front, z:top] = 1.0
    return image


def stored(
    order: tuple[int, ...], signs: tuple[int, ...], boxes: list[list[float]]
) -> tuple[list[list[float]], np.ndarray]:
    """Boxes and affine of a volume whose axes are those of RAS in another order and direction."""
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    turned = []
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * SPACING[world]
    for box in boxes:
        ends = [
            (box[world], box[world + 3]) if sign > 0 else (SHAPE[world] - box[world + 3], SHAPE[world] - box[world])
            for world, sign in zip(order, signs, strict=True)
        ]
        turned.append([low for low, _ in ends] + [high for _, high in ends])
    return turned, affine


def bright(tile: Tile) -> tuple[float, ...]:
    """Left, top, width and height of what is bright in a tile."""
    left, right, bottom, top = tile.extent
    rows, columns = (np.flatnonzero(tile.image.max(axis=axis) > 200) for axis in (1, 0))
    step_x, step_y = (right - left) / tile.image.shape[1], (bottom - top) / tile.image.shape[0]
    return left + columns[0] * step_x, top + rows[0] * step_y, len(columns) * step_x, len(rows) * step_y


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_boxes_lie_on_what_they_enclose(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    (true, near, far), affine = stored(order, signs, [TRUE, NEAR, FAR])
    flips = tuple(axis for axis, sign in enumerate(signs) if sign < 0)
    image = np.flip(volume(TRUE).transpose(order), flips)
    hit, alarm = take_tiles("a.nii", image, affine, matched([near, far], [0.9, 0.5], [true]), 3)
    (truth,) = hit.truths
    assert truth == pytest.approx(bright(hit))
    assert truth == pytest.approx((15.0, 16.0, 8.0, 6.0))  # 15 mm margin about the longer side
    assert hit.side == pytest.approx(38.0)
    # the prediction lies a millimetre more to the patient's right, which is left
    assert hit.predicted == pytest.approx((14.0, 16.0, 8.0, 6.0))
    assert (hit.true, hit.score) == (True, 0.9)
    assert hit.volume == pytest.approx(8 * 6 * 12)
    assert (alarm.true, alarm.score, alarm.truths) == (False, 0.5, ())
    assert alarm.predicted == pytest.approx((17.0, 15.0, 5.0, 9.0))


def test_up_is_the_front_and_left_the_patients_right() -> None:
    right, front, _ = np.meshgrid(*(np.arange(side) for side in SHAPE), indexing="ij")
    tile = take_tiles("a", right + 2.0 * front, np.diag([*SPACING, 1.0]), matched([], [], [TRUE]), 1)[0]
    assert tile.image[0, 0] == tile.image.max()
    assert tile.image[-1, -1] == tile.image.min()


def test_a_missed_box_has_no_prediction() -> None:
    tile = take_tiles("a", volume(TRUE), np.diag([*SPACING, 1.0]), matched([FAR], [0.9], [TRUE]), 0)
    assert len(tile) == 1
    assert math.isnan(tile[0].score)
    assert tile[0].predicted is None


def test_a_box_at_the_border_or_beyond_is_drawn(tmp_path: Path) -> None:
    edge = [-3.0, -2.0, -5.0, 2.0, 3.0, 1.0]
    beyond = [100.0, 100.0, 100.0, 110.0, 110.0, 110.0]
    case = matched([edge, beyond], [0.9, 0.8], [edge])
    tiles = take_tiles("a", volume(TRUE), np.diag([*SPACING, 1.0]), case, 5)
    assert tiles[0].image.size
    assert tiles[0].extent[0] > 0 or tiles[0].extent[1] < tiles[0].side
    assert not tiles[1].image.size
    draw_tiles(tiles, [detection_record("a", case, ["nodule"])], tmp_path / "detections.png")


def test_a_picture_stays_small() -> None:
    image = np.zeros((600, 500, 8), dtype=np.float32)
    tile = take_tiles("a", image, np.eye(4), matched([], [], [[5, 5, 1, 595, 495, 6]]), 1)[0]
    assert max(tile.image.shape) <= module.LONGEST_SIDE
    assert tile.image.base is None or tile.image.base.nbytes <= 2 * tile.image.nbytes


def gathered(overlay: BoxOverlay) -> list[dict[str, Any]]:
    """Three scans: a sure hit, a hit of a low score, a miss; false alarms in the last."""
    affine = np.diag([*SPACING, 1.0])
    cases = [
        matched([NEAR], [0.9], [TRUE]),
        matched([NEAR, FAR], [0.2, 0.1], [TRUE]),
        matched([FAR] * 6, [0.8, 0.7, 0.6, 0.5, 0.4, 0.3], [TRUE]),
    ]
    for place, case in enumerate(cases):
        overlay.add(f"{place}.nii", volume(TRUE), affine, case)
    return [detection_record(f"{place}.nii", case, ["nodule"]) for place, case in enumerate(cases)]


def drawn(overlay: BoxOverlay, records: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[Tile]]:
    titles: list[str] = []
    tiles: list[Tile] = []
    monkeypatch.setattr(SubFigure, "suptitle", lambda self, title, **options: titles.append(title))
    monkeypatch.setattr(module, "draw_tile", lambda axes, tile, words: tiles.append(tile))
    overlay.draw(records)
    return titles, tiles


def test_hits_and_misses_are_told_at_the_operating_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = BoxOverlay(tmp_path / "detections.png", count=2)
    titles, tiles = drawn(overlay, gathered(overlay), monkeypatch)
    # one false positive a scan are three: scores above 0.5
    assert titles == ["Hits: 1 of 3 boxes", "Misses: 2 of 3 boxes", "False alarms: 3 in 3 scans"]
    assert [tile.name for tile in tiles] == ["0.nii", "1.nii", "2.nii", "2.nii", "2.nii"]
    assert [tile.score for tile in tiles[3:]] == [0.8, 0.7]
    assert (tiles[1].score, math.isnan(tiles[2].score)) == (0.2, True)


def test_without_a_limit_all_are_hits_that_were_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = BoxOverlay(tmp_path / "detections.png", count=8, rate=100.0)
    titles, tiles = drawn(overlay, gathered(overlay), monkeypatch)
    assert titles == ["Hits: 2 of 3 boxes", "Misses: 1 of 3 boxes", "False alarms: 7 in 3 scans"]
    assert len(tiles) == 10


def test_what_is_kept_is_bounded() -> None:
    overlay = BoxOverlay("detections.png", count=2)
    gathered(overlay)
    assert sorted((tile.true, tile.name) for tile in overlay.tiles) == [
        (False, "2.nii"),
        (False, "2.nii"),
        *[(True, f"{place}.nii") for place in range(3)],
    ]
    overlay.clear()
    assert overlay.tiles == []


def test_hits_are_taken_evenly_and_misses_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = BoxOverlay(tmp_path / "detections.png", count=3, rate=0.0)
    records = []
    for place in range(7):
        small = [12.0, 20.0, 10.0, 14.0 + place, 24.0, 14.0]
        case = matched([small], [0.9 - 0.1 * place], [small]) if place % 2 else matched([], [], [small])
        overlay.add(f"{place}", volume(TRUE), np.diag([*SPACING, 1.0]), case)
        records.append(detection_record(f"{place}", case, ["nodule"]))
    _, tiles = drawn(overlay, records, monkeypatch)
    assert [tile.name for tile in tiles] == ["1", "3", "5", "6", "4", "2"]


@pytest.mark.parametrize("given", ["some", "healthy", "silent"])
def test_any_cases_give_a_picture(given: str, tmp_path: Path) -> None:
    overlay = BoxOverlay(tmp_path / "detections.png", count=3)
    if given == "some":
        records = gathered(overlay)
    else:
        case = matched([FAR], [0.5], []) if given == "healthy" else matched([], [], [TRUE])
        overlay.add("a.nii", volume(TRUE), np.eye(4), case)
        records = [detection_record("a.nii", case, ["nodule"])]
    overlay.draw(records)
    with Image.open(tmp_path / "detections.png") as picture:
        picture.load()
        assert picture.format == "PNG"
    assert plt.get_fignums() == []
    assert [path.name for path in tmp_path.iterdir()] == ["detections.png"]


def test_messages(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`cases` must hold at least one case to draw detections.png, got none"):
        draw_tiles([], [], tmp_path / "detections.png")
    with pytest.raises(ValueError, match=r"`count` must be at least 1 and `rate` at least 0, got 0 and 1.0"):
        BoxOverlay(tmp_path / "detections.png", count=0)
