from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_ssl.study.state import Study
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock
from tests.study.helpers import open_study, write_detection_plan, write_figures, write_plan


def test_a_run_trains_then_is_tested_then_is_finished(tmp_path: Path) -> None:
    settings = {"device": "cpu", "patch_size": [16, 16, 16]}
    study, specs = open_study(write_plan(tmp_path, settings=settings, evaluation={"overlap": 0.0}), tmp_path / "out")
    spec, folder = specs[1], tmp_path / "out/runs/2/mean_teacher/seed0"
    study.begin(spec)
    train = study.next_step(spec)
    assert train is not None
    assert (train.name, train.configs) == ("train", ("train.yaml", "methods/mean_teacher.yaml"))
    shared = {"dataset_dir": tmp_path / "data", "datalist": tmp_path / "out/splits/2/seed0.json"}
    assert train.settings == {
        **settings,
        **shared,
        "output_dir": folder,
        "seed": 0,
        "max_steps": 4,
        "overwrite": True,
        "check": False,  # the study has checked all cases once
    }
    (folder / "resume.pt").touch()
    again = study.next_step(spec)
    assert again is not None
    assert again.settings["resume"] is True
    assert "overwrite" not in again.settings
    study.end(spec, train, 1.5)
    test = study.next_step(spec)
    assert test is not None
    assert (test.name, test.configs) == ("test", ("evaluate.yaml",))
    own = {"part": "test", "weights": folder / "model.pt", "output_dir": folder / "test"}
    # scored on the list that every run shares, whatever the run's own has for validation
    assert test.settings == {
        "device": "cpu",
        "overlap": 0.0,
        **shared,
        "datalist": tmp_path / "out/splits/held_out.json",
        **own,
    }
    assert not study.is_finished(spec)
    write_figures(study, spec, 0.5)
    assert study.next_step(spec) is None
    assert study.is_finished(spec)


def test_a_run_that_differs_in_its_evaluation_alone_shares_the_training(tmp_path: Path) -> None:
    flips = {"label": "flips", "method": "supervised", "evaluation": {"flip_axes": [0]}}
    weak = {"label": "weak", "method": "supervised", "settings": {"augmentation": "weak"}}
    chosen = {"label": "chosen", "method": "supervised", "checkpoint": "chosen"}
    methods = [flips, "supervised", "mean_teacher", weak, chosen]
    study, specs = open_study(write_plan(tmp_path, methods=methods), tmp_path / "out")
    flipped, plain, _, weakened, picked = specs[:5]
    assert study.training(flipped) == plain
    assert [study.training(spec) for spec in (plain, weakened, picked)] == [plain, weakened, picked]
    study.begin(flipped)
    train = study.next_step(flipped)
    assert train is not None
    assert train.settings["output_dir"] == study.folder(plain)
    study.end(flipped, train, 2.0)
    for spec in (plain, flipped):
        study.begin(spec)
        test = study.next_step(spec)
        assert test is not None
        assert test.settings["weights"] == study.folder(plain) / "model.pt"
        assert test.settings["output_dir"] == study.folder(spec) / "test"
        assert test.settings.get("flip_axes") == (None if spec == plain else [0])
    assert study.record(plain).seconds == {"train": 2.0}
    assert study.record(flipped).seconds == {}
    study.begin(picked)
    train = study.next_step(picked)
    assert train is not None
    assert train.settings["checkpoint"] == "chosen"
    assert train.settings["datalist"] == tmp_path / "out/splits/2/seed0-chosen.json"
    # the case that chooses counts as a label
    assert study.counts(picked) == study.counts(plain) == {"labels": 2, "unlabeled": 7}


def test_overrides_of_a_method_go_over_those_of_the_plan(tmp_path: Path) -> None:
    mine = {"label": "b", "method": "supervised", "settings": {"amp": True}, "evaluation": {"overlap": 0.75}}
    path = write_plan(
        tmp_path,
        methods=["supervised", mine],
        settings={"amp": False},
        evaluation={"overlap": 0.0},
        primary={"method": "b", "baseline": "supervised", "budget": 2},
    )
    study, specs = open_study(path, tmp_path / "out")
    for spec, amp, overlap in zip(specs, (False, True), (0.0, 0.75), strict=False):
        study.begin(spec)
        train = study.next_step(spec)
        assert train is not None
        assert train.settings["amp"] is amp
        study.end(spec, train, 1.5)
        test = study.next_step(spec)
        assert test is not None
        assert test.settings["overlap"] == overlap


def test_a_detector_is_scored_by_the_rules_that_it_was_trained_by(tmp_path: Path) -> None:
    settings = {"iou_threshold": 0.3, "coordinates": "LPS"}
    plan = write_detection_plan(tmp_path, settings=settings)
    study, specs = open_study(plan, tmp_path / "out")
    study.begin(specs[0])
    step = study.next_step(specs[0])
    assert step is not None
    study.end(specs[0], step, 1.0)
    test = study.next_step(specs[0])
    assert test is not None
    for one in (step, test):
        assert {name: one.settings[name] for name in settings} == settings


def test_runs_of_a_screen_are_scored_on_validation_before_the_test(tmp_path: Path) -> None:
    methods = ["supervised", "mean_teacher", "uncertainty_mean_teacher"]
    screen = {"budget": 2, "seeds": [0], "keep": 1}
    study, specs = open_study(write_plan(tmp_path, methods=methods, screen=screen, validation=2), tmp_path / "out")
    assert study.parts(specs[0]) == ("validation", "test")
    assert study.parts(specs[-1]) == ("test",)
    write_figures(study, specs[0], 0.5)
    step = study.next_step(specs[0])
    assert step is not None
    assert step.settings["part"] == "validation"
    without = Study(
        study.plan, study.output, {name: {**split, "validation": []} for name, split in study.splits.items()}
    )
    assert without.parts(specs[0]) == ("test",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 8}, "other steps or seed"),
        ({"settings": {"amp": True}}, "other settings"),
        ({"test": 2}, "other data list"),
    ],
)
def test_a_run_of_other_settings_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    write_figures(study, specs[0], 0.5)
    study.begin(specs[0])
    (tmp_path / "again").mkdir()
    other, specs = open_study(write_plan(tmp_path, **changes), tmp_path / "again")
    moved = Study(other.plan, study.output, other.splits)
    for call in (moved.begin, moved.is_finished):
        with pytest.raises(UserError, match=rf"run.json: this run was made with {message}"):
            call(specs[0])


@pytest.mark.parametrize("part", ["", "test"])
def test_a_folder_that_a_process_holds_is_busy(part: str, tmp_path: Path) -> None:
    study, specs = open_study(write_plan(tmp_path), tmp_path / "out")
    assert not study.is_busy(specs[0])
    folder = study.folder(specs[0]) / part
    folder.mkdir(parents=True)
    lock = FolderLock(folder)
    assert study.is_busy(specs[0])
    lock.release()
    assert not study.is_busy(specs[0])
