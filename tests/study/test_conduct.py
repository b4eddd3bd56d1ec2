from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from monai_ssl.data.phantoms import write_phantoms
from monai_ssl.study import process
from monai_ssl.study.conduct import preview_study, run_study
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import FolderLock
from tests.bundles.helpers import processes
from tests.study.helpers import fake_command, run_with_fakes, write_cases, write_detection_plan, write_plan

TABLES = ("study.json", "study.csv", "study.md", "curve.png", "curve.svg")
REAL: dict[str, Any] = {
    "budgets": [1, 2],
    "seeds": 1,
    "test": 2,
    "primary": {"method": "mean_teacher", "baseline": "supervised", "budget": 1},
    "settings": {"patch_size": [16, 16, 16], "network_def#channels": [4, 8, 8, 8], "device": "cpu", "save_interval": 1},
}


def tables(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in TABLES]


def trainings(folder: Path) -> int:
    return sum(path.read_text().count("starts train.yaml") for path in folder.rglob(process.CONSOLE))


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "bundle_command", fake_command)


@pytest.mark.usefixtures("fakes")
def test_detectors_are_compared_by_cpm_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    run_study(write_detection_plan(tmp_path), tmp_path / "out", jobs=2)
    content = json.loads((tmp_path / "out/study.json").read_text())
    assert (content["metric"], len(content["runs"]), content["missing"]) == ("cpm", 8, [])
    assert " CPM (95 % interval " in content["findings"]["answer"][0]
    assert "CPM (0 to 1, higher is better)" in (tmp_path / "out/curve.svg").read_text()
    assert "0.02 CPM" in (tmp_path / "out/study.md").read_text()


@pytest.mark.usefixtures("fakes")
def test_killed_at_any_moment_a_study_ends_with_the_same_tables(tmp_path: Path) -> None:
    plan, killed = write_plan(tmp_path), tmp_path / "killed"
    start = time.monotonic()
    run_study(plan, tmp_path / "whole", jobs=2)
    seconds = time.monotonic() - start
    moments, stops = random.Random(1), []
    finished: dict[Path, int] = {}
    for _ in range(5):
        child = processes().Process(target=run_with_fakes, args=(str(plan), str(killed), 2))
        child.start()
        while child.is_alive() and not (killed / "splits/4/seed1.json").exists():
            time.sleep(0.005)
        child.join(moments.uniform(0.0, 0.4) * seconds)
        child.kill()
        child.join()
        now = {path: path.stat().st_mtime_ns for path in killed.glob("runs/*/*/*/test/metrics.json")}
        assert {path: now[path] for path in finished} == finished  # never repeated
        stops.append(child.exitcode != 0 and len(now) < 8)
        finished = now
    assert sum(stops) >= 2
    run_study(plan, killed, jobs=2)
    assert tables(killed) == tables(tmp_path / "whole")
    assert not list(killed.glob(".*.tmp"))


@pytest.mark.usefixtures("fakes")
def test_a_plan_grows_and_finished_runs_stay(tmp_path: Path) -> None:
    run_study(write_plan(tmp_path, budgets=[2], seeds=1), tmp_path / "out", jobs=4)
    assert trainings(tmp_path / "out") == 2
    grown = run_study(write_plan(tmp_path), tmp_path / "out", jobs=4)
    assert trainings(tmp_path / "out") == 8
    whole = run_study(write_plan(tmp_path), tmp_path / "whole", jobs=4)
    assert (grown.content.pop("growth"), whole.content.pop("growth")) == (["seed 1", "budget 4"], [])
    limits = grown.content["findings"]["limits"]
    limits.remove(next(line for line in limits if "seed 1 and budget 4" in line))
    assert grown.content == whole.content
    with pytest.raises(UserError, match="steps was 4, is now 8"):
        run_study(write_plan(tmp_path, steps=8), tmp_path / "out", jobs=4)
    assert trainings(tmp_path / "out") == 8


