from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_ssl.data.phantoms import write_phantoms
from monai_ssl.study.demo import DEMO_METHODS, run_demo
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
    assert tuple(result.dice) == DEMO_METHODS
    assert result.counts == {"training": 2, "unlabeled": 6, "validation": 0, "test": 2}
    assert result.gain == result.dice["mean_teacher"] - result.dice["supervised"]
    assert any("2 labelled and 6 unlabelled" in line for line in lines)
    assert any("2 labelled and 0 unlabelled" in line for line in lines)
    scored = []
    for method in DEMO_METHODS:
        metrics = json.loads((result.folders[method] / "metrics.json").read_text())
        assert metrics["mean"]["dice"] == result.dice[method]
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
