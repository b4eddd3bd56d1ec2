from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from monai_ssl.data.phantoms import write_phantoms
from monai_ssl.study import process, steps
from monai_ssl.study.conduct import preview_study, run_study
from monai_ssl.study.frozen_plan import PLAN, check_plan, freeze_plan, plan_growth
from monai_ssl.study.grid import run_grid
from monai_ssl.study.plan import RunSpec
from monai_ssl.study.plan_file import read_plan
from monai_ssl.study.rounds import ACQUISITIONS, labeling_rounds, next_list, pool_list, previous_round
from monai_ssl.study.splits import HELD_OUT, split_path
from monai_ssl.study.state import Study
from monai_ssl.utils.errors import UserError
from tests.bundles.helpers import processes
from tests.study.helpers import (
    fake_command,
    open_study,
    run_with_fakes,
    write_cases,
    write_detection_plan,
    write_plan,
    write_rounds_plan,
)

TABLES = ("study.json", "study.csv", "study.md", "curve.png", "curve.svg")
FAR = {"label": "far", "method": "mean_teacher", "acquisition": "coverage"}
BROKEN = {**FAR, "label": "broken", "settings": {"objective#noise": "broken"}}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "bundle_command", fake_command)
    monkeypatch.setattr(steps, "has_teacher", lambda checkpoint: False)


def of(specs: list[RunSpec], label: str) -> list[RunSpec]:
    return [spec for spec in specs if spec.method.label == label]


def started(output: Path, config: str = "train.yaml") -> int:
    return sum(path.read_text().count(f"starts {config}") for path in output.rglob(process.CONSOLE))


def images(cases: dict[str, Any], part: str = "training") -> list[str]:
    return [case["image"] for case in cases[part]]


def listed(study: Study, spec: RunSpec) -> dict[str, Any]:
    return json.loads(study.datalist(spec).read_text())


def test_the_first_strategy_of_a_bundle_is_none_of_a_study() -> None:
    assert ACQUISITIONS == ("random", "uncertainty", "coverage", "uncertainty_coverage")


def test_rounds_are_numbers_and_rise(tmp_path: Path) -> None:
    assert labeling_rounds(["10", "all", "2", "4"]) == ("2", "4", "10")
    plan = read_plan(write_rounds_plan(tmp_path, budgets=[4, "all", 2, 6]))
    unsure = plan.methods[2]
    before = {budget: previous_round(plan, RunSpec(budget, unsure, 0)) for budget in plan.budgets}
    expected = {"2": None, "4": RunSpec("2", unsure, 0), "6": RunSpec("4", unsure, 0), "all": None}
    assert before == expected
    assert all(previous_round(plan, RunSpec(budget, plan.methods[1], 0)) is None for budget in plan.budgets)


@pytest.mark.parametrize("patients", [False, True])
def test_lists_are_those_of_a_slow_count(patients: bool, tmp_path: Path) -> None:
    write_cases(tmp_path / "data", 16, patients=patients, unlabeled=3)
    study, specs = open_study(write_rounds_plan(tmp_path, validation=2, test=4), tmp_path / "out")
    held_out, four = study.splits[HELD_OUT], of(specs, "unsure")[1]
    before, drawn = study.splits[split_path(of(specs, "unsure")[0])], study.splits[split_path(four)]
    pool = pool_list(before, held_out)
    assert set(pool) == {"training", "unlabeled"}
    assert pool["training"] == before["training"]
    free = set(images(held_out)) - set(images(before))
    assert set(images(pool, "unlabeled")) == free
    assert not any("label" in case for case in pool["unlabeled"])
    chosen = sorted(free)[-2:]
    cases = next_list(before, chosen[::-1], held_out, drawn, "uncertainty")
    everything = {case["image"]: case for case in json.loads((tmp_path / "data/dataset.json").read_text())["training"]}
    assert cases["training"] == [everything[image] for image in sorted([*images(before), *chosen])]
    assert images(cases, "unlabeled") == [image for image in images(before, "unlabeled") if image not in chosen]
    assert {part: cases[part] for part in ("test", "validation")} == {p: drawn[p] for p in ("test", "validation")}
    assert cases["split"]["counts"] == {part: len(cases[part]) for part in cases["split"]["counts"]}
    people = {part: {case.get("patient", case["image"]) for case in cases[part]} for part in cases["split"]["counts"]}
    assert cases["split"]["patients"] == {part: len(names) for part, names in people.items()}
    assert cases["split"]["acquisition"] == {"strategy": "uncertainty", "chosen": [chosen[::-1]]}
    again = next_list(
        cases, sorted(free)[:2], held_out, study.splits[split_path(of(specs, "unsure")[2])], "uncertainty"
    )
    assert again["split"]["acquisition"]["chosen"] == [chosen[::-1], sorted(free)[:2]]
    assert not {*images(again), *images(again, "unlabeled")} & {
        *images(held_out, "test"),
        *images(held_out, "validation"),
    }


