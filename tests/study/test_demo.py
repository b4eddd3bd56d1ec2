from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_ssl.data.nodule_phantoms import write_nodule_phantoms
from monai_ssl.data.phantoms import write_phantoms
from monai_ssl.study.demo import DEMO_TASKS, run_demo
from monai_ssl.utils.errors import UserError

SMALL = {
    "max_steps": 4,
    "epoch_length": 2,
    "patch_size": "[16,16,16]",
    "network_def#channels": "[4,8,8,8]",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "data", cases=10, size=(24, 24, 24))


def test_both_methods_get_the_same_labels_and_test_cases(data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    result = run_demo(tmp_path / "demo", data=data.parent, labels=2, settings=SMALL, say=lines.append)
    assert tuple(result.scores) == DEMO_TASKS["segmentation"].methods
    assert result.counts == {"training": 2, "unlabeled": 6, "validation": 0, "test": 2}
    assert result.gain == result.scores["mean_teacher"] - result.scores["supervised"]
    assert any("2 labelled and 6 unlabelled" in line for line in lines)
    assert any("2 labelled and 0 unlabelled" in line for line in lines)
    scored = []
    for method in result.scores:
        metrics = json.loads((result.folders[method] / "metrics.json").read_text())
        assert metrics["mean"]["dice"] == result.scores[method]
        scored.append([case["image"] for case in metrics["cases"]])
        assert (result.folders[method] / "overlay.png").is_file()
        manifest = json.loads((tmp_path / "demo" / method / "run_manifest.json").read_text())
        assert manifest["fingerprint"]["max_steps"] == "4"
    assert scored[0] == scored[1]


def test_a_folder_that_is_there_is_not_touched(data: Path, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    with pytest.raises(FileExistsError):
        run_demo(tmp_path / "demo", data=data, settings=SMALL)
    assert not list((tmp_path / "demo").iterdir())


def test_more_labels_than_cases_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="labels"):
        run_demo(tmp_path / "demo", data=data, labels=50, settings=SMALL)


def test_detection_compares_cpm(tmp_path: Path) -> None:
    data = write_nodule_phantoms(tmp_path / "data", cases=5, unlabeled=2, size=(40, 40, 40))
    small = {
        "max_steps": 2,
        "epoch_length": 2,
        "patch_size": "[16,16,16]",
        "network_def#backbone#block_inplanes": "[4,8,8,8]",
        "network_def#channels": 8,
    }
    result = run_demo(tmp_path / "demo", task="detection", data=data, labels=2, settings=small)
    assert tuple(result.scores) == ("supervised", "focalmix")
    assert result.counts == {"training": 2, "unlabeled": 4, "validation": 0, "test": 1}
    for method, score in result.scores.items():
        metrics = json.loads((result.folders[method] / "metrics.json").read_text())
        assert metrics["mean"]["cpm"] == score
        assert (result.folders[method] / "froc.png").is_file()


def test_only_known_tasks_are_shown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`task` must be one of segmentation, detection, got 'registration'\."):
        run_demo(tmp_path / "demo", task="registration")
    assert not (tmp_path / "demo").exists()
