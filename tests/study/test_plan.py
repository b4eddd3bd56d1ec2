from __future__ import annotations

from pathlib import Path

import pytest

from monai_ssl.study.plan import grid_runs, runs, screen_runs, slug
from monai_ssl.study.plan_file import read_plan
from tests.study.helpers import write_plan

THREE = ["supervised", "mean_teacher", {"label": "No Noise", "method": "mean_teacher"}]


@pytest.mark.parametrize(
    ("text", "name"), [("10%", "10pct"), ("all", "all"), ("Mean teacher + TTA", "mean_teacher_tta"), ("../x", "x")]
)
def test_a_slug_is_a_safe_folder_name(text: str, name: str) -> None:
    assert slug(text) == name


def test_the_grid_goes_seed_by_seed(tmp_path: Path) -> None:
    plan = read_plan(write_plan(tmp_path, budgets=[2, "all"]))
    assert [(r.seed, r.budget, r.method.label) for r in grid_runs(plan)][:5] == [
        (0, "2", "supervised"),
        (0, "2", "mean_teacher"),
        (0, "all", "supervised"),
        (0, "all", "mean_teacher"),
        (1, "2", "supervised"),
    ]
    assert screen_runs(plan) == []
    assert runs(plan) == grid_runs(plan)


def test_every_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    listed = runs(read_plan(write_plan(tmp_path, methods=THREE, budgets=[2, "10%", "all"], seeds=[3, 5])))
    assert len({spec.folder for spec in listed}) == len(listed) == 18
    assert listed[2].folder == Path("runs/2/no_noise/seed3")


def test_the_screen_comes_first_and_no_run_twice(tmp_path: Path) -> None:
    plan = read_plan(write_plan(tmp_path, methods=THREE, screen={"budget": 4, "seeds": [1, 9], "keep": 1}))
    listed = runs(plan)
    assert listed[:6] == screen_runs(plan)
    assert len(listed) == 6 + 12 - 3  # seed 1 at 4 labels is in both
    kept = runs(plan, ("supervised", "No Noise"))
    assert len(kept) == 6 + 8 - 2
    assert {spec.method.label for spec in kept[6:]} == {"supervised", "No Noise"}