def test_suggestions_that_cannot_be_are_refused(tmp_path: Path) -> None:
    write_cases(tmp_path / "data", unlabeled=1)
    study, specs = open_study(write_rounds_plan(tmp_path), tmp_path / "out")
    held_out, (two, four, _) = study.splits[HELD_OUT], of(specs, "unsure")
    before, drawn = study.splits[split_path(two)], study.splits[split_path(four)]
    free = images(pool_list(before, held_out), "unlabeled")
    wrong = [free[:1], free[:3], [free[0]] * 2, [free[0], "u0.nii.gz"], [free[0], images(held_out, "test")[0]]]
    for suggested in [*wrong, [free[0], images(before)[0]], []]:
        with pytest.raises(UserError, match=r"`suggested` must be 2 different cases of suggest/pool.json, got"):
            next_list(before, suggested, held_out, drawn, "coverage")


def test_a_run_is_chosen_for_then_trains_then_is_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(steps, "has_teacher", lambda path: bool(asked.append(path)) or True)
    settings = {"device": "cpu", "learning_rate": 0.1}
    study, specs = open_study(write_rounds_plan(tmp_path, settings=settings), tmp_path / "out")
    two, four, six = of(specs, "unsure")
    random_two = of(specs, "random")[0]
    with pytest.raises(UserError, match="unsure, labels 4, seed 0: waits for unsure, labels 2, seed 0, which has not"):
        study.begin(four)
    assert (study.waits_for_round(two), study.waits_for_round(four), study.waits_for_round(six)) == (None, two, four)
    assert study.training(two) == random_two  # no case was chosen yet
    study.begin(two)
    step = study.next_step(two)
    assert step is not None
    assert (step.name, step.settings["datalist"]) == ("train", tmp_path / "out/splits/2/seed0.json")
    study.end(two, step, 1.0)
    assert study.waits_for_round(four) is None
    study.begin(four)
    suggest = study.next_step(four)
    assert suggest is not None
    folder, before = tmp_path / "out/runs/4/unsure/seed0", tmp_path / "out/runs/2/random/seed0"
    assert (suggest.name, suggest.configs, suggest.bundle) == ("suggest", ("suggest.yaml",), None)
    assert suggest.settings == {
        **{"device": "cpu", "strategy": "uncertainty", "count": 2, "seed": 0, "overwrite": True},
        **{"weights": before / "model.pt", "student": before / "resume.pt", "dataset_dir": tmp_path / "data"},
        **{"datalist": folder / "suggest/pool.json", "output_dir": folder / "suggest"},
    }
    assert asked == [before / "resume.pt"]
    pool = json.loads((folder / "suggest/pool.json").read_text())
    assert len(pool["unlabeled"]) == 7
    study.end(four, suggest, 2.0)
    assert study.next_step(four) == suggest  # it left nothing
    chosen = images(pool, "unlabeled")[:2]
    (folder / "suggest").mkdir(exist_ok=True)
    (folder / "suggest/suggestions.json").write_text(json.dumps({"suggested": chosen[:1]}))
    with pytest.raises(UserError, match=r"suggestions\.json: `suggested` must be 2 different cases"):
        study.end(four, suggest, 2.0)
    (folder / "suggest/suggestions.json").write_text(json.dumps({"suggested": chosen}))
    study.end(four, suggest, 2.5)
    train = study.next_step(four)
    assert train is not None
    assert (train.name, train.settings["datalist"], train.settings["output_dir"]) == (
        "train",
        folder / "cases.json",
        folder,
    )
    assert images(listed(study, four)) == sorted([*images(study.splits[split_path(two)]), *chosen])
    assert study.waits_for_round(six) == four
    study.end(four, train, 3.0)
    assert study.record(four).seconds == {"suggest": 2.5, "train": 3.0}
    test = study.next_step(four)
    assert test is not None
    assert (test.name, test.settings["datalist"]) == ("test", tmp_path / "out/splits/held_out.json")
    assert study.counts(four) == study.counts(of(specs, "random")[1]) == {"labels": 4, "unlabeled": 5}


