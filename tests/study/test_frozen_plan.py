from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_ssl.study.frozen_plan import PLAN, check_plan, freeze_plan, plan_growth
from monai_ssl.study.plan_file import read_plan
from monai_ssl.utils.errors import UserError
from tests.study.helpers import write_plan


def test_a_frozen_plan_may_grow(tmp_path: Path) -> None:
    freeze_plan(read_plan(write_plan(tmp_path)), tmp_path / "data")
    more = {"seeds": 3, "budgets": [1, 2, 4], "methods": ["supervised", "uncertainty_mean_teacher", "mean_teacher"]}
    plan = read_plan(write_plan(tmp_path, **more))
    freeze_plan(plan, tmp_path / "data")
    assert read_plan(tmp_path / "data" / PLAN) == plan
    added = ["seed 2", "budget 1", "method uncertainty_mean_teacher"]
    assert plan_growth(tmp_path / "data") == added
    freeze_plan(plan, tmp_path / "data")  # as every start of the study does
    assert plan_growth(tmp_path / "data") == added
    freeze_plan(read_plan(write_plan(tmp_path, **{**more, "seeds": 4})), tmp_path / "data")
    assert plan_growth(tmp_path / "data") == [*added, "seed 3"]


def test_defaults_and_what_a_method_may_have_of_its_own(tmp_path: Path) -> None:
    chosen = {"label": "chosen", "method": "supervised", "checkpoint": "chosen", "evaluation": {"flip_axes": [0]}}
    plan = read_plan(write_plan(tmp_path, methods=["supervised", "mean_teacher", chosen]))
    assert [method.checkpoint for method in plan.methods] == ["last", "last", "chosen"]
    assert [method.content() for method in plan.methods][1:] == [
        {"label": "mean_teacher", "method": "mean_teacher"},
        chosen,
    ]
    assert plan.margin == 0.005
    assert read_plan(write_plan(tmp_path, metric="hausdorff_95")).margin is None
    assert read_plan(write_plan(tmp_path, metric="hausdorff_95", margin=0.2)).margin == 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 8}, "steps was 4, is now 8"),
        ({"seeds": 1}, "seeds had 1"),
        ({"budgets": [2]}, "budgets had 4"),
        ({"methods": ["mean_teacher", {"label": "supervised", "method": "mean_teacher"}]}, "method .* is now "),
        ({"primary": {"method": "supervised", "baseline": "mean_teacher", "budget": 2}}, "primary was "),
        ({"settings": {"learning_rate": 1}}, "settings was None, is now"),
    ],
)
def test_and_not_change(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    freeze_plan(read_plan(write_plan(tmp_path)), tmp_path / "data")
    before = (tmp_path / "data" / PLAN).read_text()
    with pytest.raises(UserError, match=rf"the plan has changed since the study began: .*{message}"):
        freeze_plan(read_plan(write_plan(tmp_path, **changes)), tmp_path / "data")
    assert (tmp_path / "data" / PLAN).read_text() == before
    check_plan(read_plan(write_plan(tmp_path)), tmp_path / "data")


def test_a_plan_in_the_place_of_the_frozen_one_is_left_alone(tmp_path: Path) -> None:
    path = write_plan(tmp_path)
    before = path.read_text()
    with pytest.raises(UserError, match="is not a study's frozen plan"):
        freeze_plan(read_plan(path), tmp_path)
    assert path.read_text() == before


def test_a_frozen_plan_that_was_edited_is_told(tmp_path: Path) -> None:
    plan = read_plan(write_plan(tmp_path))
    freeze_plan(plan, tmp_path / "data")
    frozen = tmp_path / "data" / PLAN
    freeze_plan(read_plan(frozen), tmp_path / "data")  # as it is, it is a plan
    frozen.write_text(frozen.read_text().replace("steps: 4", "steps: 8"))
    with pytest.raises(UserError, match="was edited"):
        freeze_plan(plan, tmp_path / "data")
