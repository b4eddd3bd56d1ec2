from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted, Compose, Invertd, LoadImaged, Orientationd, Spacingd

from monai_ssl.handlers.pictures import Overlay
from monai_ssl.handlers.scores import SegmentationReport
from monai_ssl.metrics.segmentation import segmentation_scores
from monai_ssl.utils.errors import UserError

# Posterior to the left, 1.5 x 2 x 1 mm: neither in the model's orientation nor at its spacing.
AFFINE = np.array([[0, -2.0, 0, 40], [1.5, 0, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1]])


class Threshold(torch.nn.Module):
    """Two logits: the intensity against a half."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - image, image - 0.5], dim=1)


def write_cases(folder: Path, wrong: tuple[int, ...]) -> list[dict[str, str]]:
    """Images that are bright where the label is; of ``wrong[i]`` layers of case i the image knows nothing."""
    cases = []
    for index, layers in enumerate(wrong):
        label = np.zeros((14, 16, 18), dtype=np.uint8)
        label[3:11, 4:12, 5:13] = 1
        image = label.astype(np.float32)
        image[3 : 3 + layers] = 0
        paths = {key: folder / f"{key}_{index}.nii.gz" for key in ("image", "label")}
        nib.save(nib.Nifti1Image(image, AFFINE), paths["image"])
        nib.save(nib.Nifti1Image(label, AFFINE), paths["label"])
        cases.append({key: str(path) for key, path in paths.items()})
    return cases


def evaluate(cases: list[dict[str, str]], report: SegmentationReport, batch_size: int = 2) -> SupervisedEvaluator:
    """Run as a bundle does: the image is reoriented and, where that keeps shapes alike, resampled; pred goes back."""
    preprocessing = Compose(
        [
            LoadImaged(["image", "label"], ensure_channel_first=True),
            Orientationd("image", "RAS", labels=None),
            Spacingd("image", (2.0, 1.5, 1.0)),
        ]
    )
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(cases, preprocessing), batch_size=batch_size),
        network=Threshold(),
        postprocessing=Compose(
            [Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False), AsDiscreted("pred", argmax=True)]
        ),
        val_handlers=[report],
    )
    evaluator.run()
    return evaluator


def report_to(output: Any, **others: Any) -> SegmentationReport:
    given = {"part": "test", "weights": "/runs/a/model.pt", "list_name": "/data/dataset.json", **others}
    return SegmentationReport(output, ["cube"], **given)


def test_report_of_an_evaluation(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "overlay.png")
    evaluator = evaluate(write_cases(tmp_path, (0, 4, 1)), report_to(tmp_path / "metrics.json", overlay=overlay))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    dice = [2 * (8 - layers) / (16 - layers) for layers in (0, 4, 1)]
    assert [case["image"] for case in metrics["cases"]] == ["image_0.nii.gz", "image_1.nii.gz", "image_2.nii.gz"]
    assert [case["mean"]["dice"] for case in metrics["cases"]] == pytest.approx(dice)
    # 4 of 8 layers of 1.5 mm are missing at one end, 1 in the last case; the axis is the first of the file
    assert [case["mean"]["hausdorff_95"] for case in metrics["cases"]] == pytest.approx([0.0, 6.0, 1.5])
    assert metrics["mean"]["dice"] == pytest.approx(sum(dice) / 3)
    assert (metrics["part"], metrics["weights"], metrics["list"]) == ("test", "model.pt", "dataset.json")
    assert evaluator.state.metrics["dice"] == metrics["mean"]["dice"]
    assert evaluator.state.summary == metrics
    assert str(tmp_path) not in (tmp_path / "metrics.json").read_text()
    assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")


def test_scores_are_those_of_the_metric(tmp_path: Path) -> None:
    summaries: list[dict[str, Any]] = []
    evaluate(write_cases(tmp_path, (2,)), report_to(summaries.append, tolerance_mm=2.0))
    label = torch.zeros(14, 16, 18)
    label[3:11, 4:12, 5:13] = 1
    prediction = label.clone()
    prediction[3:5] = 0
    expected = segmentation_scores(prediction, label, spacing=(1.5, 2.0, 1.0), class_names=["cube"], tolerance_mm=2.0)
    assert summaries[0]["cases"][0]["classes"] == expected
    assert summaries[0]["tolerance_mm"] == 2.0


def test_overlay_shows_the_image_in_the_voxels_of_the_label(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "overlay.png")
    evaluate(write_cases(tmp_path, (2,)), report_to(tmp_path / "metrics.json", overlay=overlay))
    assert len(overlay.cases[0].planes) == 3
    for plane in overlay.cases[0].planes:
        assert np.array_equal(plane.image > 127, plane.prediction > 0)


def test_each_run_starts_anew(tmp_path: Path) -> None:
    summaries: list[dict[str, Any]] = []
    report = report_to(summaries.append, overlay=Overlay(tmp_path / "overlay.png"))
    cases = write_cases(tmp_path, (0, 1))
    evaluate(cases, report)
    evaluate(cases, report, batch_size=1)
    assert summaries[0] == summaries[1]
    assert len(summaries[1]["cases"]) == 2


class Recorder:
    """An overlay that keeps the order of its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def clear(self) -> None:
        self.calls.append("clear")

    def add(self, name: str, dice: float | None, *volumes: Any) -> None:
        self.calls.append(name)

    def draw(self, class_names: Any) -> None:
        self.calls.append("draw")


