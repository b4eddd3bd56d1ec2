"""``suggest.yaml`` of the detector: which scans to label next."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from monai_ssl.metrics.acquisition import STRATEGIES
from tests.bundles.helpers import DETECTION, detect, read_json, run_bundle


def suggest(detected, chests, folder, **settings):
    given = {"weights": str(detected / "model.pt"), "dataset_dir": str(chests), "device": "cpu", "count": 2}
    run_bundle("suggest.yaml", bundle=DETECTION, **{**given, "output_dir": str(folder), **settings})
    return read_json(folder / "suggestions.json")


def uncertainties(content):
    return {scan["case"]: scan["uncertainty"] for scan in content["scans"]}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_of_the_unlabelled_scans_are_named(strategy, chests, detected, tmp_path):
    content = suggest(detected, chests, tmp_path, strategy=strategy)
    pool = [case["image"] for case in read_json(chests / "dataset.json")["unlabeled"]]
    assert [scan["case"] for scan in content["scans"]] == pool
    assert len(set(content["suggested"])) == 2
    assert set(content["suggested"]) <= set(pool)
    for scan in content["scans"]:
        assert ("uncertainty" in scan) == ("uncertainty" in strategy)
        assert ("distance" in scan) == ("coverage" in strategy)
    if strategy == "uncertainty":
        numbers = uncertainties(content)
        assert all(0 < number <= 1 for number in numbers.values())
        assert content["suggested"] == sorted(pool, key=lambda name: -numbers[name])[:2]


def test_a_student_beside_its_teacher_counts(chests, tmp_path):
    run = tmp_path / "run"
    detect("focalmix", dataset_dir=str(chests), output_dir=str(run), **{"objective#decay": 0.99})
    settings = {"strategy": "uncertainty", "score_threshold": 0.0}
    alone = suggest(run, chests, tmp_path / "a", **settings)
    both = suggest(run, chests, tmp_path / "b", student=str(run / "resume.pt"), **settings)
    assert uncertainties(alone) != uncertainties(both)


def test_nothing_that_is_said_of_unlabelled_scans_is_looked_at(chests, detected, tmp_path):
    shutil.copytree(chests, tmp_path / "data")
    path = tmp_path / "data" / "dataset.json"
    data = json.loads(path.read_text())
    kept = {str(Path(case["image"])) for part in ("training", "unlabeled") for case in data[part]}
    for file in [file for file in path.parent.rglob("*.nii.gz") if str(file.relative_to(path.parent)) not in kept]:
        file.write_bytes(b"no scan")
    for case in data["unlabeled"]:
        case |= {"box": [[0.0, 0.0, 0.0, 3.0, 3.0, 3.0]], "label": [0]}
    path.write_text(json.dumps(data))
    spoiled = suggest(detected, path.parent, tmp_path / "a")
    assert spoiled == suggest(detected, chests, tmp_path / "b")


def test_a_scan_is_prepared_as_for_detecting():
    folder = Path(DETECTION) / "configs"
    suggesting, infer = (yaml.safe_load((folder / name).read_text()) for name in ("suggest.yaml", "inference.yaml"))
    steps = [step for step in infer["preprocessing"]["transforms"] if "Text" not in step["_target_"]]
    assert suggesting["preprocessing"]["transforms"] == steps
    for name in ("network_def", "class_names", "patch_size", "spacing", "overlap", "max_boxes", "score_threshold"):
        assert suggesting[name] == infer[name], name
