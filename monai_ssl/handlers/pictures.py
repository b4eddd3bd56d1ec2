"""The picture of an evaluation: contours of label and prediction on the worst, the median and the best case."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write

__all__ = ["COLOURS", "CasePicture", "Overlay", "Plane", "draw_overlay", "draw_plane", "take_picture"]

# Okabe and Ito's colours, told apart with every common colour vision; those that vanish on grey come last.
COLOURS = ("#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#009E73", "#D55E00", "#0072B2")
INK, PALE = "#222222", "#8A8A8A"
_HALO = [withStroke(linewidth=2.5, foreground="#000000B0")]  # white letters on white tissue
_DASHES = (0, (2.2, 1.4))
DOTS_PER_INCH = 150
MARGIN_MM = 15.0  # what is shown around the labelled region
LONGEST_SIDE = 256  # pixels that are kept of a slice, so that hundreds of cases fit into memory

# Of a volume in RAS axes: name, axis cut, axes shown as columns and rows, letters at left and right. Left of the
# picture is the patient's right, as radiologists look; in the sagittal view it is the front.
_VIEWS = (("Axial", 2, 0, 1, "RL"), ("Coronal", 1, 0, 2, "RL"), ("Sagittal", 0, 1, 2, "AP"))


@dataclass(frozen=True)
class Plane:
    """One slice, upright: row 0 is the top.

    Attributes:
        title: name of the view.
        image: grey values, ``(rows, columns)`` uint8.
        reference: classes of the label.
        prediction: classes of the prediction.
        spacing: millimetres between rows and between columns.
        sides: letters of the patient's directions at the left and at the right.
    """

    title: str
    image: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    spacing: tuple[float, float]
    sides: str


@dataclass(frozen=True)
class CasePicture:
    """What the overlay keeps of a case: its name, its mean Dice (None: no class in it) and three slices."""

    name: str
    dice: float | None
    planes: tuple[Plane, ...]


def take_picture(name: str, dice: float | None, image: Any, label: Any, prediction: Any, affine: Any) -> CasePicture:
    """Cut the axial, coronal and sagittal slice with most label voxels, cropped to what is labelled and 15 mm around.

    Where the label is empty the prediction takes its place, and where both are, the middle of the volume.

    Args:
        name: file name of the case.
        dice: its mean Dice.
        image: grey values, shown from their 1st to their 99th percentile.
        label: reference classes.
        prediction: predicted classes.
        affine: from voxels to RAS millimetres; any orientation, ``(4, 4)``.

    Shape:
        - image, label, prediction: ``(H, W, D)``
    """
    affine = np.asarray(affine, dtype=np.float64)
    to_ras = io_orientation(affine)
    grey, reference, predicted = (apply_orientation(np.asarray(part), to_ras) for part in (image, label, prediction))
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(0))
    spacing = lengths[np.argsort(to_ras[:, 0])]
    window = _grey_window(grey)
    guide = reference > 0 if (reference > 0).any() else predicted > 0
    planes = []
    for title, axis, across, up, sides in _VIEWS:
        area = guide.sum(axis=(across, up))
        index = int(area.argmax()) if area.any() else len(area) // 2
        grey_slice, reference_slice, predicted_slice = (
            _upright(part.take(index, axis)) for part in (grey, reference, predicted)
        )
        steps = (float(spacing[up]), float(spacing[across]))
        rows, columns = _crop((reference_slice > 0) | (predicted_slice > 0), steps)
        planes.append(
            Plane(
                title,
                _to_uint8(grey_slice[rows, columns], window),
                reference_slice[rows, columns].astype(np.uint8),
                predicted_slice[rows, columns].astype(np.uint8),
                (steps[0] * rows.step, steps[1] * columns.step),
                sides,
            )
        )
    return CasePicture(name, dice, tuple(planes))


def draw_overlay(cases: Sequence[CasePicture], path: str | os.PathLike[str], class_names: Sequence[str]) -> None:
    """Draw the worst, the median and the best case by mean Dice, label solid and prediction dashed, to a PNG file.

    Args:
        cases: pictures of all cases; with two, the worst and the best are drawn. Cases without a Dice come last in
            line and are drawn only if there is no other.
        path: the file, replaced whole.
        class_names: names of the foreground classes, for the legend.

    Raises:
        UserError: when there is no case.
    """
    if not cases:
        raise UserError(f"`cases` must hold at least one case to draw {Path(path).name}, got none.")
    chosen = _worst_median_best(cases)
    figure = Figure(figsize=(9.6, 0.75 + 3.45 * len(chosen)), facecolor="white", dpi=DOTS_PER_INCH)
    height = 3.45 * len(chosen) + 0.75
    grid = figure.add_gridspec(
        len(chosen), 3, left=0.02, right=0.98, top=1 - 0.35 / height, bottom=0.55 / height, wspace=0.03, hspace=0.14
    )
    for row, (rank, case) in enumerate(chosen):
        for column, plane in enumerate(case.planes):
            axes = figure.add_subplot(grid[row, column])
            draw_plane(axes, plane, len(class_names))
            if column == 0:
                score = "no class to score" if case.dice is None else f"Dice {case.dice:.3f}"
                axes.set_title(f"{rank}: {score}", loc="left", fontsize=12, fontweight="bold", color=INK)
            if column == 2:
                axes.set_title(case.name, loc="right", fontsize=9, color=PALE)
    figure.legend(
        handles=_legend(class_names), loc="lower center", ncols=min(len(class_names), 5) + 2, frameon=False, fontsize=10
    )
    _save(figure, path)


class Overlay:
    """Gathers small pictures of scored cases and draws ``overlay.png`` when all are in.

    Pass one as ``overlay`` to :class:`monai_ssl.handlers.scores.SegmentationReport`. It keeps at most about half a
    megabyte a case, since which case is the median is known only at the end.

    Args:
        path: the PNG file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.cases: list[CasePicture] = []

    def clear(self) -> None:
        """Forget the cases of an earlier run."""
        self.cases = []

    def add(self, name: str, dice: float | None, image: Any, label: Any, prediction: Any, affine: Any) -> None:
        """Keep three slices of a case; the arguments are those of :func:`take_picture`."""
        self.cases.append(take_picture(name, dice, image, label, prediction, affine))

    def draw(self, class_names: Sequence[str]) -> None:
        """Draw the worst, median and best of the cases."""
        draw_overlay(self.cases, self.path, class_names)


