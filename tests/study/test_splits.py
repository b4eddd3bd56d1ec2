from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from monai_ssl.study.plan import runs
from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.splits import HELD_OUT, draw_splits, split_path, write_splits
from monai_ssl.utils.errors import UserError
from tests.study.helpers import write_box_cases, write_cases, write_detection_plan, write_plan


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


def test_a_folder_of_nnunet_is_a_studys_data(tmp_path: Path) -> None:
    for folder, names in {
        "imagesTr": [f"c{i:02}_0000" for i in range(12)],
        "labelsTr": [f"c{i:02}" for i in range(11)],
    }.items():
        (tmp_path / "data" / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / "data" / folder / f"{name}.nrrd").touch()
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nrrd"}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(content))
    split = draw_splits(read_plan(write_plan(tmp_path)))[Path("splits/2/seed0.json")]
    assert {part: len(split[part]) for part in ("training", "unlabeled", "test")} == {
        "training": 2,
        "unlabeled": 7,
        "test": 3,
    }
    assert (split["channel_names"], split["labels"]) == (content["channel_names"], content["labels"])


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


def test_boxes_stay_with_labelled_cases_and_a_healthy_case_is_one(tmp_path: Path) -> None:
    chosen = {"label": "chosen", "method": "supervised", "checkpoint": "chosen"}
    first = {"label": "first", "method": "supervised", "checkpoint": "chosen"}
    write_box_cases(tmp_path / "data", 30)
    path = write_detection_plan(tmp_path, budgets=[5, "all"], methods=["supervised", chosen, first])
    plan = yaml.safe_load(path.read_text()) | {"primary": {"method": "chosen", "baseline": "supervised", "budget": 5}}
    path.write_text(yaml.safe_dump(plan))
    entries = json.loads((tmp_path / "data/dataset.json").read_text())["training"]
    listed = {case["image"]: {**case, "label": case.get("label", [])} for case in entries}
    drawn = draw_splits(read_plan(path))
    assert len(drawn) == 1 + 2 * 2 * 2
    for split in drawn.values():
        labelled = [case for part in ("training", "validation", "test") for case in split[part]]
        assert labelled == [listed[case["image"]] for case in labelled]
        assert all(set(case) == {"image"} for case in split["unlabeled"])
        assert len(labelled) + len(split["unlabeled"]) == 30
        assert split["labels"] == {"0": "nodule"}
    learned = [case for case in drawn[Path("splits/all/seed0.json")]["training"] if not case["box"]]
    assert len(learned) + sum(not case["box"] for case in drawn[HELD_OUT]["test"]) == 7
    write_splits(drawn, tmp_path / "out")
    write_splits(draw_splits(read_plan(path)), tmp_path / "out")


def test_masks_may_be_the_boxes_of_a_detector_and_boxes_are_no_masks(tmp_path: Path) -> None:
    write_cases(tmp_path / "data")
    drawn = draw_splits(read_plan(write_detection_plan(tmp_path)))
    assert all(set(case) == {"image", "label"} for case in drawn[HELD_OUT]["test"])
    write_box_cases(tmp_path / "boxes")
    with pytest.raises(UserError, match=r"dataset\.json: entry 1 of `training` .*: `label` must be a path as a string"):
        draw_splits(read_plan(write_plan(tmp_path, data="boxes")))


def test_a_test_without_two_boxes_is_told_before_anything_runs(tmp_path: Path) -> None:
    data = write_box_cases(tmp_path / "data") / "dataset.json"
    content = json.loads(data.read_text())
    for case in content["training"][1:]:
        case.update(box=[], label=[])
    data.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"`test` has 6 cases, of which [01] have a box: CPM needs two"):
        draw_splits(read_plan(write_detection_plan(tmp_path)))


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


def test_what_the_plan_excludes_is_in_no_list(tmp_path: Path) -> None:
    write_cases(tmp_path / "data", 12)
    held_out = draw_splits(read_plan(write_plan(tmp_path)))[HELD_OUT]
    gone = sorted(images(held_out, "test"))[0]
    drawn = draw_splits(read_plan(write_plan(tmp_path, settings={"exclude": [gone]})))
    for split in drawn.values():
        assert gone not in set.union(*(images(split, part) for part in ("training", "unlabeled", "validation", "test")))
        assert len(images(split, "test")) == 3
    with pytest.raises(UserError, match=r"dataset\.json: `exclude` has 'nobody', and no case of the list"):
        draw_splits(read_plan(write_plan(tmp_path, settings={"exclude": "nobody"})))
