"""The legend of a figure, where it covers no point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

__all__ = ["put_legend"]


def put_legend(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Put a legend below the axes, in as many columns as fit, three at most; a name is shown as it is."""
    columns = next(count for count in (3, 2, 1) if count == 1 or _fits(names, count, figure.get_figwidth()))
    legend = figure.legend(handles, names, loc="outside lower left", ncols=columns, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _fits(names: Sequence[str], columns: int, width: float) -> bool:
    # filled as Matplotlib does; inches: a letter of 9 points, and a column's line and space
    longest = [max(map(len, part), default=0) for part in np.array_split(list(names), columns)]
    return 0.075 * sum(longest) + 0.65 * columns <= width
