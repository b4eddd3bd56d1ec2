"""The picture of a pretraining: what the network is shown of a few scans, and what it makes of it."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from monai_ssl.networks.fit import undisturbed
from monai_ssl.objectives.reconstruction import Reconstruction
from monai_ssl.utils.files import atomic_write
from monai_ssl.utils.seeding import seed_torch

__all__ = ["PretextPictures", "draw_pretext"]

INK, PALE = "#222222", "#8A8A8A"
DOTS_PER_INCH = 150
WIDTH, ROW = 12.0, 2.0  # inches: the widest picture, the highest row
EDGE, SPACE, HEAD, LINE = 0.15, 0.1, 0.6, 0.3  # inches: around, between columns, above all rows, below a row
SIDE_BY_SIDE, GAP = 4, 1  # views in one line, more make a square; pixels between them
DIFFERENCE = "|difference|"


class PretextPictures:
    """Draws what the network sees, and what it restores, every ``interval`` steps and after the last one.

    A row is a scan, a column one of these, as far as the method has them: the scan as it was loaded; the clean image
    that is to be restored, where that is another one; what goes through the network; what it restores; the absolute
    difference, with its mean. Views and tiles of a scan stand side by side. Of a volume the middle slice along the last
    axis and the first channel are shown; grey values from the 1st to the 99th percentile, the difference from 0 to half
    that range. Where the loss counts the hidden voxels alone, the others are the clean image's.

    All pictures show the batch of step 0 with the same draws, so that they can be compared, in a resumed run too. The
    handler loads it once, prepares it as the trainer does, and runs the network in evaluation mode. The run is not
    disturbed by a bit.

    Args:
        path: the PNG file, replaced whole.
        interval: optimiser steps between two pictures; one takes about as long as a step, and a second for drawing.
        cases: rows, from 1.
        seed: of what the transforms draw.

    Raises:
        ValueError: when ``interval`` or ``cases`` is below 1.
    """

    def __init__(self, path: str | os.PathLike[str], interval: int, cases: int = 4, seed: int = 0) -> None:
        for name, value in (("interval", interval), ("cases", cases)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        self.path = Path(path)
        self.interval = interval
        self.cases = cases
        self.seed = seed
        self._batch: Any = None

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._draw_if_due)

    def _draw_if_due(self, engine: Any) -> None:
        step = engine.state.iteration
        if idist.get_rank() > 0 or (step % self.interval and step != engine.total_steps):
            return
        device = engine.state.device
        with undisturbed(engine.objective, device):
            if self._batch is None:
                self._batch = _first_batch(engine)
            seed_torch(self.seed, "pretext pictures")
            prepared = engine.prepare_batch(self._batch, device, engine.non_blocking, **engine.to_kwargs)
            columns = _columns(engine.objective, self._batch["unlabeled"], prepared["unlabeled"], self.cases)
        names = [PurePath(str(name)).name for name in self._batch["unlabeled"].get("case", [])]
        draw_pretext(columns, self.path, f"Step {step}", names)


def draw_pretext(
    columns: Mapping[str, Tensor], path: str | os.PathLike[str], title: str, names: Sequence[str] = ()
) -> None:
    """Draw images of some scans, a row a scan.

    Args:
        columns: by title. The first one has its own range of grey values, all others that of ``clean``, or the
            first's. That with the title ``|difference|`` has colours, and its mean is written down; NaN counts in none.
        path: the PNG file, replaced whole.
        title: of the whole.
        names: of the scans.

    Shape:
        - columns: ``(B, V, C, H, W[, D])`` each, with views of any number and size
    """
    rows = len(next(iter(columns.values())))
    # what the loss does not count is NaN: no difference in the picture, and none in its mean
    montages = {name: [_montage(scan.nan_to_num()) for scan in images] for name, images in columns.items()}
    ratios = [parts[0].shape[1] / parts[0].shape[0] for parts in montages.values()]
    # laid out by hand: a layout engine gives way to a long file name
    height = min(ROW, (WIDTH - 2 * EDGE - SPACE * (len(ratios) - 1)) / sum(ratios))
    size = (2 * EDGE + SPACE * (len(ratios) - 1) + height * sum(ratios), HEAD + rows * (height + LINE))
    figure = Figure(figsize=size, facecolor="white", dpi=DOTS_PER_INCH)
    figure.text(EDGE / size[0], 1 - 0.1 / size[1], title, va="top", fontsize=12, fontweight="bold", color=INK)
    for row in range(rows):
        first = next(iter(columns.values()))
        windows = [_grey_window(images[row]) for images in (first, columns.get("clean", first))]
        left, bottom = EDGE, size[1] - HEAD - row * (height + LINE) - height
        for column, (name, parts) in enumerate(montages.items()):
            width = height * ratios[column]
            axes = figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
            left += width + SPACE
            low, high = windows[column > 0]
            note = names[row] if column == 0 and row < len(names) else ""
            if name == DIFFERENCE:
                _show(axes, parts[row], (0.0, (high - low) / 2), "magma")
                note = f"mean {float(columns[name][row].nanmean()):.3f}"
            else:
                _show(axes, parts[row], (low, high), "gray")
            axes.set_xlabel(note, loc="left", fontsize=8, color=PALE)
            if row == 0:
                axes.set_title(name, loc="left", fontsize=10, color=INK)
    # pyplot keeps a global list of figures and picks a display; a canvas of one's own does neither
    canvas = FigureCanvasAgg(figure)
    atomic_write(path, lambda stream: canvas.print_png(stream))


def _first_batch(engine: Any) -> Any:
    """The batch of step 0; from a loader that cannot go back, the one at hand."""
    if not hasattr(engine.data_loader, "start_at"):
        return engine.state.batch
    loader = copy.copy(engine.data_loader)  # the trainer's own stays where it is
    loader.start_at(0)
    loader.num_workers = 0  # for one batch
    return next(iter(loader))


def _columns(objective: Any, loaded: Mapping[str, Any], entries: Mapping[str, Tensor], cases: int) -> dict[str, Tensor]:
    """Images by title, ``(B, V, C, H, W[, D])``, on the CPU; what is the same as an earlier one is left out."""
    scans = torch.as_tensor(loaded["image"]).as_subclass(Tensor)

    def views(images: Tensor) -> Tensor:
        # views that a transform has put one behind the other belong to their scan again
        apart = images if images.ndim == scans.ndim + 1 else images.unflatten(0, (len(scans), -1))
        return apart[:cases].float()

    tasks = list(getattr(objective, "tasks", ()))
    restoring = next((task for task in tasks if isinstance(task, Reconstruction)), None)
    inputs = list(dict.fromkeys(task.image for task in tasks)) or ["image"]
    found = {"scan": views(scans)}
    if restoring is not None:
        found["clean"] = views(entries[restoring.target])
    for name in inputs:
        found[f"input: {name}" if len(inputs) > 1 else "input"] = views(entries[name])
    columns: dict[str, Tensor] = {}
    for title, images in found.items():
        if not any(torch.equal(images.cpu(), earlier) for earlier in columns.values()):
            columns[title] = images.cpu()
    if restoring is not None:
        seen, clean = views(entries[restoring.image]), found["clean"]
        restored = objective.network(seen.flatten(0, 1), restoring.heads)[restoring.heads[0]]
        restored = restored.float().unflatten(0, seen.shape[:2])
        difference = (restored - clean).abs()
        if restoring.over == "masked" and restoring.mask is not None:
            hidden = views(entries[restoring.mask]) > 0
            restored = torch.where(hidden, restored, clean)
            difference = torch.where(hidden, difference, torch.nan)
        columns |= {"restored": restored.cpu(), DIFFERENCE: difference.cpu()}
    return columns


def _montage(views: Tensor) -> NDArray[np.float32]:
    """Middle slices of the views of a scan, upright in RAS, side by side or in a square; NaN between them."""
    slices = views[:, 0]
    slices = slices[..., slices.shape[-1] // 2] if slices.ndim == 4 else slices
    parts = slices.numpy().transpose(0, 2, 1)[:, ::-1, ::-1]
    across = len(parts) if len(parts) <= SIDE_BY_SIDE else math.ceil(math.sqrt(len(parts)))
    down = math.ceil(len(parts) / across)
    height, width = (side + GAP for side in parts.shape[1:])
    canvas = np.full((down * height - GAP, across * width - GAP), np.nan, dtype=np.float32)
    for number, part in enumerate(parts):
        top, left = number // across * height, number % across * width
        canvas[top : top + height - GAP, left : left + width - GAP] = part
    return canvas


def _grey_window(scan: Tensor) -> tuple[float, float]:
    low, high = np.percentile(scan[:, 0].numpy(), (1.0, 99.0))
    return float(low), max(float(high), float(low) + 1e-6)


def _show(axes: Axes, picture: NDArray[np.float32], limits: tuple[float, float], colours: str) -> None:
    colour_map = colormaps[colours].with_extremes(bad="white")
    axes.imshow(picture, cmap=colour_map, vmin=limits[0], vmax=limits[1], interpolation="nearest", aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
