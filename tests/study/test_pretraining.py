from __future__ import annotations

import csv
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from monai_ssl.study import process
from monai_ssl.study.conduct import preview_study, run_study
from monai_ssl.study.frozen_plan import PLAN, check_plan, freeze_plan
from monai_ssl.study.grid import run_grid
from monai_ssl.study.plan import RunSpec
from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.pretraining import PRETRAINING_LIST, pretrain_spec, pretrain_specs, pretraining_list
from monai_ssl.study.record import digest
from monai_ssl.study.splits import HELD_OUT, draw_splits, split_path
from monai_ssl.study.state import Study
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock
from tests.bundles.helpers import processes
from tests.study.helpers import STEPS, fake_command, open_study, run_with_fakes, write_cases, write_pretraining_plan

TABLES = ("study.json", "study.csv", "study.md", "curve.png", "curve.svg")
FIRST = {"bundle": "first", "method": "inpainting", "steps": STEPS + 2}
SEMI = {"label": "semi", "method": "mean_teacher", "pretraining": FIRST}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "bundle_command", fake_command)


def of(specs: list[RunSpec], label: str) -> list[RunSpec]:
    return [spec for spec in specs if spec.method.label == label]


def starts(output: Path) -> dict[str, int]:
    """How often each pretraining was started, by its folder."""
    consoles = (output / "pretraining").rglob(process.CONSOLE)
    return {
        str(path.parent.relative_to(output)): path.read_text().count("starts train.yaml") for path in sorted(consoles)
    }


@pytest.mark.parametrize("patients", [False, True])
def test_the_list_has_every_image_but_those_of_test_and_validation_and_no_label(patients: bool, tmp_path: Path) -> None:
    write_cases(tmp_path / "data", 20, patients=patients, unlabeled=3)
    path = tmp_path / "data/dataset.json"
    content = json.loads(path.read_text())
    if patients:  # one more scan of everybody, without a label
        content["unlabeled"] += [{"image": f"v{i}.nii.gz", "patient": f"p{i}"} for i in range(10)]
        path.write_text(json.dumps(content))
    for seed in range(3):
        plan = write_pretraining_plan(tmp_path, test=4, validation=2, split_seed=seed)
        study, specs = open_study(plan, tmp_path / f"out{seed}")
        written = json.loads((study.output / PRETRAINING_LIST).read_text())
        assert list(written) == ["unlabeled"]
        images = [case["image"] for case in written["unlabeled"]]
        assert {key for case in written["unlabeled"] for key in case} == {"image", *(["patient"] if patients else [])}
        held = [case for part in ("test", "validation") for case in study.splits[HELD_OUT][part]]
        away = {case["image"] for case in held}
        people = {case["patient"] for case in held} if patients else set()
        everything = [*content["training"], *content["unlabeled"]]
        expected = {e["image"] for e in everything if e["image"] not in away and e.get("patient") not in people}
        assert len(images) == len(set(images)) == len(expected)
        assert set(images) == expected
        # what any run may see, whatever its budget and seed
        for spec in specs:
            seen = study.splits[split_path(spec)]
            assert {case["image"] for part in ("training", "unlabeled") for case in seen[part]} == expected


def test_an_image_that_is_a_test_image_by_another_path_is_refused_before_anything_learns(tmp_path: Path) -> None:
    plan = write_pretraining_plan(tmp_path)
    test = draw_splits(read_plan(plan))[HELD_OUT]["test"][0]["image"]
    (tmp_path / "data" / test).touch()
    (tmp_path / "data/alias.nii.gz").symlink_to(test)
    content = json.loads((tmp_path / "data/dataset.json").read_text())
    content["unlabeled"] = [{"image": "alias.nii.gz"}]
    (tmp_path / "data/dataset.json").write_text(json.dumps(content))
    study, specs = open_study(plan, tmp_path / "out")
    with pytest.raises(UserError, match=rf"{test} is in `unlabeled` and in `test`"):
        study.begin(of(specs, "pretrained")[0])
    assert not (study.output / "pretraining").exists()