def test_who_shares_a_training(tmp_path: Path) -> None:
    flips = {"label": "flips", "method": "mean_teacher", "acquisition": "uncertainty", "evaluation": {"device": "cpu"}}
    other = {**FAR, "label": "other", "method": "supervised"}
    path = write_rounds_plan(tmp_path, FAR, flips, other, budgets=[2, 4, "all"])
    study, specs = open_study(path, tmp_path / "out")
    trains = {(spec.budget, spec.method.label): study.training(spec).method.label for spec in specs}
    for budget in ("2", "all"):  # nothing was chosen, or nothing is left
        assert {trains[budget, label] for label in ("random", "unsure", "far", "flips")} == {"random"}
        assert {trains[budget, label] for label in ("supervised", "other")} == {"supervised"}
    assert {label: trains["4", label] for label in ("random", "unsure", "far", "flips", "supervised", "other")} == {
        **{"random": "random", "unsure": "unsure", "far": "far", "flips": "unsure"},
        **{"supervised": "supervised", "other": "other"},
    }


@pytest.mark.usefixtures("fakes")
def test_a_study_of_strategies(tmp_path: Path) -> None:
    write_cases(tmp_path / "data", 14, unlabeled=2)
    lines: list[str] = []
    result = run_study(write_rounds_plan(tmp_path, FAR, seeds=2), tmp_path / "out", jobs=4, say=lines.append)
    assert not result.failures
    study, specs = open_study(tmp_path / "plan.yaml", tmp_path / "out")
    # of each seed 3 of supervised and 3 of random, which the others share at 2, and 2 of each other
    assert (started(study.output), started(study.output, "suggest.yaml")) == (20, 8)
    held_out = study.splits[HELD_OUT]
    truth = {case["image"]: case for case in held_out["training"]}
    for label in ("unsure", "far"):
        for seed in (0, 1):
            chain = [listed(study, spec) for spec in of(specs, label) if spec.seed == seed]
            assert chain[0] == study.splits[Path(f"splits/2/seed{seed}.json")]
            for before, after, number in zip(chain, chain[1:], (4, 6), strict=False):
                assert set(images(before)) < set(images(after))
                assert len(after["training"]) == number
                assert all(case == truth[case["image"]] for case in after["training"])
                assert {*images(after), *images(after, "unlabeled")} == {*truth, "u0.nii.gz", "u1.nii.gz"}
                suggested = json.loads(
                    (study.output / f"runs/{number}/{label}/seed{seed}/suggest/suggestions.json").read_text()
                )
                assert set(images(after)) - set(images(before)) == set(suggested["suggested"])
    rows = {(row["budget"], row["method"], row["seed"]): row for row in result.content["runs"]}
    assert all(row["labels"] == int(row["budget"]) for row in rows.values())
    scores = {(entry["budget"], entry["method"]): entry["values"] for entry in result.content["scores"]}
    assert scores["2", "random"] == scores["2", "unsure"] == scores["2", "far"]
    assert len({json.dumps(scores["4", label]) for label in ("random", "unsure", "far")}) == 3
    content = result.content
    assert content["acquisitions"] == {"unsure": "uncertainty", "far": "coverage"}
    assert content["alike"] == [{"budget": "2", "method": label, "as": "random"} for label in ("unsure", "far")]
    # a contrast that is nothing by construction is in no family
    others = {(one["budget"], one["method"]) for one in content["findings"]["others"]}
    assert others == {
        ("2", "supervised"),
        ("4", "supervised"),
        ("4", "far"),
        *(("6", m) for m in ("supervised", "unsure", "far")),
    }
    text = (study.output / "study.md").read_text()
    assert "With 2 labels the model of unsure and far is that of random" in text
    assert "but for the later cases of unsure and far, which are chosen." in text
    assert "unsure (uncertainty) and far (coverage) choose their labelled cases from round to round" in text
    assert preview_study(tmp_path / "plan.yaml", study.output)[0] == "24 runs of 4 steps: 24 finished, 0 to do."


