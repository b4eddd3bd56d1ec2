"""The picture of a study: the metric over the number of labels, for every method, as PNG and SVG."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from monai_ssl.study.curve_series import (
    BASELINE,
    PRIMARY,
    Series,
    budget_positions,
    dodge,
    findings_of,
    primary_of,
    read_series,
)
from monai_ssl.study.measures import MEASURES, Measure
from monai_ssl.study.words import number_of
from monai_ssl.utils.files import atomic_write

__all__ = ["curve_figure", "draw_curves"]

INK, PALE = "#222222", "#767676"
DOTS_PER_INCH = 150
SIZE = (9.6, 6.2)  # inches

_DASHES = (0, (4, 2))
_LEGEND_LETTERS = 30  # in a line of the legend; beside longer ones the axes would get too narrow
_AXES_INCHES, _LETTER_INCHES = 6.5, 0.09  # about, to see which labels of ticks would meet


def draw_curves(content: Mapping[str, Any], path_stem: Path) -> None:
    """Write the picture of :func:`curve_figure` as ``<path_stem>.png`` and ``<path_stem>.svg``.

    The same content gives the same bytes. Both are rendered before either is written, and each is replaced whole.

    Args:
        content: of ``study.json``; see :func:`curve_figure`.
        path_stem: path of both files without their suffix; its folder must exist.
    """
    figure = curve_figure(content)
    # pyplot keeps a global list of figures and picks a display; a canvas of one's own does neither
    svg, png = io.BytesIO(), io.BytesIO()
    # the PNG first: a canvas for SVG leaves the figure with its own 72 dots per inch
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    # text stays text, and identifiers follow from what is drawn instead of a random number
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "monai_ssl"}):
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None, "Title": _title(content)})
    atomic_write(path_stem.with_name(f"{path_stem.name}.png"), lambda file: file.write(png.getvalue()))
    atomic_write(path_stem.with_name(f"{path_stem.name}.svg"), lambda file: file.write(svg.getvalue()))


def curve_figure(content: Mapping[str, Any]) -> Figure:
    """Draw the mean metric of every method over the number of labels, on a logarithmic axis.

    Every method has its means as a line, their intervals as bars and the figures of single seeds as pale points left of
    the bar. All methods at a budget have the same labels: they stand side by side only to be told apart, the baseline
    on the tick itself. The dashed line is
    the baseline at the largest budget. Methods that only a screen measured are hollow.

    Args:
        content: of ``study.json``, as :func:`monai_ssl.study.table.collect` returns it, with ``findings``. Means and
            intervals are those of ``findings["means"]``, and seeds its ``by_seed``, all over the same cases; where it
            lacks them, those of ``scores``, without a bar. Whatever is missing or ``None`` is left out.
    """
    series = read_series(content)
    positions = budget_positions(series)
    dodge(series, positions, primary_of(content).get("baseline"))
    figure = Figure(figsize=SIZE, facecolor="white", dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    for number, one in enumerate(series):
        # the primary method over the baseline over all others
        top = 3 if one.colour == PRIMARY[0] else 2 if one.colour == BASELINE[0] else 1
        _draw_series(axes, one, positions, number, top)
    ceiling = _draw_ceiling(axes, content, series, positions)
    if series:
        _scale(axes, series, positions, content)
        handles = [_handle(one, content.get("chosen") or ()) for one in series]
        _legend(axes, [*handles, *ceiling], 1.1 if ceiling else 1.02)
    else:
        axes.text(0.5, 0.5, "no finished run yet", transform=axes.transAxes, ha="center", color=PALE)
        axes.set(xticks=[], yticks=[])
    _dress(figure, axes, content, series)
    return figure


def _draw_series(axes: Axes, one: Series, positions: Mapping[str, float], number: int, top: int) -> None:
    x = one.at(positions)
    known = [(at, figure) for at, figure in zip(x, one.figures, strict=True) if figure.mean is not None]
    bars = [(at, f.low, f.high) for at, f in known if f.low is not None and f.high is not None]
    seeds = [(at * one.seed_factor, seed) for at, f in zip(x, one.figures, strict=True) for seed in f.seeds]
    # seeds, lines, bars, marks: no line hides the mark of another method; figures of exactly 1 are drawn whole
    layers = [layer + 0.1 * top for layer in (2, 3, 4, 5)]
    common: dict[str, Any] = {"color": one.colour, "clip_on": False}
    if seeds:
        look = {**common, "alpha": 0.35, "markersize": 4.5, "markeredgewidth": 0, "zorder": layers[0]}
        axes.plot(*zip(*seeds, strict=True), "o", **look, gid=f"seeds-{number}")
    if known:
        points = [(at, figure.mean) for at, figure in known]
        style = _DASHES if one.dashed else "solid"
        width = 2.0 if top > 1 else 1.4
        axes.plot(*zip(*points, strict=True), color=one.colour, linewidth=width, linestyle=style, zorder=layers[1])
        look = {**common, **_mark(one), "linestyle": "none", "zorder": layers[3]}
        axes.plot(*zip(*points, strict=True), **look, gid=f"mean-{number}")
    if bars:
        at, low, high = zip(*bars, strict=True)
        axes.vlines(at, low, high, color=one.colour, linewidth=1.2, zorder=layers[2], gid=f"interval-{number}")
        for ends in (low, high):
            axes.plot(at, ends, "_", color=one.colour, markersize=6, markeredgewidth=1.2, zorder=layers[2])


def _mark(one: Series) -> dict[str, Any]:
    edge = {"markerfacecolor": "white", "markeredgewidth": 1.6} if one.hollow else {"markeredgecolor": "white"}
    return {"marker": one.marker, "markersize": 7 if one.marker in "osD" else 9, **edge}


def _draw_ceiling(
    axes: Axes, content: Mapping[str, Any], series: Sequence[Series], positions: Mapping[str, float]
) -> list[Line2D]:
    """Draw the mean of the baseline at its largest budget, where that is known, and return the line for the legend."""
    largest = content.get("ceiling", list(positions)[-1] if len(positions) > 1 else None)
    baseline = [one for one in series if one.label == primary_of(content).get("baseline")]
    means = [f.mean for one in baseline for f in one.figures if f.budget == largest and f.mean is not None]
    if not means:
        return []
    look: dict[str, Any] = {"color": BASELINE[0], "linewidth": 0.9, "linestyle": (0, (5, 3))}
    axes.axhline(means[0], **look, zorder=1.5, gid="ceiling")
    # outside of the axes, where no data are
    where: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "color": BASELINE[0]}
    axes.text(1.01, means[0], f"ceiling\n{means[0]:.3g}", fontsize=9, **where)
    return [Line2D([], [], **look, label=f"ceiling: {baseline[0].label}, {_tick(largest, positions[largest])}")]


def _scale(axes: Axes, series: Sequence[Series], positions: Mapping[str, float], content: Mapping[str, Any]) -> None:
    values = [value for one in series for figure in one.figures for value in figure.known()]
    margin = 0.05 * (max(values) - min(values)) or 0.02 * abs(values[0]) or 0.02
    # wide intervals of few seeds reach beyond what the metric can be
    axes.set_ylim(max(min(values) - margin, 0.0), min(max(values) + margin, _measure(content).most))
    axes.set_xscale("log")
    axes.set_xticks(list(positions.values()), _tick_labels(positions), parse_math=False)
    axes.xaxis.set_minor_locator(NullLocator())
    reached = [at for one in series for at in one.at(positions)]
    room = (max(reached) / min(reached)) ** 0.05 if len(positions) > 1 else 1.5
    axes.set_xlim(min(reached) / room, max(reached) * room)


def _tick_labels(positions: Mapping[str, float]) -> list[str]:
    """Name the ticks; a label that would run into its neighbour goes a line lower."""
    logs = [math.log(labels) for labels in positions.values()]
    inch = _AXES_INCHES / ((logs[-1] - logs[0]) or 1.0)
    labels, ends = [], [-math.inf] * 4
    for (budget, number), log in zip(positions.items(), logs, strict=True):
        text = _tick(budget, number)
        half = (len(text) + 1) * _LETTER_INCHES / 2
        row = next((row for row, end in enumerate(ends) if log * inch - half >= end), len(ends) - 1)
        ends[row] = log * inch + half
        labels.append("\n" * row + text)
    return labels


def _tick(budget: str, labels: float) -> str:
    number = f"{round(labels, 1):g}"
    return number if budget == number else f"{budget} ({number})"


def _handle(one: Series, chosen: Collection[str]) -> Line2D:
    style = "none" if len(one.figures) == 1 else _DASHES if one.dashed else "solid"
    look: dict[str, Any] = {"color": one.colour, "linestyle": style, **_mark(one)}
    label = f"{one.label} (screen only)" if one.hollow else one.label
    return Line2D([], [], **look, label=f"{label} (chosen checkpoint)" if one.label in chosen else label)


def _legend(axes: Axes, handles: Sequence[Line2D], left: float) -> None:
    names = [textwrap.fill(str(handle.get_label()), _LEGEND_LETTERS) for handle in handles]
    legend = axes.legend(
        handles,
        [str(number) for number in range(len(names))],
        loc="upper left",
        bbox_to_anchor=(left, 1.0),
        borderaxespad=0,
        frameon=False,
        fontsize=10,
        labelspacing=0.7,
        handlelength=2.6,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        # set here, since the legend itself would drop a name that begins with an underscore and typeset dollars
        text.set_parse_math(False)
        text.set_text(name)


def _dress(figure: Figure, axes: Axes, content: Mapping[str, Any], series: Sequence[Series]) -> None:
    figure.suptitle(_title(content), x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK, parse_math=False)
    axes.set_xlabel("Labelled cases (logarithmic scale)")
    axes.set_ylabel(_measure(content).axis, parse_math=False)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(_footnote(content, series), x=0.01, ha="left", fontsize=9, color=PALE)


def _title(content: Mapping[str, Any]) -> str:
    cases, left_out = len(content.get("cases") or []), len(findings_of(content).get("left_out_cases") or [])
    name = f"Mean {_measure(content).title}"
    of = f"{cases - left_out} of " if left_out else ""
    parts = [f"{name} on {of}{number_of(cases, 'test case')}" if cases else name]
    parts += [f"{content['steps']} steps"] if content.get("steps") else []
    return ", ".join([*parts, f"last {'or chosen ' if content.get('chosen') else ''}checkpoint"])


def _measure(content: Mapping[str, Any]) -> Measure:
    name = str(content.get("metric") or "metric")
    return MEASURES.get(name, Measure("segmentation", name, name, name, most=math.inf))


def _footnote(content: Mapping[str, Any], series: Sequence[Series]) -> str:
    figures = [figure for one in series for figure in one.figures]
    bars = any(figure.low is not None and figure.high is not None for figure in figures)
    level = f"{(findings_of(content).get('level') or 0.95) * 100:g} %"
    notes = [f"bars: {level} interval over seeds and cases" if bars else "no intervals"] if series else []
    notes += ["points: seeds"] if any(figure.seeds for figure in figures) else []
    notes += ["hollow: screen only, other seeds"] if any(one.hollow for one in series) else []
    return "; ".join(notes)
