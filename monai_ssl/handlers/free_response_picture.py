"""The picture of a detector's free-response curve."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from monai_ssl.metrics.free_response import FALSE_POSITIVE_RATES, free_response_curve, sensitivities_of
from monai_ssl.metrics.prediction_table import draw_cases
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write

__all__ = ["FreeResponsePicture", "draw_free_response"]

# Okabe and Ito's colours, told apart with every common colour vision
POOLED = "#0072B2"
SINGLE = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
INK, PALE = "#222222", "#8A8A8A"
DOTS_PER_INCH = 150
_DASHES = (0, (2.2, 1.4))
_TICKS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")

Record = Mapping[str, Any]
Array = NDArray[np.float64]


class FreeResponsePicture:
    """Draws ``froc.png`` from the cases that :class:`~monai_ssl.handlers.detection_scores.DetectionReport` hands over.

    Args:
        path: the PNG file, replaced whole.
        title: of the picture.
        resamples: draws of cases for the band; 0: none is drawn. Those of the report make the band its intervals.
    """

    def __init__(self, path: str | os.PathLike[str], title: str = "", resamples: int = 2000) -> None:
        self.path = Path(path)
        self.title = title
        self.resamples = resamples

    def draw(self, cases: Sequence[Record]) -> None:
        """See :func:`draw_free_response`."""
        draw_free_response(cases, self.path, self.title, resamples=self.resamples)


def draw_free_response(
    cases: Sequence[Record], path: str | os.PathLike[str], title: str = "", *, resamples: int = 2000, seed: int = 0
) -> None:
    """Draw sensitivity over false positives a scan, with a 95 % band and the seven rates that make CPM, to a PNG file.

    The band is the 2.5th to the 97.5th percentile over draws of as many patients with replacement. Behind the curve's
    last point, where there are no more predictions, its level is dashed. With several classes each has a thin curve
    beside that of all.

    Args:
        cases: of :func:`~monai_ssl.metrics.box_matching.detection_record`, or the ``cases`` of a ``metrics.json``.
        path: the file, replaced whole.
        title: of the picture.
        resamples: number of draws, 0 for no band; this default and that of ``seed`` are those of ``metrics.json``.
        seed: of the draws.

    Raises:
        UserError: when there is no case.
    """
    if not cases:
        raise UserError(f"`cases` must hold at least one case to draw {Path(path).name}, got none.")
    figure = Figure(figsize=(7.2, 4.8), facecolor="white", dpi=DOTS_PER_INCH)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    axes = figure.subplots()
    names = list(cases[0]["classes"])
    if any(case["boxes"] for case in cases):
        rates = np.exp2(np.linspace(-3, 3, 145))  # the seven rates are among them
        patients = [case.get("patient", place) for place, case in enumerate(cases)]
        if resamples and len(set(patients)) > 1:
            draws = draw_cases(patients, resamples, seed)
            spread = sensitivities_of(cases, draws, rates=tuple(rates))
            known = spread[np.isfinite(spread[:, 0])]  # of draws with a box
            if len(known):
                low, high = np.percentile(known, (2.5, 97.5), axis=0)
                told = "95 % interval over cases"
                axes.fill_between(rates, low, high, color=POOLED, alpha=0.18, linewidth=0, label=told)
        _draw_curve(axes, cases, rates, None, POOLED, 2.2, "all classes" if len(names) > 1 else names[0])
        for place, name in enumerate(names if len(names) > 1 else ()):
            if any(case["classes"][name]["boxes"] for case in cases):
                _draw_curve(axes, cases, rates, name, SINGLE[place % len(SINGLE)], 1.2, name)
        marks = sensitivities_of(cases)
        axes.plot(
            FALSE_POSITIVE_RATES, marks, "o", color=POOLED, markersize=5.5, markeredgecolor="white", clip_on=False
        )
        axes.legend(loc="best", frameon=False, fontsize=9)
    else:
        axes.text(0.5, 0.5, "no case has a box to find", transform=axes.transAxes, ha="center", color=PALE)
    axes.set_title(_curve_in_words(cases), loc="left", fontsize=10, color=INK)
    _label(axes)
    _save(figure, path)


def _draw_curve(
    axes: Axes, cases: Sequence[Record], rates: Array, name: str | None, colour: str, thickness: float, label: str
) -> None:
    sensitivity = sensitivities_of(cases, rates=tuple(rates), class_name=name)
    last = free_response_curve(cases, name)[0][-1]
    reached = np.searchsorted(rates, last, side="right")
    axes.plot(rates[:reached], sensitivity[:reached], color=colour, linewidth=thickness, label=label)
    rest = slice(max(reached - 1, 0), None)
    axes.plot(rates[rest], sensitivity[rest], color=colour, linewidth=thickness, linestyle=_DASHES)


def _curve_in_words(cases: Sequence[Record]) -> str:
    boxes = sum(case["boxes"] for case in cases)
    over = f"{len(cases)} scan{'s' * (len(cases) != 1)}, {boxes} box{'es' * (boxes != 1)}"
    return f"CPM {sensitivities_of(cases).mean():.3f}: {over}" if boxes else over


def _label(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(FALSE_POSITIVE_RATES[0], FALSE_POSITIVE_RATES[-1])
    axes.set_xticks(FALSE_POSITIVE_RATES, _TICKS)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, 1)
    axes.set_xlabel("False positives a scan")
    axes.set_ylabel("Sensitivity")
    axes.grid(color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    # pyplot keeps a global list of figures and picks a display; a canvas of one's own does neither
    canvas = FigureCanvasAgg(figure)
    atomic_write(path, lambda stream: canvas.print_png(stream))