def _upright(ras_slice: NDArray[Any]) -> NDArray[Any]:
    """Columns and rows of a RAS slice to a picture: up is up, and the first axis (right, front) begins at the left."""
    return ras_slice.T[::-1, ::-1]


def _crop(shown: NDArray[np.bool_], spacing: tuple[float, float]) -> tuple[slice, slice]:
    """The box of what is shown with its margin, thinned to at most ``LONGEST_SIDE`` pixels a side."""
    box = []
    for axis, step_mm in enumerate(spacing):
        occupied = np.flatnonzero(shown.any(axis=1 - axis))
        margin = math.ceil(MARGIN_MM / step_mm)
        low, high = (occupied[0] - margin, occupied[-1] + margin + 1) if len(occupied) else (0, shown.shape[axis])
        box.append((max(int(low), 0), min(int(high), shown.shape[axis])))
    stride = max(math.ceil((high - low) / LONGEST_SIDE) for low, high in box)
    return slice(*box[0], stride), slice(*box[1], stride)


def _grey_window(grey: NDArray[Any]) -> tuple[float, float]:
    """The 1st and 99th percentile of about a million voxels; a sort of a whole CT takes seconds."""
    stride = max(round((grey.size / 1e6) ** (1 / 3)), 1)
    sample = grey[::stride, ::stride, ::stride]
    low, high = np.percentile(sample[np.isfinite(sample)], (1.0, 99.0)) if np.isfinite(sample).any() else (0.0, 1.0)
    return float(low), float(high)