@pytest.mark.usefixtures("fakes")
def test_killed_at_any_moment_a_study_ends_with_the_same_tables(tmp_path: Path) -> None:
    plan, killed = write_rounds_plan(tmp_path, FAR), tmp_path / "killed"
    start = time.monotonic()
    run_study(plan, tmp_path / "whole", jobs=2)
    seconds = time.monotonic() - start
    moments, stops, choosing = random.Random(1), 0, 0
    for number in range(3):
        child = processes().Process(target=run_with_fakes, args=(str(plan), str(killed), 2))
        child.start()
        while child.is_alive() and number < 2 and not (killing := in_choice(killed)):
            time.sleep(0.002)
        child.join(0.01 if number < 2 else moments.uniform(0.0, 0.3) * seconds)
        child.kill()
        child.join()
        choosing += number < 2 and bool(killing)
        stops += child.exitcode != 0
    assert choosing >= 1
    assert stops >= 2
    run_study(plan, killed, jobs=2)
    files = [*TABLES, *(str(path.relative_to(killed)) for path in killed.glob("runs/*/*/*/cases.json"))]
    assert len(files) == 5 + 4
    assert [(killed / name).read_bytes() for name in files] == [
        (tmp_path / "whole" / name).read_bytes() for name in files
    ]


def in_choice(output: Path) -> list[Path]:
    """Runs whose cases are being chosen."""
    return [path for path in output.glob("runs/*/*/*/suggest/.lock") if not (path.parents[1] / "cases.json").exists()]


@pytest.mark.usefixtures("fakes")
def test_with_a_round_that_failed_the_later_ones_fail_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(bundle: Path, configs: tuple[str, ...], settings: dict[str, Any]) -> list[str]:
        broken = configs[0] == "suggest.yaml" and settings["strategy"] == "coverage" and settings["seed"] == 0
        return ["/bin/sh", "-c", "echo Error: no; exit 3"] if broken else fake_command(bundle, configs, settings)

    monkeypatch.setattr(process, "bundle_command", command)
    study, specs = open_study(write_rounds_plan(tmp_path, FAR, BROKEN, seeds=2, budgets=[2, 4, 6, 8]), tmp_path / "out")
    failures = run_grid(study, specs, jobs=4)
    expected = [*of(specs, "broken"), *(spec for spec in of(specs, "far") if spec.seed == 0 and spec.budget != "2")]
    assert {failure.spec.name for failure in failures} == {spec.name for spec in expected}
    reasons = {failure.spec.name: failure.reason for failure in failures}
    place = study.output / "runs/4/far/seed0/console.txt"
    for budget in ("4", "6", "8"):
        assert (
            reasons[f"far, labels {budget}, seed 0"] == f"suggest ended with status 3: Error: no (all of it: {place})"
        )
    assert {reasons[f"broken, labels {b}, seed 1"] for b in (2, 4, 6, 8)} == {reasons["broken, labels 2, seed 1"]}
    assert reasons["broken, labels 2, seed 1"].startswith("train ended with status 1: Error: broken on purpose")
    assert not (study.output / "runs/6/far/seed0").exists()
    monkeypatch.setattr(process, "bundle_command", fake_command)
    assert {failure.spec.method.label for failure in run_grid(study, specs, jobs=4)} == {"broken"}
    assert all(study.is_finished(spec) for spec in of(specs, "far"))


