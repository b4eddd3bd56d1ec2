from __future__ import annotations

import copy
import itertools
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from PIL import Image

from monai_ssl.study import curve_picture
from monai_ssl.study.curve_picture import curve_figure, draw_curves
from monai_ssl.study.findings import find
from tests.study.contents import BUDGETS, make_content

METHODS = {"mt": 0.05, "cps": 0.0}


def found(gains: dict[str, float] | None = None, **changes: Any) -> dict[str, Any]:
    content = make_content(METHODS if gains is None else gains, **changes)
    return {**content, "findings": find(content)}


def only_at(content: dict[str, Any], budget: str, *methods: str) -> dict[str, Any]:
    content = copy.deepcopy(content)
    for entries in (content["scores"], content["findings"]["means"]):
        entries[:] = [one for one in entries if one["method"] not in methods or one["budget"] == budget]
    return content


def screened(content: dict[str, Any], method: str, means: list[float | None]) -> dict[str, Any]:
    runs = [
        {"budget": "2", "method": method, "seed": 90 + number, "stage": "screen", "labels": 2, "mean": mean}
        for number, mean in enumerate(means)
    ]
    return {**content, "methods": [*content["methods"], method], "runs": runs}


def lines(figure: Figure, kind: str) -> dict[str, np.ndarray]:
    """What was drawn of a kind, ``(points, 2)`` by identifier, in the order of the legend."""
    return {
        str(line.get_gid()): np.column_stack([line.get_xdata(), line.get_ydata()]).astype(float)
        for line in figure.axes[0].lines
        if str(line.get_gid()).startswith(kind)
    }


def intervals(figure: Figure) -> dict[str, list[np.ndarray]]:
    return {
        str(bars.get_gid()): [np.asarray(segment) for segment in bars.get_segments()]  # type: ignore[attr-defined]
        for bars in figure.axes[0].collections
        if str(bars.get_gid()).startswith("interval")
    }


def texts(svg: Path) -> str:
    return "\n".join(
        "".join(text.itertext()) for text in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    )


def legend_of(figure: Figure) -> Legend:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return legend


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in legend_of(figure).get_texts()]


def test_means_intervals_and_seeds_are_those_of_the_findings() -> None:
    content = found(seeds=4)
    figure = curve_figure(content)
    by_method = {
        method: [one for one in content["findings"]["means"] if one["method"] == method]
        for method in content["methods"]
    }
    for number, entries in enumerate(by_method.values()):
        means, seeds = lines(figure, "mean")[f"mean-{number}"], lines(figure, "seeds")[f"seeds-{number}"]
        assert means[:, 1].tolist() == [one["mean"] for one in entries]
        assert seeds[:, 1].tolist() == [mean for one in entries for mean in one["by_seed"]]
        ends = [segment[:, 1].tolist() for segment in intervals(figure)[f"interval-{number}"]]
        assert ends == [[one["low"], one["high"]] for one in entries]
        for x, one in zip(means[:, 0], entries, strict=True):
            assert x == pytest.approx(one["labels"], rel=0.15)
    # the baseline stands on the tick, and nobody stands on another
    places = [tuple(points[:, 0]) for points in lines(figure, "mean").values()]
    assert places[0] == tuple(BUDGETS.values())
    assert len({place for method in places for place in method}) == sum(map(len, places))


def test_every_seed_of_the_scores_is_drawn_where_there_are_no_findings() -> None:
    content = {name: value for name, value in found().items() if name != "findings"}
    figure = curve_figure(content)
    assert sum(map(len, lines(figure, "seeds").values())) == sum(len(entry["means"]) for entry in content["scores"])
    assert intervals(figure) == {}
    baseline = [np.mean(entry["means"]) for entry in content["scores"] if entry["method"] == "sup"]
    assert lines(figure, "mean")["mean-0"][:, 1] == pytest.approx(baseline)


