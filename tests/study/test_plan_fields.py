from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_ssl.study.plan_fields import (
    bundle_folder,
    check_keys,
    check_settings,
    data_list,
    method_file,
    one_of,
    parse_budget,
    parse_budgets,
    parse_checkpoint,
    parse_margin,
    parse_metric,
    parse_seeds,
    whole_number,
)
from monai_ssl.utils.bundle_files import bundle_path
from monai_ssl.utils.errors import UserError


@pytest.mark.parametrize(
    ("given", "budget"),
    [
        (2, "2"),
        ("16", "16"),
        ("10%", "10%"),
        ("10.0%", "10%"),
        ("2.50 %".replace(" ", ""), "2.5%"),
        ("All", "all"),
        (0.1, "10%"),
        (0.125, "12.5%"),
        (".5", "50%"),
    ],
)
def test_a_budget_has_one_spelling(given: Any, budget: str) -> None:
    assert parse_budget(given, "budgets") == budget


def test_a_bundle_that_cannot_choose_a_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    config = tmp_path / "configs/train.yaml"
    config.write_text("max_steps: 1")
    assert parse_checkpoint(None, "checkpoint", tmp_path) == "last"
    with pytest.raises(UserError, match=r"`checkpoint` must be last: .* has no setting `checkpoint`"):
        parse_checkpoint("chosen", "checkpoint", tmp_path)
    config.write_text("checkpoint: last")
    assert parse_checkpoint("chosen", "checkpoint", tmp_path) == "chosen"


def test_a_bundle_gives_the_figures_of_its_task() -> None:
    masks, boxes = Path("/x/semi_segmentation"), Path("/x/mine_detection")
    assert [parse_metric(None, bundle) for bundle in (masks, boxes)] == ["dice", "cpm"]
    assert parse_metric("hausdorff_95", masks) == "hausdorff_95"
    assert parse_metric("sensitivity_1", boxes) == "sensitivity_1"
    with pytest.raises(
        UserError, match=r"one of dice, surface_dice, hausdorff_95, got 'cpm', which semi_segmentation "
    ):
        parse_metric("cpm", masks)
    with pytest.raises(UserError, match=r"one of cpm, sensitivity_1, got 'dice', .* its name ends in _detection\.$"):
        parse_metric("dice", boxes)
    with pytest.raises(UserError, match=r"one of cpm, sensitivity_1, got 'cmp'; did you mean 'cpm'\?"):
        parse_metric("cmp", boxes)


def test_the_loss_that_does_not_matter_is_the_figures_own() -> None:
    named = ("dice", "surface_dice", "hausdorff_95", "cpm", "sensitivity_1")
    assert [parse_margin(None, name) for name in named] == [0.005, 0.005, None, 0.02, 0.02]
    assert parse_margin(0.1, "cpm") == 0.1


@pytest.mark.parametrize("given", [0, -1, True, 0.0, 1.5, "0%", "101%", "ten", "", None, "1e1"])
def test_what_is_no_budget(given: Any) -> None:
    with pytest.raises(UserError, match=r"`budgets` must be a number of cases from 1, a share"):
        parse_budget(given, "budgets")


@pytest.mark.parametrize(("given", "seeds"), [(3, (0, 1, 2)), ([5, 2], (5, 2)), (1, (0,))])
def test_seeds(given: Any, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(given, "seeds") == seeds


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse_seeds(0, "seeds"), "`seeds` must be a whole number from 1, got 0"),
        (lambda: parse_seeds([], "seeds"), "empty list"),
        (lambda: parse_seeds([1, 1], "seeds"), "`seeds` has 1 twice"),
        (lambda: parse_seeds([-1], "seeds"), "`seeds` must be a whole number from 0, got -1"),
        (lambda: parse_seeds("5", "seeds"), "whole number from 1, got '5'"),
        (lambda: parse_budgets([2, "2"]), "`budgets` has 2 twice"),
        (lambda: parse_budgets(2), r"must be a list such as \[2, 10%, all\], got 2"),
        (lambda: whole_number(True, "steps", 1), "`steps` must be a whole number from 1, got True"),
        (lambda: whole_number(1.5, "steps", 1), "got 1.5"),
        (lambda: one_of("dise", "metric", ("dice", "iou")), "one of dice, iou, got 'dise'; did you mean 'dice'?"),
        (lambda: check_keys({"stpes": 1}, "the plan", ("steps",)), "unknown key 'stpes' .*did you mean 'steps'"),
        (lambda: check_keys({}, "the plan", ("steps",)), "`steps` is missing in the plan"),
        (lambda: check_keys([1], "the plan", ("steps",)), "must be a mapping with steps"),
    ],
)
def test_mistakes_are_named(call: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_a_bundle_by_name_or_folder(tmp_path: Path) -> None:
    (tmp_path / "mine/configs").mkdir(parents=True)
    (tmp_path / "mine/configs/train.yaml").touch()
    assert bundle_folder("mine", tmp_path) == tmp_path / "mine"
    assert bundle_folder("semi_segmentation", tmp_path) == bundle_path("semi_segmentation")
    with pytest.raises(UserError, match=r"`bundle` .*the nearest is 'semi_segmentation'"):
        bundle_folder("semi_segmentatoin", tmp_path)
    with pytest.raises(UserError, match=r"no configs/train.yaml"):
        bundle_folder("no/such", tmp_path)


def test_the_data_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`data` must be an existing file or folder"):
        data_list("nothing", tmp_path)
    (tmp_path / "dataset.json").touch()
    assert data_list(".", tmp_path) == tmp_path / "dataset.json"


def test_methods_and_settings_that_the_bundle_has_not() -> None:
    bundle = bundle_path("semi_segmentation")
    with pytest.raises(UserError, match=r"entry 1.*supervised.*did you mean 'mean_teacher'"):
        method_file("mean_techer", bundle, "entry 1")
    assert check_settings({"network_def#channels": [4]}, "settings", bundle, "train.yaml")
    with pytest.raises(UserError, match=r"did you mean 'patch_size'"):
        check_settings({"patchsize": 1}, "settings", bundle, "train.yaml")
    for name in ("seed", "max_steps", "output_dir", "datalist"):
        with pytest.raises(UserError, match=f"must leave '{name}' to the study"):
            check_settings({name: 1}, "settings", bundle, "train.yaml")
    with pytest.raises(UserError, match="must be a mapping"):
        check_settings([1], "settings", bundle, "train.yaml")
