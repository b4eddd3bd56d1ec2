from __future__ import annotations

import numpy as np
import pytest

from monai_ssl.report.figures import (
    audit_figure,
    contrast_figure,
    curves_figure,
    free_response_figure,
    pair_figure,
    score_figure,
)
from monai_ssl.report.pairs import CasePair, ScoredCase
from monai_ssl.study.curve_series import PRIMARY
from tests.report.pages import study_content


def test_contrasts_are_drawn_where_they_are_and_the_primary_one_on_top() -> None:
    content = study_content(seeds=3)
    figure = contrast_figure(content)
    assert figure is not None
    (axes,) = figure.axes
    effect = content["findings"]["primary"]["effect"]
    interval, mean = axes.lines[1:3]
    assert list(np.asarray(interval.get_xdata())) == [effect["low"], effect["high"]]
    assert list(np.asarray(mean.get_xdata())) == [effect["mean"]]
    assert mean.get_color() == PRIMARY[0]
    assert axes.get_yticklabels()[0].get_text() == "mt, 2 labels"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_an_interval_that_is_cut_says_so_by_an_arrow() -> None:
    content = study_content(seeds=3)
    entries = [content["findings"]["primary"], *content["findings"]["others"]]
    for entry in entries:
        entry["effect"] = {"mean": 0.01, "low": -0.01, "high": 0.02}
    figure = contrast_figure(content)
    assert figure is not None
    assert not [line for line in figure.axes[0].lines if line.get_marker() in "<>"]
    entries[-1]["effect"] = {"mean": 0.01, "low": -0.02, "high": 9.0}
    figure = contrast_figure(content)
    assert figure is not None
    (axes,) = figure.axes
    (arrow,) = [line for line in axes.lines if line.get_marker() in "<>"]
    assert arrow.get_marker() == ">"
    assert arrow.get_ydata() == [len(entries) - 1]
    assert 0.02 < arrow.get_xdata()[0] < axes.get_xlim()[1] < 1.0  # type: ignore[index]
    assert axes.get_xlim()[0] < -0.02


def test_there_is_no_figure_of_nothing() -> None:
    assert contrast_figure(study_content(seeds=1)) is None
    assert audit_figure({}, {}) is None
    assert audit_figure({"m": [{"step": np.array([1.0]), "precision_a": np.array([np.nan])}]}, {}) is None
    assert curves_figure({"step": np.array([1.0])}, {"spread": "s"}) is None
    healthy = {"image": "a", "boxes": 0, "classes": {"n": {"boxes": 0, "hit_scores": [], "false_scores": [0.5]}}}
    assert free_response_figure({"m": [[healthy]]}, "m") is None


def test_a_point_above_the_line_is_a_case_that_the_method_does_better() -> None:
    pairs = [CasePair(0, "a", 0.9, 0.5), CasePair(7, "b", 0.4, 0.6)]
    (axes,) = pair_figure(pairs, "$m", "_b", "Dice").axes
    points = {line.get_gid(): line.get_xydata()[0] for line in axes.lines if line.get_gid()}  # type: ignore[index]
    np.testing.assert_allclose(points["case-0"], [0.5, 0.9])
    np.testing.assert_allclose(points["case-7"], [0.6, 0.4])
    assert axes.get_xlim() == axes.get_ylim()


def test_an_audit_is_the_mean_over_classes_with_the_foregrounds_calibration() -> None:
    steps, nan = np.array([10.0, 20.0]), float("nan")
    table = {"step": steps, "kept": np.array([1.0, 0.5]), "kept_foreground": np.array([0.0, 0.0])}
    table |= {"precision_a": np.array([0.2, 0.4]), "precision_b": np.array([nan, 0.8])}
    table |= {"ece": np.array([0.5, 0.5]), "ece_foreground": np.array([0.1, 0.2])}
    figure = audit_figure({"m": [table, table]}, {"m": "#123456"})
    assert figure is not None
    lines = {axes.get_title(loc="left"): axes.lines for axes in figure.axes}
    assert list(lines) == ["precision of the kept labels", "share of voxels kept", "calibration error"]
    np.testing.assert_allclose(np.asarray(lines["precision of the kept labels"][0].get_ydata()), [0.2, 0.6])
    np.testing.assert_allclose(np.asarray(lines["calibration error"][1].get_ydata()), [0.1, 0.2])
    assert lines["share of voxels kept"][0].get_color() == "#123456"


def test_a_detector_that_finds_all_without_a_false_alarm_is_a_line_at_1() -> None:
    case = {"image": "a", "boxes": 1, "classes": {"n": {"boxes": 1, "hit_scores": [0.9], "false_scores": []}}}
    figure = free_response_figure({"m": [[case], [case]], "b": [[case]]}, "m")
    assert figure is not None
    lines = figure.axes[0].lines
    assert [line.get_color() == PRIMARY[0] for line in lines] == [True, True, False]
    assert all(np.asarray(line.get_ydata()) == pytest.approx(1) for line in lines)


def test_the_cases_of_a_run_stand_in_the_order_of_their_figures() -> None:
    cases = [ScoredCase(number, f"c{number}", value) for number, value in enumerate((0.5, 0.25, 0.75))]
    (axes,) = score_figure(cases, 0.5, "$x$").axes
    points = {line.get_gid(): (*line.get_xdata(), *line.get_ydata()) for line in axes.lines if line.get_gid()}
    assert points == {"case-1": (1, 0.25), "case-0": (2, 0.5), "case-2": (3, 0.75)}
    assert [text.get_text() for text in axes.texts] == ["mean 0.500"]
    assert not axes.yaxis.label.get_parse_math()