def test_the_ceiling_is_the_baseline_at_its_largest_budget() -> None:
    content = found()
    (ceiling,) = lines(curve_figure(content), "ceiling").values()
    (entry,) = (one for one in content["findings"]["means"] if (one["budget"], one["method"]) == ("all", "sup"))
    assert ceiling[:, 1].tolist() == [entry["mean"]] * 2
    assert "ceiling: sup, all (32)" in legend_texts(curve_figure(content))
    unfinished = copy.deepcopy(content)
    for entries in (unfinished["scores"], unfinished["findings"]["means"]):
        entries[:] = [one for one in entries if one["budget"] != "all"]
    assert lines(curve_figure(unfinished), "ceiling") == {}


def test_files_have_their_kinds_and_text_stays_text(tmp_path: Path) -> None:
    content = found({"mt": 0.05, "_a $odd$ <name> & more": 0.01, "l" * 70: 0.0})
    draw_curves(content, tmp_path / "study.v2")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["study.v2.png", "study.v2.svg"]
    with Image.open(tmp_path / "study.v2.png") as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (1440, 930))
    said = texts(tmp_path / "study.v2.svg").splitlines()
    for label in ("sup", "mt", "_a $odd$ <name> & more", "2", "4", "8", "all (32)"):
        assert label in said
    assert said.count("l" * 30) == 2  # a long one goes on in the next line
    assert "Mean Dice on 30 test cases, 100 steps, last checkpoint" in said
    assert "bars: 95 % interval over seeds and cases; points: seeds" in said
    assert plt.get_fignums() == []  # pyplot knows of none, so none can leak


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    content = found()
    for name in ("a", "b"):
        draw_curves(copy.deepcopy(content), tmp_path / name)
        draw_curves(found(seeds=2), tmp_path / "other")
    for suffix in ("png", "svg"):
        once, again, other = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b", "other"))
        assert once == again != other
    # neither the moment nor the version of Matplotlib
    assert not any(word in (tmp_path / "a.svg").read_text() for word in ("dc:date", "dc:creator"))
    with Image.open(tmp_path / "a.png") as picture:
        assert set(picture.info) == {"dpi"}


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("dice", "Dice (0 to 1"),
        ("surface_dice", "surface Dice (0 to 1"),
        ("hausdorff_95", "distance in mm"),
        ("cpm", "CPM (0 to 1, higher is better)"),
        ("sensitivity_1", "sensitivity at 1 false positive a scan (0 to 1"),
    ],
)
def test_the_axis_names_the_unit_and_shows_no_impossible_figure(metric: str, unit: str) -> None:
    axes = curve_figure(found(metric=metric, seeds=2, noise=0.2)).axes[0]
    assert unit in axes.get_ylabel()
    assert ("lower is better" in axes.get_ylabel()) == (metric == "hausdorff_95")
    assert axes.get_ylim()[0] >= 0
    assert axes.get_ylim()[1] <= (1 if metric != "hausdorff_95" else 10)


def test_a_method_that_only_the_screen_measured_is_a_hollow_point() -> None:
    figure = curve_figure(screened(found(), "dropped", [0.6, None, 0.7]))
    assert lines(figure, "mean")["mean-3"][:, 1] == pytest.approx([0.65])
    assert lines(figure, "seeds")["seeds-3"][:, 1].tolist() == [0.6, 0.7]
    assert "dropped (screen only)" in legend_texts(figure)
    assert "hollow: screen only" in figure.get_supxlabel()
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [line.get_gid() for line in hollow] == ["mean-3"]


def test_a_chosen_checkpoint_and_cases_left_out_are_said() -> None:
    content = make_content(chosen=["mt"])
    content["scores"][0]["values"][0][3] = None
    figure = curve_figure({**content, "findings": find(content)})
    assert figure.get_suptitle() == "Mean Dice on 29 of 30 test cases, 100 steps, last or chosen checkpoint"
    assert "mt (chosen checkpoint)" in legend_texts(figure)