def _to_uint8(values: NDArray[Any], window: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = window
    scaled = (np.nan_to_num(values.astype(np.float64), nan=low) - low) / max(high - low, 1e-12)
    return (255 * scaled.clip(0, 1)).astype(np.uint8)


def _worst_median_best(cases: Sequence[CasePicture]) -> list[tuple[str, CasePicture]]:
    scored = sorted((case for case in cases if case.dice is not None), key=lambda case: (case.dice, case.name))
    if len(scored) < 2:
        return [
            ("Only case" if len(cases) == 1 else "Only scored case" if scored else "First case", (scored or cases)[0])
        ]
    if len(scored) == 2:
        return [("Worst", scored[0]), ("Best", scored[1])]
    return [("Worst", scored[0]), ("Median", scored[(len(scored) - 1) // 2]), ("Best", scored[-1])]


def draw_plane(axes: Axes, plane: Plane, classes: int) -> None:
    """Draw a slice with the contours of its label, solid, and of its prediction, dashed.

    Args:
        axes: where to.
        plane: the slice.
        classes: number of foreground classes.
    """
    rows, columns = plane.image.shape
    height, width = rows * plane.spacing[0], columns * plane.spacing[1]
    axes.imshow(
        plane.image,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(0, width, height, 0),
        interpolation="bilinear",
        aspect="equal",
    )
    axes.set_adjustable("datalim")
    axes.set_facecolor("black")
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    # a ring of background closes contours at the border of the slice
    x = (np.arange(-1, columns + 1) + 0.5) * plane.spacing[1]
    y = (np.arange(-1, rows + 1) + 0.5) * plane.spacing[0]
    for index in range(classes):
        colour = COLOURS[index % len(COLOURS)]
        for part, style, thickness in ((plane.reference, "solid", 2.0), (plane.prediction, _DASHES, 1.6)):
            mask = np.pad(part == index + 1, 1)
            if mask.any():
                axes.contour(x, y, mask, levels=[0.5], colors=[colour], linestyles=[style], linewidths=thickness)
    letters: dict[str, Any] = {"transform": axes.transAxes, "color": "white", "fontsize": 9, "path_effects": _HALO}
    axes.text(0.02, 0.5, plane.sides[0], va="center", ha="left", **letters)
    axes.text(0.98, 0.5, plane.sides[1], va="center", ha="right", **letters)
    axes.text(0.03, 0.97, plane.title, va="top", ha="left", **letters)
    _draw_scale_bar(axes)


def _draw_scale_bar(axes: Axes) -> None:
    axes.apply_aspect()
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    wide = abs(right - left)
    length = max(step for step in (1, 2, 5, 10, 20, 50, 100, 200) if step <= max(wide / 3, 1))
    x, y = left + 0.04 * wide, bottom + 0.06 * (top - bottom)
    axes.plot([x, x + length], [y, y], color="white", linewidth=2, path_effects=_HALO, scalex=False, scaley=False)
    where: dict[str, Any] = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
    axes.annotate(f"{length} mm", (x + length / 2, y), fontsize=8, color="white", path_effects=_HALO, **where)


def _legend(class_names: Sequence[str]) -> list[Line2D]:
    classes = [
        Line2D([], [], color=COLOURS[index % len(COLOURS)], linewidth=6, label=name)
        for index, name in enumerate(class_names)
    ]
    return [
        *classes,
        Line2D([], [], color=INK, linewidth=2.0, label="Label"),
        Line2D([], [], color=INK, linewidth=1.6, linestyle=_DASHES, label="Prediction"),
    ]


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    # pyplot keeps a global list of figures and picks a display; a canvas of one's own does neither
    canvas = FigureCanvasAgg(figure)
    atomic_write(path, lambda stream: canvas.print_png(stream))
