from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_ssl.data.nodule_phantoms import write_nodule_phantoms
from monai_ssl.data.phantoms import write_phantoms
from monai_ssl.study import process
from monai_ssl.study.demo import DEMO_TASKS, run_demo
from monai_ssl.utils.errors import UserError
from tests.study.helpers import fake_command

SMALL = {
    "max_steps": 4,
    "epoch_length": 2,
    "patch_size": [16, 16, 16],
    "network_def#channels": [4, 8, 8, 8],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "data", cases=10, size=(24, 24, 24))


def test_both_methods_get_the_same_labels_and_test_cases(data: Path, tmp_path: Path) -> None:
    result = run_demo(tmp_path / "demo", data=data.parent, labels=4, settings=SMALL)
    assert result.budgets == [4], "twice as many are all that may be labelled"
    assert tuple(result.scores) == DEMO_TASKS["segmentation"].methods
    assert result.counts == {"training": 4, "unlabeled": 4, "validation": 0, "test": 2}
    assert result.gain == result.scores["entropy_minimisation"] - result.scores["supervised"]
    scored = []
    for method in result.scores:
        metrics = json.loads((result.folders[method] / "metrics.json").read_text())
        assert metrics["mean"]["dice"] == result.scores[method]
        scored.append([case["image"] for case in metrics["cases"]])
        assert (result.folders[method] / "overlay.png").is_file()
        manifest = json.loads((result.folders[method].parent / "run_manifest.json").read_text())
        assert manifest["fingerprint"]["max_steps"] == "4"
    assert scored[0] == scored[1]


def test_a_second_budget_is_twice_the_first(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "bundle_command", fake_command)
    lines: list[str] = []
    result = run_demo(tmp_path / "demo", data=data, labels=2, seed=3, settings=SMALL, say=lines.append)
    assert result.budgets == [2, 4]
    assert "supervised and entropy_minimisation, each with 2 and 4 labelled scans, 4 steps" in lines
    assert sum(line.startswith("finished: ") for line in lines) == 4
    assert result.counts["training"] == 2
    content = json.loads((result.study / "study.json").read_text())
    means = {(run["budget"], run["method"]): run["mean"] for run in content["runs"]}
    assert result.scores == {method: means["2", method] for method in ("supervised", "entropy_minimisation")}
    assert content["seeds"] == [3]


def test_a_run_that_fails_is_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "bundle_command", fake_command)
    broken = {**SMALL, "objective#noise": "broken"}
    with pytest.raises(UserError, match="supervised, labels 2, seed 0: train ended with status 1: Error: broken on"):
        run_demo(tmp_path / "demo", data=data, labels=2, settings=broken)


def test_a_folder_that_is_there_is_not_touched(data: Path, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    with pytest.raises(FileExistsError):
        run_demo(tmp_path / "demo", data=data, settings=SMALL)
    assert not list((tmp_path / "demo").iterdir())


def test_the_steps_are_the_bundles_own_where_nobody_says(data: Path, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        assert line.endswith("each with 2 and 4 labelled scans, 1500 steps")
        raise StoppedError

    with pytest.raises(StoppedError):
        run_demo(tmp_path / "demo", data=data, say=stop)


def test_more_labels_than_cases_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="labels"):
        run_demo(tmp_path / "demo", data=data, labels=50, settings=SMALL)


def test_detection_compares_cpm(tmp_path: Path) -> None:
    data = write_nodule_phantoms(tmp_path / "data", cases=10, unlabeled=2, size=(40, 40, 40))
    small = {
        "max_steps": 2,
        "epoch_length": 2,
        "patch_size": [16, 16, 16],
        "network_def#backbone#block_inplanes": [4, 8, 8, 8],
        "network_def#channels": 8,
    }
    result = run_demo(tmp_path / "demo", task="detection", data=data, labels=2, seed=1, settings=small)
    assert tuple(result.scores) == ("supervised", "focalmix")
    assert result.budgets == [2]
    assert result.counts == {"training": 2, "unlabeled": 8, "validation": 0, "test": 2}
    for method, score in result.scores.items():
        metrics = json.loads((result.folders[method] / "metrics.json").read_text())
        assert metrics["mean"]["cpm"] == score
        assert (result.folders[method] / "froc.png").is_file()


def test_only_known_tasks_are_shown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`task` must be one of segmentation, detection, got 'registration'\."):
        run_demo(tmp_path / "demo", task="registration")
    assert not (tmp_path / "demo").exists()