def test_one_seed_has_points_without_bars() -> None:
    figure = curve_figure(found(seeds=1))
    assert intervals(figure) == {}
    assert len(lines(figure, "seeds")["seeds-0"]) == 4
    assert figure.get_supxlabel() == "no intervals; points: seeds"


def test_labels_of_close_budgets_do_not_meet() -> None:
    content = found()
    places = {"2": ("100", 100), "4": ("110", 110), "8": ("70%", 118), "all": ("all", 121)}
    for entry in [*content["scores"], *content["findings"]["means"]]:
        entry["budget"], labels = places[entry["budget"]]
        entry["labels"] = [labels] * 5 if "values" in entry else float(labels)
    figure = curve_figure(content)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    words = [label.get_text().strip() for label in figure.axes[0].get_xticklabels()]
    assert words == ["100", "110", "70% (118)", "all (121)"]
    # the box of a label that goes a line lower begins at the axis, so its last line counts
    rows = [label.get_text().count("\n") for label in figure.axes[0].get_xticklabels()]
    for row in set(rows):
        ends = [(box.x0, box.x1) for box, its in zip(boxes, rows, strict=True) if its == row]
        assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))


@pytest.mark.parametrize("methods", [1, 2, 10])
@pytest.mark.parametrize("budgets", [("2",), ("2", "4"), tuple(BUDGETS)])
def test_nothing_is_cut_off_and_the_legend_covers_no_data(methods: int, budgets: tuple[str, ...]) -> None:
    gains = {f"a_method_of_some_length_{number}": 0.01 * number for number in range(1, methods)}
    figure = curve_figure(found(gains, budgets=budgets))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    legend = legend_of(figure).get_window_extent()
    assert len(legend_texts(figure)) == methods + (len(budgets) > 1)
    assert legend.x0 > axes.get_window_extent().x1
    assert all(legend.x0 > text.get_window_extent().x1 for text in axes.texts)
    drawn = [legend, *(text.get_window_extent() for text in [*figure.texts, *axes.texts, *axes.get_xticklabels()])]
    whole = figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= whole.x1 and box.y1 <= whole.y1 for box in drawn)
    looks = [(line.get_color(), line.get_marker()) for line in axes.lines if str(line.get_gid()).startswith("mean")]
    assert len(set(looks)) == methods


def broken(content: dict[str, Any], name: str) -> dict[str, Any]:
    if name == "nothing":
        return {}
    if name == "no run":
        return {**content, "scores": [], "findings": {"means": []}}
    if name == "without":
        return {key: content[key] for key in ("scores", "findings")}
    if name == "null":
        return dict.fromkeys(content)
    for entry in content["scores"]:
        entry["means"] = [None] * len(entry["means"])
    for entry in content["findings"]["means"]:
        entry.update(mean=None, low=None, high=None, by_seed=[])
    return content


@pytest.mark.parametrize("name", ["nothing", "no run", "without", "null", "no figure"])
def test_what_is_missing_is_left_out(name: str, tmp_path: Path) -> None:
    draw_curves(broken(found(), name), tmp_path / "curve")
    assert ("no finished run yet" in texts(tmp_path / "curve.svg")) == (name != "without")


def test_a_method_measured_at_one_budget_is_a_point() -> None:
    figure = curve_figure(only_at(found(), "4", "cps"))
    assert len(lines(figure, "mean")["mean-2"]) == 1
    handle = legend_of(figure).legend_handles[2]
    assert handle.get_linestyle() == "None"  # type: ignore[union-attr]


def test_a_failure_leaves_the_old_files_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_curves(found(), tmp_path / "curve")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object, **__: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(curve_picture.FigureCanvasSVG, "print_svg", fail)
    with pytest.raises(OSError, match="no"):
        draw_curves(found(seeds=2), tmp_path / "curve")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
