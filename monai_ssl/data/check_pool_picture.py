"""A picture of the scans of a pool that should be looked at first."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_ssl.data.check_facts import Fault
from monai_ssl.data.check_pool import POOL_KINDS, ras_volume
from monai_ssl.utils.files import atomic_write

__all__ = ["draw_suspects"]

_MOST = 24  # scans
_COLUMNS = 4
_WIDTH = 3.0  # inches of a scan with its three slices


def draw_suspects(
    faults: Sequence[Fault], paths: dict[tuple[str, str], str], output: str | os.PathLike[str]
) -> list[Fault]:
    """Draw the middle slices (RAS) of the most suspicious scans, with name and reason under each.

    Args:
        faults: of a check; those of :data:`~monai_ssl.data.check_pool.POOL_KINDS` are drawn, leaks first.
        paths: absolute, by part and file as listed.
        output: a PNG; written whole or not at all.

    Returns:
        What was drawn, in its order.
    """
    told = sorted((f for f in faults if f.kind in POOL_KINDS), key=lambda fault: POOL_KINDS.index(fault.kind))
    first: dict[tuple[str, str], Fault] = {}
    for fault in told:
        first.setdefault((fault.part, fault.file), fault)
    shown = list(first.values())[:_MOST]
    rows = max(1, -(-len(shown) // _COLUMNS))
    figure = Figure(figsize=(_COLUMNS * _WIDTH, rows * 0.75 * _WIDTH + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, fault in zip(panels, shown, strict=False):
        panel.imshow(_slices(ras_volume(paths[fault.part, fault.file])), cmap="gray", vmin=0, vmax=1)
        words = textwrap.shorten(f"{fault.kind}: {fault.text}", 120, placeholder=" ..")
        panel.set_title(f"{fault.case}\n{textwrap.fill(words, 44)}", fontsize=6, y=-0.02, va="top")
    if not shown:
        panels[0].text(0, 0.5, "nothing suspicious")
    atomic_write(output, lambda stream: figure.savefig(stream, format="png", dpi=120))
    return shown


def _slices(volume: np.ndarray) -> np.ndarray:
    """Return the middle slices across the three axes beside each other, each a square, front and top upwards."""
    low, high = np.percentile(volume, (1, 99))
    scaled = np.clip((volume - low) / max(float(high - low), 1e-6), 0, 1)
    return np.concatenate([_square(np.take(scaled, volume.shape[axis] // 2, axis).T[::-1]) for axis in range(3)], 1)


def _square(plane: np.ndarray, side: int = 96) -> np.ndarray:
    scale = max(plane.shape) / side
    rows, columns = (max(1, min(side, round(length / scale))) for length in plane.shape)
    picked = plane[np.linspace(0, plane.shape[0] - 1, rows).round().astype(int)]
    picked = picked[:, np.linspace(0, plane.shape[1] - 1, columns).round().astype(int)]
    above, left = (side - rows) // 2, (side - columns) // 2
    return np.pad(picked, ((above, side - rows - above), (left, side - columns - left)))