def test_a_run_pretrains_then_trains_from_its_weights(tmp_path: Path) -> None:
    settings = {"device": "cpu", "learning_rate": 0.1}
    study, specs = open_study(
        write_pretraining_plan(tmp_path, settings=settings, pretraining={"settings": {"ratio": 0.25}}), tmp_path / "out"
    )
    spec = of(specs, "pretrained")[1]
    pretraining = pretrain_spec(spec)
    assert pretraining is not None
    folder = study.output / pretraining.folder
    study.begin(spec)
    first = study.next_step(spec)
    assert first is not None
    assert (first.name, first.bundle) == ("pretrain", tmp_path / "first")
    assert first.configs == ("train.yaml", "methods/inpainting.yaml")
    # the plan's settings are of its own bundle, but for the device
    assert first.settings == {
        **{"device": "cpu", "ratio": 0.25, "dataset_dir": tmp_path / "data", "output_dir": folder},
        **{"datalist": tmp_path / "out/splits/pretraining.json", "seed": 0, "max_steps": 6, "overwrite": True},
    }
    (folder / "resume.pt").touch()
    again = study.next_step(spec)
    assert again is not None
    assert (again.settings["resume"], "overwrite" in again.settings) == (True, False)
    study.end(spec, first, 7.0)
    assert study.next_step(spec) == again  # it left no weights
    (folder / "model.pt").touch()
    train = study.next_step(spec)
    assert train is not None
    assert (train.name, train.bundle, train.settings["pretrained"]) == ("train", None, folder / "model.pt")
    assert study.pretraining_record(pretraining).seconds == {"pretrain": 7.0}
    assert study.record(spec).seconds == {}
    study.end(spec, train, 3.0)
    (folder / "model.pt").unlink()  # to save disk: what has trained needs it no more
    step = study.next_step(spec)
    assert step is not None
    assert step.name == "test"
    other = study.next_step(of(specs, "pretrained")[0])
    assert other is not None
    assert other.name == "pretrain"
    plain = study.next_step(specs[0])
    assert plain is not None
    assert "pretrained" not in plain.settings


