"""``suggest.yaml`` of the detector: which scans to label next."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from monai_ssl.metrics.acquisition import STRATEGIES
from tests.bundles.helpers import DETECTION, check_suggestions, detect, read_json, run_bundle, uncertainties


def suggest(detected, chests, folder, **settings):
    given = {"weights": str(detected / "model.pt"), "dataset_dir": str(chests), "device": "cpu", "count": 2}
    run_bundle("suggest.yaml", bundle=DETECTION, **{**given, "output_dir": str(folder), **settings})
    return read_json(folder / "suggestions.json")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_of_the_unlabelled_scans_are_named(strategy, chests, detected, tmp_path):
    content = suggest(detected, chests, tmp_path, strategy=strategy)
    check_suggestions(content, chests, strategy)
    if strategy == "uncertainty":
        assert all(0 < number <= 1 for number in uncertainties(content).values())


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