def run_on(report: SegmentationReport, pred: Any, label: Any, **others: Any) -> Engine:
    """One iteration of a bare engine with one decollated case."""
    image = MetaTensor(torch.zeros(1, 4, 4, 4), meta={"filename_or_obj": "/data/scan.nii.gz"})
    engine = Engine(lambda engine, batch: [{"image": image, "pred": pred, "label": label, **others}])
    report.attach(engine)
    engine.run([[{}]], max_epochs=1)
    return engine


def test_plain_tensors_count_as_one_millimetre_voxels() -> None:
    summaries: list[dict[str, Any]] = []
    recorder = Recorder()
    cube = torch.zeros(1, 4, 4, 4)
    cube[:, 1:3] = 1
    engine = run_on(report_to(summaries.append, overlay=recorder), cube.roll(1, 1), cube)
    assert summaries[0]["mean"] == pytest.approx({"dice": 0.5, "surface_dice": 1.0, "hausdorff_95": 1.0})
    assert engine.state.metrics["dice"] == 0.5
    assert recorder.calls == ["clear", "scan.nii.gz", "draw"]


def test_dice_is_nan_where_no_case_has_a_class() -> None:
    empty = torch.zeros(1, 4, 4, 4)
    engine = run_on(report_to(lambda summary: json.dumps(summary, allow_nan=False)), empty, empty)
    assert math.isnan(engine.state.metrics["dice"])


@pytest.mark.parametrize(
    ("pred", "label", "message"),
    [
        (
            torch.zeros(2, 4, 4, 4),
            torch.zeros(1, 4, 4, 4),
            r"scan.nii.gz: `pred` must be a label map .* \(2, 4, 4, 4\)",
        ),
        (torch.zeros(1, 4, 4, 5), torch.zeros(1, 4, 4, 4), "scan.nii.gz: `prediction` and `label` must have one shape"),
        (torch.zeros(1, 4, 4, 4), None, "scan.nii.gz: a case to score must have label"),
        (
            torch.full((1, 4, 4, 4), 7),
            torch.zeros(1, 4, 4, 4),
            r"scan.nii.gz: `prediction` must hold .* 0 to 1 \(cube\)",
        ),
    ],
)
def test_messages_name_the_case(pred: Any, label: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_on(report_to(lambda summary: None), pred, label)


def test_a_batch_that_is_not_decollated_is_refused() -> None:
    engine = Engine(lambda engine, batch: {"pred": torch.zeros(2, 1, 4, 4, 4)})
    report_to(lambda summary: None).attach(engine)
    with pytest.raises(UserError, match="decollate=True"):
        engine.run([{}], max_epochs=1)