def test_who_shares_a_pretraining(tmp_path: Path) -> None:
    label = {"label": "other steps", "method": "supervised", "pretraining": {**FIRST, "steps": 9}}
    ratio = {"label": "other ratio", "method": "supervised", "pretraining": {**FIRST, "settings": {"ratio": 0.1}}}
    shared = {"label": "shared", "method": "supervised", "pretraining": {**FIRST, "seeds": "shared"}}
    flips = {"label": "flips", "method": "supervised", "pretraining": FIRST, "evaluation": {"device": "cpu"}}
    rotation = {"label": "rotation", "method": "supervised", "pretraining": {**FIRST, "method": "rotation"}}
    path = write_pretraining_plan(tmp_path, SEMI, label, ratio, shared, flips, rotation)
    study, specs = open_study(path, tmp_path / "out")
    folders = {
        name: {(spec.seed, one.folder) for spec in of(specs, name) if (one := pretrain_spec(spec))}
        for name in ("supervised", "pretrained", "semi", "other steps", "other ratio", "shared", "flips", "rotation")
    }
    assert folders["supervised"] == set()
    assert len(folders["pretrained"]) == 2  # over both budgets
    assert folders["semi"] == folders["flips"] == folders["pretrained"]
    (zero,) = {folder for seed, folder in folders["pretrained"] if seed == 0}
    assert folders["shared"] == {(0, zero), (1, zero)}
    assert zero.match("pretraining/inpainting_????????/seed0")
    named = [folders[name] for name in ("pretrained", "other steps", "other ratio", "rotation")]
    assert len(set.union(*named)) == 8
    assert len(pretrain_specs(specs)) == 8
    (flipped, plain), other = (of(specs, name)[0] for name in ("flips", "pretrained")), of(specs, "supervised")[0]
    assert study.training(flipped) == plain
    assert study.training(other) == other


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(("seeds", "expected"), [("each", [0, 1]), ("shared", [0])])
def test_one_pretraining_for_all_budgets_and_methods(seeds: str, expected: list[int], tmp_path: Path) -> None:
    pretraining = {**FIRST, "seeds": seeds}
    plan = write_pretraining_plan(tmp_path, {**SEMI, "pretraining": pretraining}, pretraining=pretraining)
    lines: list[str] = []
    result = run_study(plan, tmp_path / "out", jobs=4, say=lines.append)
    assert not result.failures
    counted = starts(tmp_path / "out")
    assert [int(name[-1]) for name in counted] == expected
    assert set(counted.values()) == {1}
    number = len(expected)
    words = "1 pretraining" if number == 1 else "2 pretrainings"
    assert lines[:2] == [
        "12 runs of 4 steps: 0 finished, 12 to do.",
        f"{words} of {6 * number} steps in all: 0 finished, {number} to do.",
    ]
    content = result.content
    (entry,) = content["pretrainings"]
    assert entry == {
        **{"methods": ["pretrained", "semi"], "bundle": "first", "pretext": "inpainting", "settings": {}},
        **{"steps": 6, "seeds": seeds, "images": 9},
    }
    limits = "\n".join(content["findings"]["limits"])
    assert (
        "pretrained and semi are pretrained (inpainting of first) for 6 steps on 9 unlabelled images, the training "
        "pool, without validation and test cases." in limits
    )
    assert ("One pretraining for all seeds of pretrained and semi" in limits) == (seeds == "shared")
    text = (tmp_path / "out/study.md").read_text()
    assert "pretrained and semi went through a pretraining before. A seed" in text
    with open(tmp_path / "out/study.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["method"], row["pretraining_steps"]) for row in rows} == {
        ("supervised", "0"),
        ("pretrained", "6"),
        ("semi", "6"),
    }
    assert {row["pretraining"] for row in rows} == {"", *counted}
    with open(tmp_path / "out/times.csv", newline="") as stream:
        times = list(csv.DictReader(stream))
    for row in times:
        seconds = row["pretraining_seconds"]
        assert seconds == "" if row["method"] == "supervised" else float(seconds) == pytest.approx(0.02 * 6)
    assert all(row["steps"] == "4" for row in times)
    for folder in ("labels", "test"):
        assert folder not in json.loads((tmp_path / "out" / PRETRAINING_LIST).read_text())


@pytest.mark.usefixtures("fakes")
def test_killed_at_any_moment_a_study_ends_with_the_same_tables(tmp_path: Path) -> None:
    slow = {"settings": {"learning_rate": 0.3}}
    plan = write_pretraining_plan(tmp_path, pretraining=slow, budgets=[2], settings={"learning_rate": 0.0})
    run_study(plan, tmp_path / "whole", jobs=2)
    killed, moments, resumed = tmp_path / "killed", random.Random(3), 0

    def going_on() -> list[Path]:
        places = [path.parent for path in killed.glob("pretraining/*/seed?/resume.pt")]
        return [place for place in places if not (place / "model.pt").exists()]

    for _ in range(3):
        child = processes().Process(target=run_with_fakes, args=(str(plan), str(killed), 2))
        child.start()
        while child.is_alive() and not going_on():
            time.sleep(0.005)
        child.join(moments.uniform(0.0, 0.8))
        child.kill()
        child.join()
        resumed += bool(going_on())
    assert resumed >= 1
    run_study(plan, killed, jobs=2)
    assert [(killed / name).read_bytes() for name in TABLES] == [
        (tmp_path / "whole" / name).read_bytes() for name in TABLES
    ]
    weights = [path.relative_to(killed) for path in killed.glob("pretraining/*/seed?/model.pt")]
    assert len(weights) == 2
    for path in weights:
        assert (killed / path).read_text() == (tmp_path / "whole" / path).read_text()
        assert (killed / path.parent / "steps.csv").read_text().count("\n") == 6 + 1