@pytest.mark.usefixtures("fakes")
def test_a_failed_test_of_a_round_keeps_no_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(bundle: Path, configs: tuple[str, ...], settings: dict[str, Any]) -> list[str]:
        broken = configs[0] == "evaluate.yaml" and "/4/unsure/" in str(settings["output_dir"])
        return ["/bin/false"] if broken else fake_command(bundle, configs, settings)

    monkeypatch.setattr(process, "bundle_command", command)
    study, specs = open_study(write_rounds_plan(tmp_path), tmp_path / "out")
    (failure,) = run_grid(study, of(specs, "unsure"), jobs=2)
    assert failure.spec == of(specs, "unsure")[1]
    assert study.is_finished(of(specs, "unsure")[2])


@pytest.mark.usefixtures("fakes")
def test_a_round_alone_does_not_wait_for_ever(tmp_path: Path) -> None:
    study, specs = open_study(write_rounds_plan(tmp_path), tmp_path / "out")
    lines: list[str] = []
    failures = run_grid(study, of(specs, "unsure")[1:], say=lines.append)
    words = "its cases are chosen by the model of unsure, labels 2, seed 0, which has not trained"
    assert [failure.reason for failure in failures] == [words, words]
    assert not (study.output / "runs").exists()
    assert run_grid(study, of(specs, "random")[:1]) == []  # which trains it
    assert run_grid(study, of(specs, "unsure")[1:]) == []


def test_a_round_whose_figures_are_seen_before_its_record_is_waited_for(tmp_path: Path) -> None:
    study, specs = open_study(write_rounds_plan(tmp_path), tmp_path / "out")
    two, four, _ = of(specs, "unsure")
    assert study.stranded([two, four]) == []
    assert study.stranded([of(specs, "random")[0], four]) == []  # which trains for it
    assert study.stranded([four]) == [(four, two)]
    study.metrics(two).parent.mkdir(parents=True)
    study.metrics(two).touch()
    assert study.stranded([four]) == []
    assert study.waits_for_round(four) == two


@pytest.mark.usefixtures("fakes")
def test_a_checkpoint_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, specs = open_study(write_rounds_plan(tmp_path), tmp_path / "out")
    assert run_grid(study, of(specs, "unsure")[:1]) == []
    monkeypatch.undo()
    monkeypatch.setattr(process, "bundle_command", fake_command)
    (study.output / "runs/2/random/seed0/resume.pt").unlink()
    failures = run_grid(study, of(specs, "unsure")[1:])
    assert len(failures) == 2
    assert all("runs/2/random/seed0/resume.pt: there are no weights here" in one.reason for one in failures)


@pytest.mark.usefixtures("fakes")
def test_a_plan_grows_by_larger_budgets_and_methods_alone(tmp_path: Path) -> None:
    run_study(write_rounds_plan(tmp_path, budgets=[2, 4]), tmp_path / "out", jobs=4)
    assert (started(tmp_path / "out"), started(tmp_path / "out", "suggest.yaml")) == (5, 1)
    for budgets, new, top in (([1, 2, 4], 1, 4), ([2, 3, 4, 6], 3, 4)):
        with pytest.raises(
            UserError, match=rf"budget {new} comes before {top}, for which unsure would choose"
        ) as error:
            run_study(write_rounds_plan(tmp_path, budgets=budgets), tmp_path / "out")
        assert "\n" not in str(error.value)
    grown = run_study(write_rounds_plan(tmp_path, FAR, budgets=[2, 4, 6, "all"]), tmp_path / "out", jobs=4)
    assert not grown.failures
    # one more each of supervised, random and unsure at 6, two of far, and supervised alone at all
    assert (started(tmp_path / "out"), started(tmp_path / "out", "suggest.yaml")) == (5 + 6, 1 + 3)
    assert plan_growth(tmp_path / "out") == ["budget 6", "budget all", "method far"]
    whole = run_study(write_rounds_plan(tmp_path, FAR, budgets=[2, 4, 6, "all"]), tmp_path / "whole", jobs=4)
    assert {one["budget"] for one in grown.content["alike"]} == {"2"}  # with all, mean_teacher cannot be
    assert grown.content["runs"] == whole.content["runs"]
    assert grown.content["scores"] == whole.content["scores"]


