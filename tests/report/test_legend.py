from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from monai_ssl.report.legend import put_legend


def legend(names: list[str], width: float) -> tuple[int, bool]:
    """Its columns, and whether it lies within the figure."""
    figure = Figure(figsize=(width, 4), layout="constrained")
    figure.subplots()
    put_legend(figure, [Line2D([], []) for _ in names], names)
    figure.canvas.draw()
    found = figure.legends[0]
    return found._ncols, found.get_window_extent().x1 <= figure.bbox.x1


def test_there_are_as_many_columns_as_fit() -> None:
    assert legend(["supervised", "mean teacher", "fixmatch"], 4.6) == (3, True)
    assert legend(["supervised", "mean teacher", "entropy minimisation", "fixmatch"], 4.6) == (2, True)
    longer = ["learned transforms pretrained", "supervised pretrained", "ceiling: supervised, all (140)", "fixmatch"]
    assert legend(longer, 8.4) == (3, True)
    assert legend(longer, 4.6) == (1, True)


def test_one_name_too_long_is_still_shown_and_signs_stay_as_they_are() -> None:
    assert legend(["a method with a name that nobody would write into a plan, or so one thinks"], 4.6)[0] == 1
    figure = Figure(layout="constrained")
    figure.subplots()
    put_legend(figure, [Line2D([], [])], ["rate $1$"])
    assert not figure.legends[0].get_texts()[0].get_parse_math()