@pytest.mark.usefixtures("fakes")
def test_a_pretraining_that_fails_is_tried_once_and_the_other_runs_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(bundle: Path, configs: tuple[str, ...], settings: dict[str, Any]) -> list[str]:
        broken = bundle.name == "first" and settings["seed"] == 0
        return ["/bin/sh", "-c", "echo Error: no; exit 3"] if broken else fake_command(bundle, configs, settings)

    monkeypatch.setattr(process, "bundle_command", command)
    study, specs = open_study(write_pretraining_plan(tmp_path, SEMI), tmp_path / "out")
    failures = run_grid(study, specs, jobs=3)
    assert [failure.spec for failure in failures] == [
        spec for spec in specs if spec.seed == 0 and spec.method.label != "supervised"
    ]
    folder = study.output / str(next(iter(starts(study.output))))
    assert {failure.reason for failure in failures} == {
        f"pretrain ended with status 3: Error: no (all of it: {folder / process.CONSOLE})"
    }
    assert (folder / process.CONSOLE).read_text().count("Error: no") == 1
    assert all(study.is_finished(spec) for spec in specs if spec.seed == 1 or spec.method.label == "supervised")
    monkeypatch.setattr(process, "bundle_command", fake_command)
    assert run_grid(study, specs, jobs=3) == []


@pytest.mark.usefixtures("fakes")
def test_a_pretraining_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    study, specs = open_study(write_pretraining_plan(tmp_path, seeds=1), tmp_path / "out")
    folder = study.output / pretrain_specs(specs)[0].folder
    folder.mkdir(parents=True)
    lock = FolderLock(folder)
    assert [study.is_busy(spec) for spec in specs] == [False, True, False, True]
    order: list[str] = []

    def say(line: str) -> None:
        order.append(line)
        if len(order) == 2:
            lock.release()

    assert run_grid(study, specs, jobs=2, say=say) == []
    assert all(line.startswith("finished: supervised") for line in order[:2])
    assert set(starts(study.output).values()) == {1}


@pytest.mark.usefixtures("fakes")
def test_what_starts_from_other_weights_learns_something_else(tmp_path: Path) -> None:
    shared = {"label": "shared", "method": "supervised", "pretraining": {**FIRST, "seeds": "shared"}}
    result = run_study(write_pretraining_plan(tmp_path, shared, budgets=[2]), tmp_path / "out", jobs=4)
    means = {entry["method"]: entry["means"] for entry in result.content["scores"]}
    assert means["shared"][0] == means["pretrained"][0]
    assert means["shared"][1] != means["pretrained"][1]
    assert means["supervised"][0] != means["pretrained"][0]


@pytest.mark.usefixtures("fakes")
def test_what_was_pretrained_otherwise_is_refused(tmp_path: Path) -> None:
    study, specs = open_study(write_pretraining_plan(tmp_path, seeds=1, budgets=[2]), tmp_path / "out")
    freeze_plan(study.plan, study.output)
    plain, spec = specs
    assert run_grid(study, specs) == []
    for change in ({"steps": 9}, {"settings": {"ratio": 0.1}}, {"method": "rotation"}, {"seeds": "shared"}):
        changed = read_plan(write_pretraining_plan(tmp_path, seeds=1, budgets=[2], pretraining=change))
        with pytest.raises(UserError, match=r"the plan has changed since the study began: method .*'pretraining'"):
            check_plan(changed, study.output)
        if change == {"seeds": "shared"}:
            continue  # of seed 0, so it is the same
        moved = Study(changed, study.output, study.splits)
        other = RunSpec(spec.budget, changed.methods[1], spec.seed)
        with pytest.raises(UserError, match=r"run.json: this run was made with other pretraining\. "):
            moved.is_finished(other)
    config = tmp_path / "first/configs/train.yaml"
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "ratio": 0.75}))
    with pytest.raises(UserError, match=r"first/configs/train\.yaml: the configs have changed since the study"):
        study.begin(spec)
    later = open_study(write_pretraining_plan(tmp_path, seeds=1, budgets=[2]), study.output)[0]
    with pytest.raises(UserError, match="made with other pretraining"):
        later.is_finished(spec)
    with pytest.raises(UserError, match=r"made with other first/configs/train\.yaml"):
        later.pretraining_record(pretrain_specs(specs)[0]).begin()
    assert later.is_finished(plain)


