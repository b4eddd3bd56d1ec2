"""The picture of a training: losses, accuracies and other shares, and the Dice on validation cases, over the steps."""

from __future__ import annotations

import csv
import itertools
import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write

__all__ = ["ProgressPicture", "draw_progress", "progress_figure"]

# Okabe and Ito's colours, told apart with every common colour vision, those that read best on white first.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, PALE = "#222222", "#8A8A8A"
DOTS_PER_INCH = 150
_NO_LOSSES = ("step", "lr", "seconds", "seconds_per_step")
_VALIDATION = "validation_"
_SCORES = {"dice": "Mean Dice", "cpm": "CPM"}
_ACCURACY, _CHANCE = "_accuracy", "_chance"  # ends of the columns' names
_WEIGHT = "weight_"  # their beginning: every term has one, and no figure


class ProgressPicture:
    """Draws ``progress.png`` from ``steps.csv`` at the end of the training, and now and then on the way.

    Args:
        steps: the table that :class:`monai_ssl.handlers.step_log.StepLog` writes; attach that one first.
        path: the PNG file.
        interval: seconds between two pictures, looked at after every epoch; drawing takes about one second.
    """

    def __init__(self, steps: str | os.PathLike[str], path: str | os.PathLike[str], interval: float = 60.0) -> None:
        self.steps = Path(steps)
        self.path = Path(path)
        self.interval = interval
        self._last = -math.inf

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw_if_due)
        engine.add_event_handler(Events.COMPLETED, self._draw)

    def _draw_if_due(self, engine: Engine) -> None:
        if time.monotonic() - self._last >= self.interval:
            self._draw(engine)

    def _draw(self, engine: Engine) -> None:
        if idist.get_rank() == 0 and self.steps.is_file():
            draw_progress(self.steps, self.path)
        self._last = time.monotonic()


def draw_progress(
    steps_csv: str | os.PathLike[str],
    path: str | os.PathLike[str],
    validation: Sequence[tuple[int, float]] | None = None,
) -> None:
    """Draw :func:`progress_figure` to a PNG file.

    Args:
        steps_csv: see there.
        path: the PNG file, replaced whole.
        validation: see there.

    Raises:
        UserError: see there.
    """
    # pyplot keeps a global list of figures and picks a display; a canvas of one's own does neither
    canvas = FigureCanvasAgg(progress_figure(steps_csv, validation))
    atomic_write(path, lambda stream: canvas.print_png(stream))


def progress_figure(steps_csv: str | os.PathLike[str], validation: Sequence[tuple[int, float]] | None = None) -> Figure:
    """Draw the losses of ``steps.csv`` over the steps, beside them what else there is.

    Accuracies, other shares, numbers and the score on validation cases have panels of their own. A column without a
    weight is a figure and no term of the loss; figures between 0 and 1, such as the share of pseudo-labels that is
    kept, are the other shares, and the rest, such as how many objects were found, the numbers. Raw values are pale,
    their exponential moving average over about a fiftieth of the run is strong; what guessing reaches is dashed.
    Weights, the learning rate and the time are left out.

    Args:
        steps_csv: the table of :class:`monai_ssl.handlers.step_log.StepLog`; a cell may be empty.
        validation: pairs of step and mean Dice; by default the table's column ``validation_<metric>``.

    Raises:
        UserError: when the table cannot be read or has no column ``step``.
    """
    columns = _read_columns(Path(steps_csv))
    column = next((name for name in columns if name.startswith(_VALIDATION)), _VALIDATION + "dice")
    if validation is None and column in columns:
        pairs = zip(columns["step"], columns[column], strict=True)
        validation = [(int(step), float(score)) for step, score in pairs if np.isfinite(score)]
    accuracies = any(name.endswith(_ACCURACY) for name in columns)
    shares, numbers = _figures(columns)
    count = 1 + accuracies + bool(shares) + bool(numbers) + bool(validation)
    figure = Figure(figsize=({1: 7.5}.get(count, 5.5 * count), 4.2), facecolor="white", dpi=DOTS_PER_INCH)
    figure.set_layout_engine("constrained")
    losses, *others = figure.subplots(1, count, squeeze=False)[0]
    _draw_losses(losses, columns, [name for name in _curves(columns) if name not in [*shares, *numbers]])
    if accuracies:
        _draw_accuracies(others.pop(0), columns)
    if shares:
        _draw_figures(others[0], columns, shares, "Shares that are watched, not learned from")
        others.pop(0).set_ylim(0, 1.02)
    if numbers:
        _draw_figures(others.pop(0), columns, numbers, "Numbers that are watched, not learned from")
    if validation:
        _draw_validation(others.pop(0), sorted(validation), column.removeprefix(_VALIDATION))
    return figure


