"""The reliability picture: how often a network is right where it is as sure as this."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from monai_ssl.metrics.calibration import expected_calibration_error
from monai_ssl.utils.files import atomic_write

__all__ = ["ReliabilityPicture", "draw_reliability"]

# three of Okabe and Ito's colours, told apart with every common colour vision
RIGHT, TOO_SURE, NOT_SURE = "#0072B2", "#E69F00", "#56B4E9"
INK, PALE = "#222222", "#8A8A8A"
DOTS_PER_INCH = 150


class ReliabilityPicture:
    """Draws ``reliability.png`` from the counts that :class:`~monai_ssl.handlers.PseudoLabelAudit` hands over.

    Args:
        path: the PNG file, replaced whole.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def draw(self, counts: Tensor, title: str) -> None:
        """See :func:`draw_reliability`."""
        draw_reliability(counts, self.path, title)


def draw_reliability(counts: Tensor, path: str | os.PathLike[str], title: str = "") -> None:
    """Draw accuracy against confidence with the number of voxels below, for all voxels and for the foreground.

    Beside the picture of all voxels, which is background for the most part, stands that of the voxels predicted as
    foreground. The blue part of a bar is right; orange above it says by how much the mean confidence of these voxels
    is too high. Where it is too low, the accuracy goes on in light blue. The number is on a logarithmic scale.

    Args:
        counts: of :func:`monai_ssl.metrics.reliability_counts`, background first.
        path: the PNG file, replaced whole.
        title: of the whole.

    Shape:
        - counts: ``(C, bins, 3)``

    Raises:
        ValueError: when it is no such table.
    """
    if counts.ndim != 3 or counts.shape[0] < 2 or counts.shape[2] != 3:
        raise ValueError(f"`counts` must be (C, bins, 3) of two classes at least, got {tuple(counts.shape)}.")
    figure = Figure(figsize=(9.0, 5.2), facecolor="white", dpi=DOTS_PER_INCH)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    upper, lower = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    parts = {"All voxels": counts, "Predicted as foreground": counts[1:]}
    for column, (name, part) in enumerate(parts.items()):
        error = expected_calibration_error(part)
        written = "no voxel" if np.isnan(error) else f"ECE {error:.3f}"
        upper[column].set_title(f"{name}: {written}", loc="left", fontsize=11, fontweight="bold", color=INK)
        _draw_bins(upper[column], lower[column], part.sum(0))
    upper[0].set_ylabel("Accuracy")
    lower[0].set_ylabel("Voxels")
    lower[0].set_yscale("log")
    # from half a voxel up, so that one voxel is seen
    lower[0].set_ylim(0.5, 2 * max(float(counts.sum(0)[:, 0].max()), 1.0))
    handles, names = upper[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    # pyplot keeps a global list of figures and picks a display; a canvas of one's own does neither
    canvas = FigureCanvasAgg(figure)
    atomic_write(path, lambda stream: canvas.print_png(stream))


def _draw_bins(above: Axes, below: Axes, counts: Tensor) -> None:
    edges = np.linspace(0, 1, len(counts) + 1)
    number, confidence, right = counts.numpy().T
    there = number > 0
    left, width = edges[:-1][there], 0.92 / len(counts)
    accuracy, sure = right[there] / number[there], confidence[there] / number[there]
    both, high, low = np.minimum(accuracy, sure), np.maximum(sure - accuracy, 0), np.maximum(accuracy - sure, 0)
    above.bar(left, both, width, align="edge", color=RIGHT, label="right")
    above.bar(left, high, width, both, align="edge", color=TOO_SURE, label="too sure")
    above.bar(left, low, width, both, align="edge", color=NOT_SURE, label="right, and not so sure")
    above.plot([0, 1], [0, 1], color=PALE, linestyle=(0, (4, 3)), linewidth=1)
    above.set_ylim(0, 1)
    below.bar(left, number[there] - 0.5, width, 0.5, align="edge", color=PALE)
    below.set_xlabel("Confidence")
    for axes in (above, below):
        axes.set_xlim(0, 1)
        axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