def test_a_pretraining_bundle_that_lies_elsewhere_now_is_no_change(tmp_path: Path) -> None:
    study, specs = open_study(write_pretraining_plan(tmp_path), tmp_path / "out")
    freeze_plan(study.plan, study.output)
    records = [study.pretraining_record(one) for one in pretrain_specs(specs)]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "first").rename(tmp_path / "elsewhere/first")
    path = write_pretraining_plan(tmp_path, pretraining={"bundle": "elsewhere/first"})
    check_plan(read_plan(path), study.output)
    moved, again = open_study(path, study.output)
    assert [moved.pretraining_record(one) for one in pretrain_specs(again)] == records


def test_without_a_pretraining_nothing_is_as_it_was_not(tmp_path: Path) -> None:
    """Fingerprints are re-derived as they were before methods could have a pretraining."""
    path = write_pretraining_plan(tmp_path, methods=["supervised", "mean_teacher"], primary=PRIMARY)
    study, specs = open_study(path, tmp_path / "out")
    configs = {
        name: digest(yaml.safe_load((tmp_path / "mine/configs" / name).read_text()))
        for name in ("train.yaml", "evaluate.yaml", "methods/supervised.yaml")
    }
    expected = {
        "data list": digest(study.splits[Path("splits/2/seed0.json")]),
        "settings": digest([{}, {}, {}, {}]),
        "steps or seed": digest([4, 0]),
        **{f"mine/configs/{name}": digest(content) for name, content in configs.items()},
    }
    assert study.record(specs[0]).fingerprint == expected
    assert [method.content() for method in study.plan.methods] == [
        {"label": name, "method": name} for name in ("supervised", "mean_teacher")
    ]
    assert not (study.output / PRETRAINING_LIST).exists()
    # and one that is added to the plan leaves the others as they are
    freeze_plan(study.plan, study.output)
    grown, more = open_study(write_pretraining_plan(tmp_path, "mean_teacher", primary=PRIMARY), study.output)
    freeze_plan(grown.plan, study.output)
    assert read_plan(study.output / PLAN) == grown.plan
    assert grown.record(of(more, "supervised")[0]).fingerprint == expected
    assert (study.output / PRETRAINING_LIST).exists()


PRIMARY = {"method": "mean_teacher", "baseline": "supervised", "budget": 2}


def test_a_plan_is_read_and_its_content_reads_back(tmp_path: Path) -> None:
    first = {"settings": {"ratio": 0.1}, "seeds": "shared"}
    plan = read_plan(write_pretraining_plan(tmp_path, pretraining=first))
    assert plan.content()["methods"][1]["pretraining"] == {**FIRST, **first, "bundle": str(tmp_path / "first")}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(plan.content()))
    assert read_plan(tmp_path / "again.yaml") == plan


