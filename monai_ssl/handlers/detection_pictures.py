"""The picture of a detector's evaluation: slices through hits, misses and false alarms."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from monai_ssl.metrics.box_matching import MatchedBoxes
from monai_ssl.metrics.free_response import operating_score
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write

__all__ = ["PREDICTION", "TRUTH", "BoxOverlay", "Tile", "draw_tile", "draw_tiles", "take_tiles"]

# Okabe and Ito's colours, told apart with every common colour vision
TRUTH, PREDICTION = "#56B4E9", "#E69F00"
INK, PALE = "#222222", "#8A8A8A"
DOTS_PER_INCH = 150
MARGIN_MM = 15.0  # what is shown around a box
LONGEST_SIDE = 160  # pixels that are kept of a slice, so that thousands of boxes fit into memory
_HALO = [withStroke(linewidth=2.5, foreground="#000000B0")]  # white letters on white tissue
_DASHES = (0, (2.2, 1.4))

Record = Mapping[str, Any]
Array = NDArray[np.float64]
Four = tuple[float, float, float, float]


@dataclass(frozen=True)
class Tile:
    """One axial slice through the middle of a box, in millimetres from the upper left corner of a square.

    Attributes:
        name: file name of the case.
        label: class of the box.
        score: of the prediction; NaN where a true box has none.
        true: whether it is there for a true box, not for a false alarm.
        volume: of the box, in cubic millimetres.
        side: of the square.
        image: grey values, ``(rows, columns)`` uint8, row 0 on top.
        extent: left, right, bottom and top end of the image.
        predicted: left, top, width and height of the prediction, where there is one.
        truths: the same of every true box that the slice meets.
    """

    name: str
    label: int
    score: float
    true: bool
    volume: float
    side: float
    image: NDArray[np.uint8]
    extent: Four
    predicted: Four | None
    truths: tuple[Four, ...]


class BoxOverlay:
    """Gathers small slices through the boxes of all cases and draws hits, misses and false alarms when all are in.

    Pass one as ``overlay`` to :class:`~monai_ssl.handlers.detection_scores.DetectionReport`. What is a hit and what a
    miss is decided at the end, at ``rate`` false positives a scan: without a limit a detector misses hardly anything,
    since some box of a tiny score is nearly always there. So every true box is kept, and the surest false alarms.

    Args:
        path: the PNG file, replaced whole.
        count: at most so many pictures of each kind.
        rate: false positives a scan of the operating point.

    Raises:
        ValueError: when ``count`` is below 1 or ``rate`` below 0.
    """

    def __init__(self, path: str | os.PathLike[str], count: int = 5, rate: float = 1.0) -> None:
        if count < 1 or rate < 0:
            raise ValueError(f"`count` must be at least 1 and `rate` at least 0, got {count} and {rate}.")
        self.path = Path(path)
        self.count = count
        self.rate = rate
        self.tiles: list[Tile] = []

    def clear(self) -> None:
        """Forget the cases of an earlier run."""
        self.tiles = []

    def add(self, name: str, image: Any, affine: Any, matched: MatchedBoxes) -> None:
        """Keep the slices of a case; the arguments are those of :func:`take_tiles`."""
        found = self.tiles + take_tiles(name, image, affine, matched, self.count)
        alarms = sorted((tile for tile in found if not tile.true), key=lambda tile: -tile.score)
        self.tiles = [tile for tile in found if tile.true] + alarms[: self.count]

    def draw(self, cases: Sequence[Record]) -> None:
        """Draw what was gathered; see :func:`draw_tiles`."""
        draw_tiles(self.tiles, cases, self.path, self.count, self.rate)


def take_tiles(name: str, image: Any, affine: Any, matched: MatchedBoxes, count: int) -> list[Tile]:
    """Cut an axial slice through each true box and through the surest false alarms, with 15 mm around.

    Args:
        name: file name of the case.
        image: grey values, shown from their 1st to their 99th percentile.
        affine: from voxels to RAS millimetres; any orientation, ``(4, 4)``.
        matched: boxes in edge coordinates of the image: voxel i covers i to i + 1.
        count: at most so many false alarms.

    Shape:
        - image: ``(H, W, D)``
    """
    affine = np.asarray(affine, dtype=np.float64)
    to_ras = io_orientation(affine)
    grey = apply_orientation(np.asarray(image), to_ras)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(0))[np.argsort(to_ras[:, 0])]
    boxes, truths = (_turned(part, to_ras, np.shape(image)) for part in (matched.boxes, matched.true_boxes))
    window = _grey_window(grey)
    tiles = []
    for box, label, row in zip(truths, matched.true_labels, matched.found_by, strict=True):
        score, predicted = (matched.scores[row], boxes[row]) if row >= 0 else (math.nan, None)
        tiles.append(_cut(name, grey, window, spacing, box, predicted, truths, int(label), float(score), True))
    for row in np.flatnonzero(~matched.hits[0])[:count]:
        label, score = int(matched.labels[row]), float(matched.scores[row])
        tiles.append(_cut(name, grey, window, spacing, boxes[row], boxes[row], truths, label, score, False))
    return tiles


def draw_tiles(
    tiles: Sequence[Tile], cases: Sequence[Record], path: str | os.PathLike[str], count: int = 5, rate: float = 1.0
) -> None:
    """Draw hits, misses and false alarms at an operating point to a PNG file, true boxes solid and predictions dashed.

    Hits are taken evenly from the surest to the least sure, of the misses the largest, of the false alarms the surest.

    Args:
        tiles: of :func:`take_tiles`.
        cases: records of all cases, which decide the operating point and give the counts.
        path: the file, replaced whole.
        count: at most so many of each kind.
        rate: false positives a scan of the operating point.

    Raises:
        UserError: when there is no case.
    """
    if not cases:
        raise UserError(f"`cases` must hold at least one case to draw {Path(path).name}, got none.")
    least = operating_score(cases, rate)
    hits, falses = (
        sum(score > least for case in cases for entry in case["classes"].values() for score in entry[key])
        for key in ("hit_scores", "false_scores")
    )
    boxes = sum(case["boxes"] for case in cases)
    rows = {
        f"Hits: {hits} of {boxes} boxes": _spread([t for t in tiles if t.true and t.score > least], count),
        f"Misses: {boxes - hits} of {boxes} boxes": sorted(
            (t for t in tiles if t.true and not t.score > least), key=lambda t: -t.volume
        )[:count],
        f"False alarms: {falses} in {len(cases)} scan{'s' * (len(cases) != 1)}": sorted(
            (t for t in tiles if not t.true and t.score > least), key=lambda t: -t.score
        )[:count],
    }
    names = list(cases[0]["classes"])
    figure = Figure(figsize=(2.1 * count + 0.2, 3 * 2.45 + 0.8), facecolor="white", dpi=DOTS_PER_INCH)
    figure.set_layout_engine("constrained")
    where = "all predictions" if least == -math.inf else f"scores above {least:.3g}"
    figure.suptitle(
        f"At most {rate:g} false positive{'s' * (rate != 1)} a scan: {where}",
        x=0.01,
        ha="left",
        fontsize=12,
        fontweight="bold",
        color=INK,
    )
    parts: Any = figure.subfigures(3, 1)
    for part, (title, chosen) in zip(parts, rows.items(), strict=True):
        part.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
        for place, axes in enumerate(part.subplots(1, count, squeeze=False)[0]):
            if place < len(chosen):
                tile = chosen[place]
                told = "no prediction" if math.isnan(tile.score) else f"score {tile.score:.3g}"
                draw_tile(axes, tile, told if len(names) == 1 else f"{names[tile.label]}, {told}")
                axes.set_title(tile.name, fontsize=7, color=PALE)
            else:
                axes.set_axis_off()
                # an empty square as large as the others, so that all rows have one height
                axes.set_aspect("equal")
    handles = [
        Line2D([], [], color=TRUTH, linewidth=2.0, label="True box"),
        Line2D([], [], color=PREDICTION, linewidth=2.0, linestyle=_DASHES, label="Prediction"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    _save(figure, path)


def _turned(boxes: Array, to_ras: Array, shape: tuple[int, ...]) -> Array:
    """Boxes in the voxels of the volume in RAS axes."""
    turned = np.empty_like(boxes)
    for axis, (target, sign) in enumerate(to_ras):
        low, high = boxes[:, axis], boxes[:, 3 + axis]
        turned[:, int(target)], turned[:, 3 + int(target)] = (
            (low, high) if sign > 0 else (shape[axis] - high, shape[axis] - low)
        )
    return turned


def _cut(
    name: str,
    grey: NDArray[Any],
    window: tuple[float, float],
    spacing: Array,
    box: Array,
    predicted: Array | None,
    truths: Array,
    label: int,
    score: float,
    true: bool,
) -> Tile:
    centre, sides = (box[:3] + box[3:]) / 2, (box[3:] - box[:3]) * spacing
    half = float(sides[:2].max() / 2 + MARGIN_MM)
    level = int(np.clip(centre[2], 0, grey.shape[2] - 1))
    (left, right), (front, back) = (
        (
            max(math.floor(centre[a] - half / spacing[a]), 0),
            min(math.ceil(centre[a] + half / spacing[a]), grey.shape[a]),
        )
        for a in (0, 1)
    )
    stride = max(math.ceil(max(right - left, back - front) / LONGEST_SIDE), 1)
    # left of the picture is the patient's right, and up is the front: both axes run against the voxels
    shown = grey[left:right:stride, front:back:stride, level].T[::-1, ::-1]

    def place(axis: int, edge: float) -> float:
        return float((centre[axis] - edge) * spacing[axis] + half)

    def rectangle(corners: Array) -> Four:
        x, y = place(0, corners[3]), place(1, corners[4])
        return x, y, place(0, corners[0]) - x, place(1, corners[1]) - y

    met = tuple(rectangle(truth) for truth in truths if truth[2] <= centre[2] <= truth[5])
    extent = (place(0, right), place(0, left), place(1, front), place(1, back))
    own = None if predicted is None else rectangle(predicted)
    image = _to_uint8(shown, window)
    return Tile(name, label, score, true, float(sides.prod()), 2 * half, image, extent, own, met)


def _spread(tiles: Sequence[Tile], count: int) -> list[Tile]:
    surest = sorted(tiles, key=lambda tile: -tile.score)
    places = np.unique(np.linspace(0, len(surest) - 1, min(count, len(surest))).round().astype(int))
    return [surest[place] for place in places]


def draw_tile(axes: Axes, tile: Tile, words: str) -> None:
    """Draw a slice with its true boxes, solid, and the prediction, dashed.

    Args:
        axes: where to.
        tile: the slice.
        words: what stands in its upper left corner.
    """
    if tile.image.size:
        axes.imshow(tile.image, cmap="gray", vmin=0, vmax=255, extent=tile.extent, interpolation="bilinear")
    for corners in tile.truths:
        axes.add_patch(Rectangle(corners[:2], *corners[2:], fill=False, edgecolor=TRUTH, linewidth=1.8))
    if tile.predicted is not None:
        style: dict[str, Any] = {"fill": False, "edgecolor": PREDICTION, "linewidth": 1.6, "linestyle": _DASHES}
        axes.add_patch(Rectangle(tile.predicted[:2], *tile.predicted[2:], **style))
    axes.set_xlim(0, tile.side)
    axes.set_ylim(tile.side, 0)
    axes.set_aspect("equal")
    axes.set_facecolor("black")
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    letters: dict[str, Any] = {"transform": axes.transAxes, "color": "white", "fontsize": 8, "path_effects": _HALO}
    axes.text(0.03, 0.97, words, va="top", **letters)
    length = 10.0
    axes.plot([0.04 * tile.side, 0.04 * tile.side + length], [0.93 * tile.side] * 2, color="white", linewidth=2)
    axes.text(0.04, 0.09, f"{length:g} mm", **letters)


def _grey_window(grey: NDArray[Any]) -> tuple[float, float]:
    """The 1st and 99th percentile of about a million voxels; a sort of a whole CT takes seconds."""
    stride = max(round((grey.size / 1e6) ** (1 / 3)), 1)
    sample = grey[::stride, ::stride, ::stride]
    known = sample[np.isfinite(sample)]
    low, high = np.percentile(known, (1.0, 99.0)) if known.size else (0.0, 1.0)
    return float(low), float(high)


def _to_uint8(values: NDArray[Any], window: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = window
    scaled = (np.nan_to_num(values.astype(np.float64), nan=low) - low) / max(high - low, 1e-12)
    return (255 * scaled.clip(0, 1)).astype(np.uint8)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    # pyplot keeps a global list of figures and picks a display; a canvas of one's own does neither
    canvas = FigureCanvasAgg(figure)
    atomic_write(path, lambda stream: canvas.print_png(stream))