def test_a_plan_without_choices_takes_any_budget_with_the_first_method_that_chooses(tmp_path: Path) -> None:
    plain = {"methods": ["supervised", "mean_teacher"], "budgets": [2, 6]}
    primary = {"method": "mean_teacher", "baseline": "supervised", "budget": 2}
    (tmp_path / "out").mkdir()
    freeze_plan(read_plan(write_rounds_plan(tmp_path, **plain, primary=primary)), tmp_path / "out")
    methods = [*plain["methods"], FAR]
    grown = read_plan(write_rounds_plan(tmp_path, methods=methods, budgets=[1, 2, 4, 6], primary=primary))
    freeze_plan(grown, tmp_path / "out")
    assert read_plan(tmp_path / "out" / PLAN) == grown
    changed = {**FAR, "acquisition": "uncertainty"}
    with pytest.raises(UserError, match=r"method .*'acquisition': 'coverage'.* is now .*'acquisition': 'uncertainty'"):
        check_plan(
            read_plan(
                write_rounds_plan(tmp_path, methods=[*plain["methods"], changed], budgets=[1, 2, 4, 6], primary=primary)
            ),
            tmp_path / "out",
        )


@pytest.mark.usefixtures("fakes")
def test_what_was_chosen_otherwise_is_refused(tmp_path: Path) -> None:
    path = write_rounds_plan(tmp_path)
    study, specs = open_study(path, tmp_path / "out")
    assert run_grid(study, specs, jobs=4) == []
    two, four, six = of(specs, "unsure")
    assert study.record(two).fingerprint == study.record(of(specs, "random")[0]).fingerprint
    assert study.record(four).fingerprint != study.record(of(specs, "random")[1]).fingerprint
    config = tmp_path / "mine/configs/suggest.yaml"
    config.write_text(f"# a comment is no change\n{config.read_text()}")
    later, _ = open_study(path, tmp_path / "out")
    assert all(later.is_finished(spec) for spec in specs)
    config.write_text("device: cpu\nshare: 1\n")
    later, _ = open_study(path, tmp_path / "out")
    assert all(later.is_finished(spec) for spec in specs if spec not in (four, six))
    with pytest.raises(UserError, match=r"made with other mine/configs/suggest\.yaml\. "):
        later.is_finished(four)
    with pytest.raises(UserError, match=r"the configs have changed since the study was started"):
        study.begin(two)
    config.write_text("device: cpu\n")
    plan = read_plan(write_rounds_plan(tmp_path, budgets=[2, 3, 4, 6]))
    moved = Study(plan, study.output, study.splits)
    with pytest.raises(UserError, match=r"made with other acquisition\. "):
        moved.is_finished(four)
    # nor does a later round begin on a model that was trained otherwise
    (tmp_path / "mine/configs/train.yaml").write_text(yaml.safe_dump({"device": "cpu", "unlabeled_batch_size": 0}))
    later, _ = open_study(write_rounds_plan(tmp_path), study.output)
    shutil.rmtree(study.folder(six))
    with pytest.raises(UserError, match=r"runs/4/unsure/seed0/run.json: .* made with other mine/configs/train\.yaml"):
        later.begin(six)


@pytest.mark.usefixtures("fakes")
def test_where_whole_patients_leave_nothing_to_choose_a_round_is_the_one_before(tmp_path: Path) -> None:
    write_cases(tmp_path / "data", 16, patients=True)
    study, specs = open_study(write_rounds_plan(tmp_path, budgets=[2, 3, 4], test=4), tmp_path / "out")
    assert run_grid(study, of(specs, "unsure"), jobs=2) == []
    two, three, four = (listed(study, spec) for spec in of(specs, "unsure"))
    assert two["training"] == three["training"]
    assert [len(one["training"]) for one in (three, four)] == [2, 4]
    assert started(study.output, "suggest.yaml") == 1
    held = {case["patient"] for case in study.splits[HELD_OUT]["test"]}
    assert not held & {case["patient"] for part in ("training", "unlabeled") for case in four[part]}


def test_a_plan_is_read_and_its_content_reads_back(tmp_path: Path) -> None:
    plan = read_plan(write_rounds_plan(tmp_path, FAR))
    contents = [method.content() for method in plan.methods]
    assert contents[1] == {"label": "random", "method": "mean_teacher"}
    assert contents[3] == FAR
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(plan.content()))
    assert read_plan(tmp_path / "again.yaml") == plan
    named = {"label": "last", "method": "supervised", "acquisition": "random"}
    assert read_plan(write_rounds_plan(tmp_path, named)).methods[3].content() == {
        "label": "last",
        "method": "supervised",
    }


