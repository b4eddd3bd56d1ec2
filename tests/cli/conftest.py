from __future__ import annotations

import json

import pytest


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    cases = [{"image": f"case{i}.nii.gz", "label": f"label{i}.nii.gz"} for i in range(8)]
    for case in cases:
        (folder / case["image"]).touch()
    (folder / "dataset.json").write_text(json.dumps({"training": cases, "test": ["a.nii.gz"]}))
    return folder
