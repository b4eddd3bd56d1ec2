from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from monai_ssl.study.plan_file import read_plan
from monai_ssl.utils.errors import UserError
from tests.study.helpers import write_detection_plan, write_plan

FULL = {
    "budgets": [2, "25%", "all"],
    "methods": ["supervised", {"label": "Mine", "method": "mean_teacher", "settings": {"objective#noise": 0.0}}],
    "primary": {"method": "Mine", "baseline": "supervised", "budget": "25%"},
    "settings": {"patch_size": [16, 16, 16]},
    "evaluation": {"overlap": 0.25},
    "validation": 1,
    "metric": "surface_dice",
    "patient_regex": r"c\d+",
    "split_seed": 7,
}


def test_a_plan_is_read_and_its_content_reads_back(tmp_path: Path) -> None:
    plan = read_plan(write_plan(tmp_path, **FULL))
    assert (plan.budgets, plan.seeds, plan.steps, plan.test) == (("2", "25%", "all"), (0, 1), 4, 3)
    assert plan.methods[1].settings == {"objective#noise": 0.0}
    assert plan.data == tmp_path / "data/dataset.json"
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(plan.content()))
    assert read_plan(tmp_path / "again.yaml") == plan


def test_a_detection_bundle_has_figures_of_its_own(tmp_path: Path) -> None:
    plan = read_plan(write_detection_plan(tmp_path))
    assert (plan.metric, plan.margin) == ("cpm", 0.02)
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(plan.content()))
    assert read_plan(tmp_path / "again.yaml") == plan
    assert read_plan(write_detection_plan(tmp_path, metric="sensitivity_1")).metric == "sensitivity_1"
    with pytest.raises(
        UserError, match=r"`metric` must be one of cpm, sensitivity_1, got 'dice', which mine_detection"
    ):
        read_plan(write_detection_plan(tmp_path, metric="dice"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgetes": [1]}, "unknown key 'budgetes' in the plan; did you mean 'budgets'"),
        ({"seeds": None}, "`seeds` is missing in the plan"),
        ({"seeds": "two"}, "`seeds` must be a whole number"),
        ({"steps": 1.5}, "`steps` must be a whole number from 1, got 1.5"),
        ({"test": -1}, "`test` must be a whole number from 0"),
        ({"metric": "dise"}, "`metric` must be one of dice, .* did you mean 'dice'"),
        ({"metric": "cpm"}, "semi_segmentation does not give: it is a bundle of segmentation, since its name does not"),
        ({"methods": []}, "`methods` must be a list"),
        ({"methods": ["supervised", "Supervised"]}, "`method` must be a file of .*did you mean 'supervised'"),
        ({"methods": ["supervised", "supervised"]}, "entry 2 of `methods`: label 'supervised' is taken"),
        ({"methods": [{"label": "a b", "method": "supervised"}, {"label": "A-B", "method": "supervised"}]}, "is taken"),
        ({"methods": [{"label": "x"}]}, "`method` is missing in entry 1 of `methods`"),
        ({"methods": [{"label": "?", "method": "supervised"}]}, "`label` must be a name with letters"),
        ({"methods": [{"method": "supervised", "setings": {}}]}, "did you mean 'settings'"),
        ({"methods": [{"method": "supervised", "settings": {"seed": 1}}]}, "must leave 'seed' to the study"),
        ({"primary": {"method": "mean_teacher", "baseline": "sup", "budget": 2}}, "`primary: baseline` must be one of"),
        ({"primary": {"method": "mean_teacher", "baseline": "supervised", "budget": 3}}, "`primary: budget` .*got '3'"),
        ({"primary": {"method": "supervised", "baseline": "supervised", "budget": 2}}, "must compare two methods"),
        ({"screen": {"budget": 2, "seeds": 1, "keep": 1}}, "`screen: keep` must be below 1"),
        ({"screen": {"budget": 3, "seeds": 1, "keep": 1}}, "`screen: budget` must be one of 2, 4"),
        ({"patient_regex": 3}, "`patient_regex` must be a regular expression"),
        (
            {"methods": [{"method": "supervised", "checkpoint": "best"}]},
            "`checkpoint` of `supervised` must be one",
        ),
        (
            {"methods": [{"method": "supervised", "settings": {"checkpoint": "chosen"}}]},
            "must leave 'checkpoint' to",
        ),
        ({"margin": 0}, "`margin` must be above 0, in the unit of dice, got 0"),
        ({"margin": "small"}, "`margin` must be above 0"),
        ({"data": "gone"}, "`data` must be an existing file"),
    ],
)
def test_mistakes_are_one_line_with_the_file(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_plan(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as error:
        read_plan(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_plan(tmp_path / "none.yaml")
    for text in ("a: [", "- 1", ""):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=r"bad.yaml: (not valid YAML|the plan must be a mapping)"):
            read_plan(tmp_path / "bad.yaml")
