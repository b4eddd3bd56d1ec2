"""The figures of a report that no other part of the package draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from monai_ssl.metrics.free_response import FALSE_POSITIVE_RATES, sensitivities_of
from monai_ssl.report.legend import put_legend
from monai_ssl.report.pairs import CasePair, ScoredCase
from monai_ssl.report.tables import Columns
from monai_ssl.study.curve_series import BASELINE, COLOURS, PRIMARY
from monai_ssl.study.words import budget_words, unit_of

__all__ = [
    "SLIM",
    "WIDE",
    "audit_figure",
    "contrast_figure",
    "curves_figure",
    "free_response_figure",
    "pair_figure",
    "score_figure",
]

WIDE, SLIM = (8.4, 3.9), (4.6, 4.2)  # inches: of a figure that stands on a first screen, and on a narrow one
INK, PALE, RULE = "#222222", "#767676", "#E4E4E4"
_AUDIT = {
    "precision": "precision of the kept labels",
    "recall": "recall of the kept labels",
    "kept": "share of voxels kept",
    "ece": "calibration error",
}
_RATE_WORDS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")


def contrast_figure(content: Mapping[str, Any]) -> Figure | None:
    """Differences to the baseline with their intervals, the primary one on top; None where none could be worked out.

    Args:
        content: of ``study.json``.
    """
    findings = content["findings"]
    entries = [one for one in (findings["primary"], *findings["others"]) if "effect" in one]
    if not entries:
        return None
    figure = Figure(figsize=(9.6, 1.1 + 0.34 * len(entries)), facecolor="white", dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=BASELINE[0], linewidth=1.0)
    for row, entry in enumerate(entries):
        effect, first = entry["effect"], entry is findings["primary"]
        colour = PRIMARY[0] if first else COLOURS[0] if entry["found"] else PALE
        axes.plot([effect["low"], effect["high"]], [row, row], color=colour, linewidth=2.4 if first else 1.6)
        axes.plot(effect["mean"], row, "D" if first else "o", color=colour, markersize=7 if first else 6)
    names = [f"{one['method']}, {budget_words(one['budget'])}" for one in entries]
    axes.set_yticks(range(len(entries)), names, parse_math=False)
    axes.set_ylim(len(entries) - 0.4, -0.6)
    _narrow(axes, [(one["effect"]["low"], one["effect"]["high"]) for one in entries])
    axes.set_xlabel(f"difference to {content['primary']['baseline']} in {unit_of(content['metric'])}", parse_math=False)
    _dress(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _narrow(axes: Axes, intervals: Sequence[tuple[float, float]]) -> None:
    """Cut what makes all else small, an interval of two seeds for one, and put an arrow where it goes on."""
    usual = 5 * float(np.median(np.abs(intervals)))
    if not np.abs(intervals).max() > usual > 0:
        return
    least, most = max(np.min(intervals), -usual), min(np.max(intervals), usual)
    axes.set_xlim(least - 0.04 * (most - least), most + 0.04 * (most - least))
    for row, (low, high) in enumerate(intervals):
        for end, mark, beyond in ((least, "<", low < least), (most, ">", high > most)):
            if beyond:
                colour = axes.lines[1 + 2 * row].get_color()
                axes.plot(end, row, mark, color=colour, markersize=7, clip_on=False)


def pair_figure(pairs: Sequence[CasePair], method: str, baseline: str, unit: str) -> Figure:
    """Every test case: the method's figure over the baseline's; each point has the ``gid`` ``case-<number>``.

    Args:
        pairs: the cases, at least one.
        method: name of the method.
        baseline: name of the baseline.
        unit: what the figures are.
    """
    figure = Figure(figsize=(6.4, 5.6), facecolor="white", dpi=150, layout="constrained")
    axes = figure.subplots()
    values = [value for pair in pairs for value in (pair.method, pair.baseline)]
    room = 0.05 * (max(values) - min(values)) or 0.02
    low, high = min(values) - room, max(values) + room
    axes.plot([low, high], [low, high], color=PALE, linewidth=1.0, linestyle=(0, (4, 3)))
    for pair in pairs:
        axes.plot(
            pair.baseline,
            pair.method,
            "o",
            color=PRIMARY[0],
            markersize=7,
            alpha=0.8,
            markeredgewidth=0,
            gid=f"case-{pair.number}",
        )
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel(f"{baseline}: {unit}", parse_math=False)
    axes.set_ylabel(f"{method}: {unit}", parse_math=False)
    _dress(axes, "both")
    return figure


def score_figure(cases: Sequence[ScoredCase], mean: float, axis: str, size: tuple[float, float] = WIDE) -> Figure:
    """Every case of a run by its figure, the least first; each point has the ``gid`` ``case-<number>``.

    Args:
        cases: at least one.
        mean: of the run.
        axis: what the figures are.
        size: in inches.
    """
    figure = Figure(figsize=size, facecolor="white", dpi=150, layout="constrained")
    axes = figure.subplots()
    ranked = sorted(cases, key=lambda case: (case.method, case.name))
    axes.axhline(mean, color=PALE, linewidth=1.0, linestyle=(0, (4, 3)))
    for place, case in enumerate(ranked, 1):
        axes.plot(place, case.method, "o", color=PRIMARY[0], markersize=7, markeredgewidth=0, gid=f"case-{case.number}")
    words: dict[str, Any] = {"textcoords": "offset points", "color": PALE, "fontsize": 9}
    axes.annotate(f"mean {mean:.3f}", (0, mean), (6, 4), xycoords=("axes fraction", "data"), **words)
    axes.set_xlim(0.4, len(ranked) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(min(len(ranked), 8), integer=True, min_n_ticks=1))
    axes.set_xlabel("cases, the least first")
    axes.set_ylabel(axis, parse_math=False)
    _dress(axes, "y")
    return figure


def audit_figure(audits: Mapping[str, Sequence[Columns]], colours: Mapping[str, str]) -> Figure | None:
    """What pseudo-labels were worth over the steps; a line a seed, and None where there is no figure to draw.

    Args:
        audits: by method the tables of its seeds.
        colours: by method; the accent where a method has none.
    """
    found = {
        (method, panel): lines
        for method, tables in audits.items()
        for panel in _AUDIT
        if (lines := [(table["step"], line) for table in tables if (line := _mean_of(table, panel)) is not None])
    }
    panels = [panel for panel in _AUDIT if any(of == panel for _, of in found)]
    if not panels:
        return None
    figure = Figure(figsize=(max(9.6, 2.6 * len(panels) + 0.4), 3.0), facecolor="white", dpi=150, layout="constrained")
    methods = list(dict.fromkeys(method for method, _ in found))
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=True):
        for method in methods:
            for number, (steps, line) in enumerate(found.get((method, panel), [])):
                known = np.isfinite(line)
                look: dict[str, Any] = {"color": colours.get(method, PRIMARY[0]), "linewidth": 1.6, "alpha": 0.85}
                axes.plot(steps[known], line[known], "o-", markersize=3.5, **look, label=_plain(method, number))
        axes.set_title(_AUDIT[panel], loc="left", fontsize=10, color=INK)
        axes.set_xlabel("step")
        axes.set_xlim(0, None)
        axes.set_ylim(0, None if panel == "ece" else 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _dress(axes, "y")
    handles, names = grid[0].get_legend_handles_labels()
    if len(methods) > 1:
        put_legend(figure, handles, names)
    return figure


def curves_figure(columns: Columns, names: Mapping[str, str]) -> Figure | None:
    """Columns of a table over the steps, a panel each; None where none of them has a number.

    Args:
        columns: the table.
        names: by column what it is called.
    """
    there = [name for name in names if name in columns and np.isfinite(columns[name]).any()]
    if not there:
        return None
    figure = Figure(figsize=(max(9.6, 3.0 * len(there) + 0.4), 3.0), facecolor="white", dpi=150, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(there), squeeze=False)[0], there, strict=True):
        known = np.isfinite(columns[name])
        axes.plot(columns["step"][known], columns[name][known], "o-", color=PRIMARY[0], markersize=4)
        axes.set_title(names[name], loc="left", fontsize=10, color=INK)
        axes.set_xlabel("step")
        axes.set_ylim(0, None)
        _dress(axes, "y")
    return figure


def free_response_figure(
    cases: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], strong: str, size: tuple[float, float] = WIDE
) -> Figure | None:
    """Sensitivity over false positives a scan, a line a seed; None where no case has a box.

    Args:
        cases: by method the cases of each of its seeds, as ``metrics.json`` has them.
        strong: the method in the accent colour; the first other one is grey.
        size: in inches.
    """
    figure = Figure(figsize=size, facecolor="white", dpi=150, layout="constrained")
    axes = figure.subplots()
    rates = np.exp2(np.linspace(-3, 3, 145))
    for method, seeds in cases.items():
        colour = PRIMARY[0] if method == strong else BASELINE[0]
        for number, records in enumerate(seeds):
            if any(case["boxes"] for case in records):
                curve = sensitivities_of(records, rates=tuple(rates))
                axes.plot(rates, curve, color=colour, linewidth=1.8, alpha=0.85, label=_plain(method, number))
    if not axes.lines:
        return None
    axes.set_xscale("log", base=2)
    axes.set_xticks(FALSE_POSITIVE_RATES, _RATE_WORDS)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlim=(rates[0], rates[-1]), ylim=(0, 1), xlabel="false positives a scan", ylabel="sensitivity")
    _dress(axes, "both")
    if len(cases) > 1:
        put_legend(figure, *axes.get_legend_handles_labels())
    return figure


def _mean_of(table: Columns, panel: str) -> Any:
    """A figure over the steps; of a figure of classes the mean over those that have one."""
    if panel == "ece" and "ece_foreground" in table:
        return table["ece_foreground"]
    if panel in table:
        return table[panel]
    classes = [table[name] for name in table if name.startswith(f"{panel}_") and name != "kept_foreground"]
    if not classes or not np.isfinite(classes).any():
        return None
    stacked = np.ma.masked_invalid(classes)
    return stacked.mean(0).filled(np.nan)


def _plain(method: str, number: int) -> str:
    # only the first line of a method is named; a name that begins with `_` would be dropped
    return "_" if number else f" {method}".rstrip()


def _dress(axes: Axes, axis: Any) -> None:
    axes.grid(axis=axis, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
