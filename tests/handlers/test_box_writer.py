from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from torch import Tensor

from monai_ssl.data.box_files import read_boxes
from monai_ssl.handlers.box_writer import BoxWriter

NAMES = ["nodule", "mass"]
BOXES = torch.tensor(
    [[1.5, -2.0, 3.0, 4.0, 5.0, 6.0], [-10.0, 20.0, 30.0, 7.0, 7.0, 7.0], [0.0, 0.0, 0.0, 2.0, 2.0, 2.0]]
)
SCORES = torch.tensor([0.5, 0.9, 0.49])
LABELS = torch.tensor([1, 0, 0])


def write(writer: BoxWriter, *cases: tuple[str, dict[str, Tensor]]) -> None:
    """As an evaluator leaves them: cases in the batch, what was found in the output, all of one step."""

    def step(engine: Engine, batch: Any) -> list[dict[str, Tensor]]:
        engine.state.batch = [
            {"image": MetaTensor(torch.zeros(1, 2, 2, 2), meta={"filename_or_obj": f"/scans/{name}"})}
            for name, _ in cases
        ]
        return [found for _, found in cases]

    engine = Engine(step)
    writer.attach(engine)
    engine.run([0])


def found(
    rows: Any = slice(None), names: tuple[str, ...] = ("pred_box", "pred_label", "pred_score")
) -> dict[str, Tensor]:
    return dict(zip(names, (BOXES[rows], LABELS[rows], SCORES[rows]), strict=True))


def test_all_boxes_for_programs_and_the_sure_ones_for_people(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    write(BoxWriter(folder, NAMES), ("a.b.nii.gz", found()), ("c.nii", found([1])))
    assert sorted(path.name for path in folder.iterdir()) == [
        *("a.b_boxes.json", "a.b_boxes.mrk.json", "c_boxes.json", "c_boxes.mrk.json"),
    ]
    content = read_boxes(folder / "a.b_boxes.json")
    assert content["image"] == "a.b.nii.gz"
    order = [1, 0, 2]  # by falling score
    np.testing.assert_array_equal(content["box"], BOXES[order])
    np.testing.assert_array_equal(content["score"], SCORES[order])
    assert content["class"] == ["nodule", "mass", "nodule"]
    # at the threshold is shown, below it not
    assert names_of(folder / "a.b_boxes.mrk.json") == ["nodule 1 (0.90)", "mass 2 (0.50)"]
    assert len(read_boxes(folder / "c_boxes.json")["box"]) == 1


def names_of(path: Path) -> list[str]:
    return [region["name"] for region in json.loads(path.read_text())["markups"]]


@pytest.mark.parametrize(("threshold", "shown"), [(0.0, 3), (0.49, 3), (0.6, 1), (1.0, 0)])
def test_the_threshold_is_of_the_markups_alone(threshold: float, shown: int, tmp_path: Path) -> None:
    write(BoxWriter(tmp_path, NAMES, threshold), ("a.nii.gz", found()))
    assert len(read_boxes(tmp_path / "a_boxes.json")["box"]) == 3
    assert len(names_of(tmp_path / "a_boxes.mrk.json")) == shown


def test_a_scan_without_a_box_has_its_files_too(tmp_path: Path) -> None:
    write(BoxWriter(tmp_path, NAMES), ("healthy.nii.gz", found([])))
    assert read_boxes(tmp_path / "healthy_boxes.json")["box"].shape == (0, 6)
    assert names_of(tmp_path / "healthy_boxes.mrk.json") == []


def test_what_was_found_may_have_other_names(tmp_path: Path) -> None:
    keys = ("where", "what", "how_sure")
    write(BoxWriter(tmp_path, NAMES, 0.5, *keys), ("a.nii.gz", found(names=keys)))
    np.testing.assert_array_equal(read_boxes(tmp_path / "a_boxes.json")["label"], [0, 1, 0])


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_out_of_range(threshold: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`markups_threshold` must be in \[0, 1\], got"):
        BoxWriter(tmp_path, NAMES, threshold)