@pytest.mark.parametrize(
    ("pretraining", "changes", "message"),
    [
        ({"stesp": 1}, {}, "unknown key 'stesp' in `pretraining` of `pretrained`; did you mean 'steps'"),
        ({"steps": None}, {}, "`steps` is missing in `pretraining` of `pretrained`"),
        ({"steps": 0}, {}, "`pretraining: steps` of `pretrained` must be a whole number from 1, got 0"),
        ({"bundle": "gone/no"}, {}, "`pretraining` of `pretrained`: `bundle` must be a bundle's name or folder"),
        ({"method": "inpaint"}, {}, "`pretraining` of `pretrained`: `method` .*did you mean 'inpainting'"),
        ({"seeds": 1}, {}, "`pretraining: seeds` of `pretrained` must be one of each, shared, got 1"),
        ({"settings": {"seed": 1}}, {}, "`pretraining: settings` of `pretrained` must leave 'seed' to the study"),
        ({"settings": {"transfer": 1}}, {}, "'transfer', which first/configs/train.yaml has not"),
        ({}, {"settings": {"pretrained": "a.pt"}}, "`settings` must leave 'pretrained' to the study, which pretrains"),
        ({}, {"bundle": "semi_first"}, "must be left out: semi_first has no setting `pretrained`"),
    ],
)
def test_mistakes_are_one_line(
    pretraining: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_pretraining_plan(tmp_path, pretraining=pretraining)
    (tmp_path / "semi_first").symlink_to(tmp_path / "mine")
    if "bundle" in changes:
        (tmp_path / "semi_first").unlink()
        (tmp_path / "mine").rename(tmp_path / "semi_first")
        (tmp_path / "semi_first/configs/train.yaml").write_text("device: cpu\n")
        (tmp_path / "mine").mkdir()
    path = write_pretraining_plan(tmp_path, pretraining=pretraining, **changes)
    with pytest.raises(UserError, match=message) as error:
        read_plan(path)
    assert "\n" not in str(error.value)


def test_weights_of_the_method_itself_go_with_no_pretraining(tmp_path: Path) -> None:
    mine = {"label": "mine", "method": "supervised", "settings": {"pretrained": "a.pt"}}
    path = write_pretraining_plan(tmp_path, {**mine, "pretraining": FIRST})
    with pytest.raises(UserError, match="`settings` of `mine` must leave 'pretrained' to the study"):
        read_plan(path)
    assert read_plan(write_pretraining_plan(tmp_path, mine)).methods[2].pretraining is None


@pytest.mark.usefixtures("fakes")
def test_a_preview_lists_the_pretrainings_first(tmp_path: Path) -> None:
    ratio = {"label": "ratio", "method": "supervised", "pretraining": {**FIRST, "settings": {"ratio": 0.1}}}
    plan = write_pretraining_plan(tmp_path, ratio, seeds=1)
    lines = preview_study(plan, tmp_path / "out")
    assert lines[:2] == [
        "6 runs of 4 steps: 0 finished, 6 to do.",
        "2 pretrainings of 12 steps in all: 0 finished, 2 to do.",
    ]
    assert not (tmp_path / "out").exists()
    listed = [line for line in lines if ": pretraining" in line]
    assert [line[:30] for line in listed] == ["to do: pretraining inpainting_"] * 2
    assert len(set(listed)) == 2
    assert lines.index(listed[1]) < lines.index("to do: supervised, labels 2, seed 0")
    study, specs = open_study(plan, tmp_path / "out")
    assert run_grid(study, specs[:2]) == []
    lines = preview_study(plan, tmp_path / "out")
    assert lines[1] == "2 pretrainings of 12 steps in all: 1 finished, 1 to do."
    assert sum(line.startswith("finished: pretraining") for line in lines) == 1


def test_a_case_is_an_image_and_a_patient() -> None:
    cases = [{"image": "b", "label": "l", "fold": 1}, {"image": "a", "label": "m", "patient": "p"}]
    held_out = {"training": cases, "unlabeled": [{"image": "c"}], "test": [{"image": "t"}], "validation": []}
    assert pretraining_list(held_out) == {"unlabeled": [{"image": "a", "patient": "p"}, {"image": "b"}, {"image": "c"}]}


@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_several_channels_are_named_to_the_pretraining(key: str) -> None:
    held_out = {"training": [{"image": "a"}], "unlabeled": []}
    assert pretraining_list({**held_out, key: {"0": "T1", "1": "T2"}})[key] == {"0": "T1", "1": "T2"}
    # one is the default, and the lists of a study that has begun stay the same
    assert pretraining_list({**held_out, key: {"0": "T1"}}) == {"unlabeled": [{"image": "a"}]}