UNSURE = {"label": "u", "method": "mean_teacher", "acquisition": "uncertainty"}


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ({"acquisition": "uncertain"}, {}, "`acquisition` of `u` must be one of random, .* did you mean 'uncertainty'"),
        ({"acquisition": "first"}, {}, "`acquisition` of `u` must be one of random, uncertainty, coverage"),
        ({"aquisition": "coverage"}, {}, "unknown key 'aquisition' in entry 3 .* did you mean 'acquisition'"),
        ({"checkpoint": "chosen"}, {}, "`checkpoint` of `u` must be last, since it has an `acquisition`"),
        ({}, {"budgets": [2, "50%", 4]}, "`budgets` must be numbers of cases, or all, where `u` .*, got 50%"),
        ({}, {"budgets": [2]}, "`budgets` must have two numbers of cases at least, the rounds, .*, got 2"),
        ({}, {"budgets": ["all", 2]}, "`budgets` must have two numbers of cases at least, the rounds, .*, got all, 2"),
        ({}, {"screen": {"budget": 2, "seeds": 1, "keep": 1}}, "`screen` must be left out where `u` has an `acquisi"),
        (
            {},
            {"primary": {"method": "u", "baseline": "mean_teacher", "budget": 2}},
            "`primary: budget` must be one of 4, 6, got 2, where u and mean_teacher have the same cases and so",
        ),
    ],
)
def test_mistakes_are_one_line(method: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    primary = {"method": "mean_teacher", "baseline": "supervised", "budget": 2}
    methods = ["supervised", "mean_teacher", {**UNSURE, **method}, "mean_teacher"][:3]
    if "screen" in changes:
        methods.append({**UNSURE, "label": "more"})
    path = write_rounds_plan(tmp_path, **{"methods": methods, "primary": primary, **changes})
    with pytest.raises(UserError, match=message) as error:
        read_plan(path)
    assert "\n" not in str(error.value)


def test_a_bundle_that_suggests_nothing_is_told(tmp_path: Path) -> None:
    path = write_detection_plan(tmp_path, methods=["supervised", "mean_teacher", UNSURE])
    with pytest.raises(UserError, match=r"`acquisition` of `u` must be random: mine_detection has no configs/suggest"):
        read_plan(path)


def test_the_bundle_itself(tmp_path: Path) -> None:
    """A teacher and its student choose from volumes."""
    write_phantoms(tmp_path / "data", cases=7, size=(24, 24, 24))
    settings = {"patch_size": [16, 16, 16], "network_def#channels": [4, 8, 8, 8], "device": "cpu"}
    both = {"label": "both", "method": "mean_teacher", "acquisition": "uncertainty_coverage"}
    path = write_plan(
        tmp_path,
        **{"budgets": [1, 2], "seeds": 1, "test": 2, "steps": 2, "settings": settings},
        methods=["mean_teacher", both],
        primary={"method": "both", "baseline": "mean_teacher", "budget": 2},
    )
    study, specs = open_study(path, tmp_path / "out")
    one, two = of(specs, "both")
    for spec in (one, two):
        study.begin(spec)
        step = study.next_step(spec)
        assert step is not None
        console = study.folder(spec) / process.CONSOLE
        assert process.start_process(study.plan.bundle, step, console, 1).wait() == 0, console.read_text()
        study.end(spec, step, 1.0)
    assert step.settings["student"] == study.training_folder(one) / "resume.pt"
    written = json.loads((study.folder(two) / "suggest/suggestions.json").read_text())
    assert set(written["scans"][0]) == {"case", "uncertainty", "distance"}
    assert [scan["case"] for scan in written["scans"]] == images(study.splits[split_path(one)], "unlabeled")
    assert set(images(listed(study, two))) == {*images(listed(study, one)), *written["suggested"]}
    train = study.next_step(two)
    assert train is not None
    assert train.name == "train"
