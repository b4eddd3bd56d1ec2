from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.study.plan import runs
from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.splits import HELD_OUT, draw_splits, split_path, write_splits
from monai_ssl.utils.errors import UserError
from tests.study.helpers import write_cases, write_plan


def images(split: dict[str, Any], part: str) -> set[str]:
    return {case["image"] for case in split[part]}


@pytest.mark.parametrize("patients", [False, True])
def test_one_test_for_all_and_nested_labels_for_a_seed(patients: bool, tmp_path: Path) -> None:
    write_cases(tmp_path / "data", 30, patients=patients, unlabeled=3)
    plan = read_plan(write_plan(tmp_path, budgets=[2, "50%", 4, "all"], seeds=6, test=6, validation=4))
    drawn = draw_splits(plan)
    held_out = drawn.pop(HELD_OUT)
    assert len(drawn) == 24
    assert len(images(held_out, "test")) == 6
    assert len(images(held_out, "validation")) == 4
    for split in drawn.values():
        assert images(split, "test") == images(held_out, "test")
        assert images(split, "validation") == images(held_out, "validation")
        parts = [images(split, part) for part in ("training", "unlabeled", "validation", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 33
    for seed in range(6):
        sizes = [images(drawn[Path(f"splits/{budget}/seed{seed}.json")], "training") for budget in ("2", "4", "50pct")]
        assert sizes[0] < sizes[1] < sizes[2] < images(held_out, "training")
    assert len({frozenset(images(drawn[Path(f"splits/4/seed{s}.json")], "training")) for s in range(6)}) > 3
    if patients:
        for split in drawn.values():
            people = [{case["patient"] for case in split[part]} for part in ("validation", "test")]
            learned = {case["patient"] for part in ("training", "unlabeled") for case in split[part]}
            assert len(set.union(learned, *people)) == len(learned) + sum(map(len, people))


def test_methods_share_their_lists(tmp_path: Path) -> None:
    plan = read_plan(write_plan(tmp_path))
    assert len({split_path(spec) for spec in runs(plan)}) == len(runs(plan)) / 2


@pytest.mark.parametrize("patients", [False, True])
def test_a_chosen_checkpoint_takes_its_validation_cases_out_of_the_budget(patients: bool, tmp_path: Path) -> None:
    write_cases(tmp_path / "data", 30, patients=patients, unlabeled=3)
    chosen = {"label": "chosen", "method": "supervised", "checkpoint": "chosen"}
    methods = ["supervised", "mean_teacher", chosen]
    plan = read_plan(write_plan(tmp_path, budgets=[2, 4, 10], methods=methods, test=6, validation=4))
    drawn = draw_splits(plan)
    for budget, own in ((4, 1), (10, 2)):
        for seed in range(2):
            last, split = (drawn[Path(f"splits/{budget}/seed{seed}{name}.json")] for name in ("", "-chosen"))
            parts = [images(split, part) for part in ("training", "validation")]
            assert parts[0] | parts[1] == images(last, "training")
            assert not parts[0] & parts[1]
            # whole patients, of two cases each
            assert len(parts[1]) == (own if not patients else 2)
            assert images(split, "unlabeled") == images(last, "unlabeled")
            assert images(split, "test") == images(last, "test")
            assert split["split"]["counts"]["training"] == len(parts[0])
    # of two cases of one patient, none would be left for training
    assert (Path("splits/2/seed0-chosen.json") in drawn) != patients


def test_the_split_seed_draws_other_test_cases(tmp_path: Path) -> None:
    tests = [images(draw_splits(read_plan(write_plan(tmp_path, split_seed=s)))[HELD_OUT], "test") for s in range(4)]
    assert len({frozenset(cases) for cases in tests}) > 1


def test_lists_are_written_once_and_changed_data_are_told(tmp_path: Path) -> None:
    path = write_plan(tmp_path)
    splits = draw_splits(read_plan(path))
    write_splits(splits, tmp_path / "out")
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in splits}
    write_splits(draw_splits(read_plan(path)), tmp_path / "out")
    assert before == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in splits}
    data = json.loads((tmp_path / "data/dataset.json").read_text())
    data["training"].pop(0)
    (tmp_path / "data/dataset.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"the data list has changed since the study began"):
        write_splits(draw_splits(read_plan(path)), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": 0}, "`test` must be 1 or more"),
        ({"budgets": [2, 40]}, "`labels` asks for 40 cases"),
        ({"budgets": [2, "22%"]}, "`budgets` has 2 and 22%, which are both 2 cases"),
        ({"test": 12}, "no labelled cases left"),
    ],
)
def test_what_cannot_be_drawn(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        draw_splits(read_plan(write_plan(tmp_path, **changes)))