@pytest.mark.usefixtures("fakes")
def test_a_staged_plan_screens_and_goes_on_with_the_best(tmp_path: Path) -> None:
    labels = ("mean_teacher", "b", "c")
    methods = [
        "supervised",
        *({"label": label, "method": "mean_teacher", "settings": {"warmup_steps": 1}} for label in labels),
    ]
    plan = write_plan(
        tmp_path, methods=methods, seeds=[1, 2], validation=2, screen={"budget": 2, "seeds": [0], "keep": 1}
    )
    lines: list[str] = []
    result = run_study(plan, tmp_path / "out", jobs=4, say=lines.append)
    screen = result.content["screen"]
    assert screen["part"] == "validation"
    assert screen["kept"] == ["supervised", "mean_teacher"]  # all train alike, so the first is kept
    assert len(result.content["runs"]) == 4 + 8
    assert result.content["missing"] == []
    assert lines[0] == "16 runs of 4 steps at most, by what the screen keeps: 0 finished, 16 to do."
    assert any(line.startswith("The screen at 2 labels (1 seeds) chose by validation cases") for line in lines)
    assert len(list((tmp_path / "out").glob("runs/*/*/seed0/validation/metrics.json"))) == 4
    assert not list((tmp_path / "out").glob("runs/*/*/seed1/validation"))


@pytest.mark.usefixtures("fakes")
def test_two_studies_in_one_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    lock = FolderLock(tmp_path / "out")
    with pytest.raises(UserError, match="another study is writing here"):
        run_study(write_plan(tmp_path), tmp_path / "out")
    lock.release()
    assert not list((tmp_path / "out").glob("*.yaml"))


def test_a_primary_contrast_that_cannot_be_is_refused_before_anything_runs(tmp_path: Path) -> None:
    primary = {"method": "mean_teacher", "baseline": "supervised", "budget": "all"}
    with pytest.raises(UserError, match=r"`primary` has mean_teacher at all labels, .*: all labels leave no unlab"):
        run_study(write_plan(tmp_path, budgets=["all"], primary=primary), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "more").mkdir()
    write_cases(tmp_path / "more/data", unlabeled=2)
    preview_study(write_plan(tmp_path / "more", budgets=["all"], primary=primary), tmp_path / "out")


def test_a_preview_writes_nothing(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    lines = preview_study(plan, tmp_path / "out")
    assert lines[0] == "8 runs of 4 steps: 0 finished, 8 to do."
    assert lines[3] == "to do: supervised, labels 2, seed 0"
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a study by the bundle itself."""
    folder = tmp_path_factory.mktemp("real")
    write_phantoms(folder / "data", cases=6, size=(24, 24, 24))
    wrong = {"label": "wrong", "method": "mean_teacher", "settings": {"objective#nonsense": 1}}
    plan = write_plan(folder, **{**REAL, "budgets": [1], "methods": ["supervised", wrong, "mean_teacher"]})
    result = run_study(plan, folder / "out", jobs=2)
    assert [failure.spec.method.label for failure in result.failures] == ["wrong"]
    assert "nonsense" in result.failures[0].reason
    return folder


def test_the_bundle_itself(real: Path) -> None:
    content = json.loads((real / "out/study.json").read_text())
    assert [(row["method"], row["labels"], row["unlabeled"], row["steps"]) for row in content["runs"]] == [
        ("supervised", 1, 3, 4),
        ("mean_teacher", 1, 3, 4),
    ]
    assert content["missing"] == [{"budget": "1", "method": "wrong", "seed": 0}]
    for label, group in zip(("supervised", "mean_teacher"), content["scores"], strict=True):
        metrics = json.loads((real / f"out/runs/1/{label}/seed0/test/metrics.json").read_text())
        assert group["means"] == [metrics["mean"]["dice"]]
        assert group["values"] == [[case["mean"]["dice"] for case in metrics["cases"]]]
        assert [case["image"] for case in metrics["cases"]] == [Path(case).name for case in content["cases"]]


@pytest.mark.slow
def test_the_bundle_itself_killed_again_and_again(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "data", cases=6, size=(24, 24, 24))
    plan = write_plan(tmp_path, **REAL)
    start = time.monotonic()
    run_study(plan, tmp_path / "whole", jobs=2)
    seconds = time.monotonic() - start
    moments = random.Random(2)
    for _ in range(4):
        child = processes().Process(target=run_study, args=(plan, tmp_path / "killed"), kwargs={"jobs": 2})
        child.start()
        child.join(moments.uniform(0.1, 0.5) * seconds)
        child.kill()
        child.join()
    assert not run_study(plan, tmp_path / "killed", jobs=2).failures
    assert tables(tmp_path / "killed") == tables(tmp_path / "whole")