def _read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            names = list(reader.fieldnames or [])
            rows = list(reader)
    except OSError as error:
        raise UserError(f"{path}: the table of steps cannot be read ({error.strerror}).") from error
    if "step" not in names:
        raise UserError(f"{path}: the table of steps must have a column `step`, got {names}.")
    columns = {name: np.array([_number(row[name]) for row in rows], dtype=np.float64) for name in names}
    return {name: values[np.isfinite(columns["step"])] for name, values in columns.items()}


def _number(cell: str | None) -> float:
    # a row that a kill cut short ends in half a number and lacks its last cells
    try:
        return float(cell or "nan")
    except ValueError:
        return math.nan


def _curves(columns: Iterable[str]) -> list[str]:
    """The total, the terms, and the figures that are no accuracies."""
    known = [name for name in columns if name not in _NO_LOSSES and not name.startswith((_WEIGHT, _VALIDATION))]
    return [name for name in known if not name.endswith((_ACCURACY, _CHANCE))]


def _figures(columns: dict[str, NDArray[np.float64]]) -> tuple[list[str], list[str]]:
    """Shares and numbers; none of a figure that has no value yet."""
    figures = [name for name in _curves(columns) if name != "loss" and _WEIGHT + name not in columns]
    values = {name: columns[name][np.isfinite(columns[name])] for name in figures}
    there = {name: known for name, known in values.items() if len(known)}
    # the mean of probabilities in float32 may pass 1 by its rounding
    shares = [name for name, known in there.items() if known.min() >= 0 and known.max() < 1 + 1e-6]
    return shares, [name for name in there if name not in shares]


def _draw_losses(axes: Axes, columns: dict[str, NDArray[np.float64]], names: Sequence[str]) -> None:
    drawn = 0
    for name in names:
        colour = INK if name == "loss" else COLOURS[drawn % len(COLOURS)]
        label, width = ("Total loss", 2.2) if name == "loss" else (name, 1.6)
        drawn += _draw_curve(axes, columns, name, colour, label, width) and name != "loss"
    if axes.lines:
        axes.legend(frameon=False, fontsize=9)
    else:
        axes.text(0.5, 0.5, "no step yet", transform=axes.transAxes, ha="center", color=PALE)
    _dress(axes, "Training loss")


def _draw_accuracies(axes: Axes, columns: dict[str, NDArray[np.float64]]) -> None:
    tasks = [name.removesuffix(_ACCURACY) for name in columns if name.endswith(_ACCURACY)]
    for task, colour in zip(tasks, itertools.cycle(COLOURS)):
        _draw_curve(axes, columns, task + _ACCURACY, colour, task, 1.6)
        if task + _CHANCE in columns:
            axes.plot(
                columns["step"], _smooth(columns[task + _CHANCE]), color=colour, linestyle=(0, (4, 3)), linewidth=1
            )
    axes.set_ylim(0, 1.02)
    if axes.lines:
        axes.legend(frameon=False, fontsize=9)
    _dress(axes, "Accuracy of the tasks (dashed: guessing)")


def _draw_figures(axes: Axes, columns: dict[str, NDArray[np.float64]], names: Sequence[str], title: str) -> None:
    for name, colour in zip(names, itertools.cycle(COLOURS)):
        _draw_curve(axes, columns, name, colour, name.replace("_", " "), 1.6)
    axes.legend(frameon=False, fontsize=9)
    _dress(axes, title)


def _draw_curve(
    axes: Axes, columns: dict[str, NDArray[np.float64]], name: str, colour: str, label: str, width: float
) -> bool:
    known = np.isfinite(columns[name])
    steps, values = columns["step"][known], columns[name][known]
    if len(values):
        axes.plot(steps, values, color=colour, alpha=0.18, linewidth=0.8)
        axes.plot(steps, _smooth(values), color=colour, linewidth=width, label=label)
    return len(values) > 0


def _draw_validation(axes: Axes, validation: Sequence[tuple[int, float]], metric: str) -> None:
    steps, scores = zip(*validation, strict=True)
    axes.plot(steps, scores, color=COLOURS[2], marker="o", markersize=4.5, linewidth=1.8, clip_on=False)
    axes.set_ylim(0, 1)
    # the last value and not the best: the model that is reported is the last one
    axes.annotate(f"{scores[-1]:.3f}", (steps[-1], scores[-1]), (0, 8), textcoords="offset points", ha="center")
    _dress(axes, f"{_SCORES.get(metric, metric)} on the validation cases")


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponential moving average without the pull of a start value (Adam's correction)."""
    keep = 1 - 1 / max(len(values) / 50, 1)
    smooth, average, weight = np.empty_like(values), 0.0, 0.0
    for index, value in enumerate(values):
        average = keep * average + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        smooth[index] = average / weight
    return smooth


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel("Optimiser step")
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)
