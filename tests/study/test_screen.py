from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_ssl.study.plan import screen_runs
from monai_ssl.study.screen import Choice, choose, most_kept
from tests.study.helpers import open_study, write_figures, write_plan

LABELS = ("supervised", "a", "b", "c", "d")
METHODS = ["supervised", *({"label": label, "method": "mean_teacher"} for label in LABELS[1:])]


def screened(
    folder: Path, figures: dict[str, tuple[float | None, ...]], *, validation: int = 0, **changes: Any
) -> Choice:
    path = write_plan(
        folder,
        methods=METHODS,
        primary={"method": "a", "baseline": "supervised", "budget": 2},
        screen={"budget": 4, "seeds": [7, 8], "keep": 2},
        validation=validation,
        **changes,
    )
    study, _ = open_study(path, folder / "out")
    for spec in screen_runs(study.plan):
        values = figures[spec.method.label]
        if len(values) > spec.seed - 7:
            write_figures(study, spec, 0.9 if validation else values[spec.seed - 7])
            if validation:
                write_figures(study, spec, values[spec.seed - 7], "validation")
    choice = choose(study)
    assert choice is not None
    return choice


FIGURES: dict[str, tuple[float | None, ...]] = {
    "supervised": (0.9, 0.9),
    "a": (0.1, 0.1),
    "b": (0.8, 0.2),
    "c": (0.6, 0.6),
    "d": (0.3, 0.4),
}


def test_the_best_the_baseline_and_the_named_method_go_on(tmp_path: Path) -> None:
    choice = screened(tmp_path, FIGURES)
    assert choice.kept == ("supervised", "a", "b", "c")
    assert choice.means == {"supervised": 0.9, "a": 0.1, "b": 0.5, "c": 0.6, "d": 0.35}
    assert choice.part == "test"
    assert "flatter it: confirm on other cases" in choice.content()["note"]


def test_validation_cases_spare_the_test(tmp_path: Path) -> None:
    choice = screened(tmp_path, {**FIGURES, "d": (0.7, 0.7)}, validation=2)
    assert choice.kept == ("supervised", "a", "c", "d")
    assert choice.part == "validation"
    assert "flatter" not in choice.content()["note"]


@pytest.mark.parametrize("broken", [(), (0.99,), (0.99, None)])
def test_a_method_without_all_its_figures_does_not_go_on(broken: tuple[float | None, ...], tmp_path: Path) -> None:
    choice = screened(tmp_path, {**FIGURES, "b": broken})
    assert choice.kept == ("supervised", "a", "c", "d")
    assert choice.means["b"] is None
    assert "b no figure" in choice.content()["note"]


def test_of_equals_the_first_goes_on(tmp_path: Path) -> None:
    assert screened(tmp_path, dict.fromkeys(LABELS, (0.5, 0.5))).kept == ("supervised", "a", "b")


def test_no_screen_no_choice(tmp_path: Path) -> None:
    study, _ = open_study(write_plan(tmp_path), tmp_path / "out")
    assert choose(study) is None
    assert most_kept(study.plan) == ("supervised", "mean_teacher")


def test_the_most_that_can_go_on(tmp_path: Path) -> None:
    path = write_plan(
        tmp_path,
        methods=METHODS,
        primary={"method": "b", "baseline": "supervised", "budget": 2},
        screen={"budget": 4, "seeds": 1, "keep": 1},
    )
    assert most_kept(open_study(path, tmp_path / "out")[0].plan) == ("supervised", "a", "b")
