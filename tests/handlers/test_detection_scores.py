from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from torch import Tensor

from monai_ssl.handlers.detection_pictures import BoxOverlay
from monai_ssl.handlers.detection_scores import DetectionReport
from monai_ssl.handlers.free_response_picture import FreeResponsePicture
from monai_ssl.metrics.box_matching import MatchedBoxes, match_boxes
from monai_ssl.utils.errors import UserError

BOX = [[4.0, 5.0, 6.0, 9.0, 11.0, 10.0]]
FAR = [[12.0, 12.0, 12.0, 15.0, 15.0, 15.0]]
# Posterior to the left, 1.5 x 2 x 1 mm
AFFINE = torch.tensor([[0, -2.0, 0, 40], [1.5, 0, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1]], dtype=torch.float64)


def image(name: str = "a.nii.gz") -> MetaTensor:
    return MetaTensor(torch.rand(1, 16, 18, 20), affine=AFFINE, meta={"filename_or_obj": f"/data/{name}"})


def case(predicted: Any, scores: Sequence[float], true: Any, name: str = "a.nii.gz") -> dict[str, Tensor]:
    """A case with its boxes, one row of padding behind each."""
    padding = [[float("nan")] * 6]
    return {
        "image": image(name),
        "pred_box": torch.tensor(predicted + padding),
        "pred_score": torch.tensor([*scores, 0.0]),
        "pred_label": torch.tensor([0] * len(scores) + [-1]),
        "box": torch.tensor(true + padding),
        "label": torch.tensor([0] * len(true) + [-1]),
    }


CASES = [
    case(BOX + FAR, [0.9, 0.4], BOX),
    case(BOX + FAR, [0.3, 0.8], BOX, "b.nii.gz"),
    case([], [], [], "healthy.nii.gz"),
]


def evaluate(cases: Sequence[Mapping[str, Any]], report: DetectionReport) -> Engine:
    """As an evaluator with decollate=True leaves it: lists of cases, the predictions in the output."""

    def predict(engine: Engine, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        engine.state.batch = [{key: each[key] for key in each if "pred" not in key} for each in batch]
        return [{key: each[key] for key in each if "pred" in key} for each in batch]

    engine = Engine(predict)
    report.attach(engine)
    engine.run([[each] for each in cases])
    return engine


def report_to(output: Any, **others: Any) -> DetectionReport:
    given = {"part": "test", "weights": "/runs/a/model.pt", "list_name": "/data/detection.json", **others}
    return DetectionReport(output, given.pop("class_names", ["nodule"]), **{"resamples": 50, **given})


class Remember:
    """A drawer that keeps what it is given."""

    def __init__(self) -> None:
        self.added: list[tuple[str, Any, Any, MatchedBoxes]] = []
        self.drawn: list[Any] = []

    def clear(self) -> None:
        self.added = []

    def add(self, name: str, image: Any, affine: Any, matched: MatchedBoxes) -> None:
        self.added.append((name, image, affine, matched))

    def draw(self, cases: Any) -> None:
        self.drawn.append(cases)


def test_report_of_an_evaluation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = {
        "curve": FreeResponsePicture(tmp_path / "froc.png"),
        "overlay": BoxOverlay(tmp_path / "detections.png"),
    }
    with caplog.at_level(logging.INFO, "monai_ssl"):
        engine = evaluate(CASES, report_to(tmp_path / "metrics.json", **pictures))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [each["image"] for each in metrics["cases"]] == ["a.nii.gz", "b.nii.gz", "healthy.nii.gz"]
    entries = [each["classes"]["nodule"] for each in metrics["cases"]]
    assert [entry["boxes"] for entry in entries] == [1, 1, 0]
    assert [entry["hit_scores"] for entry in entries] == [pytest.approx([score]) for score in (0.9, 0.3)] + [[]]
    assert [entry["false_scores"] for entry in entries] == [pytest.approx([score]) for score in (0.4, 0.8)] + [[]]
    # the second hit comes behind two false positives in three scans
    expected = [0.5, 0.5, 0.5, 1, 1, 1, 1]
    assert [metrics["mean"][key] for key in metrics["mean"] if "sensitivity" in key] == pytest.approx(expected)
    assert engine.state.metrics["cpm"] == metrics["mean"]["cpm"] == pytest.approx(5.5 / 7)
    assert engine.state.summary == metrics
    assert (metrics["part"], metrics["weights"], metrics["list"]) == ("test", "model.pt", "detection.json")
    assert str(tmp_path) not in (tmp_path / "metrics.json").read_text()
    lines = [record.message for record in caplog.records if record.name.startswith("monai_ssl")]
    assert len(lines) == 1
    assert lines[0].startswith("test: CPM 0.7857 (95 % interval ")
    assert lines[0].endswith(" (cases: 3, boxes: 2)")
    for name in ("froc.png", "detections.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("space", ["RAS", "LPS"])
def test_millimetres_give_the_same_as_voxels(space: str) -> None:
    drawers: dict[str, Remember] = {"voxel": Remember(), space: Remember()}
    summaries: list[dict[str, Any]] = []
    evaluate(CASES, report_to(summaries.append, overlay=drawers["voxel"]))
    in_world = []
    for each in CASES:
        moved = dict(each)
        for key in ("pred_box", "box"):
            corners = each[key].double().reshape(-1, 2, 3) - 0.5  # an affine maps the centres of voxels
            ends = corners @ AFFINE[:3, :3].T + AFFINE[:3, 3]
            if space == "LPS":
                ends = ends * torch.tensor([-1.0, -1.0, 1.0])
            moved[key] = torch.cat([ends.mean(1), (ends[:, 1] - ends[:, 0]).abs()], dim=1)
        in_world.append(moved)
    evaluate(in_world, report_to(summaries.append, space=space, overlay=drawers[space]))
    assert summaries[0] == summaries[1]
    for first, second in zip(drawers["voxel"].added, drawers[space].added, strict=True):
        assert np.allclose(first[3].boxes, second[3].boxes)
        assert np.allclose(first[3].true_boxes, second[3].true_boxes)
    assert np.allclose(drawers[space].added[0][3].true_boxes, BOX)


def test_cases_of_one_patient_are_known_by_the_list() -> None:
    summaries: list[Any] = []
    cases = [{**one, "patient": name} for one, name in zip(CASES, ("a", "b", "a"), strict=True)]
    evaluate(cases, report_to(summaries.append))
    assert [one["patient"] for one in summaries[0]["cases"]] == [0, 1, 0]


def test_an_overlay_gets_what_was_matched() -> None:
    overlay, curve = Remember(), Remember()
    summaries: list[dict[str, Any]] = []
    evaluate(CASES, report_to(summaries.append, overlay=overlay, curve=curve))
    assert [name for name, *_ in overlay.added] == ["a.nii.gz", "b.nii.gz", "healthy.nii.gz"]
    _, volume, affine, matched = overlay.added[1]
    assert np.array_equal(volume, CASES[1]["image"][0].numpy())
    assert np.array_equal(affine, AFFINE.float())
    again = match_boxes(BOX + FAR, np.array([0.3, 0.8], np.float32), [0, 0], BOX, [0])
    assert np.array_equal(matched.boxes, again.boxes)
    assert np.array_equal(matched.hits, again.hits)
    assert overlay.drawn == curve.drawn == [summaries[0]["cases"]]


def test_keys_can_be_named() -> None:
    renamed = [{("detected" if key == "pred_box" else key): value for key, value in CASES[0].items()}]
    renamed[0]["pred"] = renamed[0].pop("detected")
    summaries: list[dict[str, Any]] = []
    evaluate(renamed, report_to(summaries.append, pred_box="pred"))
    assert summaries[0]["counts"]["found"] == 1


def test_half_precision_is_read() -> None:
    half = {key: value.bfloat16() if key in ("pred_box", "pred_score") else value for key, value in CASES[0].items()}
    summaries: list[dict[str, Any]] = []
    evaluate([half], report_to(summaries.append))
    assert summaries[0]["mean"]["cpm"] == 1.0


def test_each_run_starts_anew() -> None:
    summaries: list[dict[str, Any]] = []
    overlay = Remember()
    report = report_to(summaries.append, overlay=overlay)
    evaluate(CASES, report)
    evaluate(CASES[:2], report)
    assert [len(summary["cases"]) for summary in summaries] == [3, 2]
    assert len(overlay.added) == 2


def test_healthy_scans_alone(caplog: pytest.LogCaptureFixture) -> None:
    summaries: list[dict[str, Any]] = []
    with caplog.at_level(logging.INFO, "monai_ssl"):
        engine = evaluate([CASES[2], case(FAR, [0.5], [])], report_to(summaries.append))
    assert np.isnan(engine.state.metrics["cpm"])
    assert summaries[0]["mean"]["cpm"] is None
    assert "no case has a box to find; false positives: 1 (cases: 2, boxes: 0)" in caplog.text


def test_gathered_cases_are_summarised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    summaries: list[dict[str, Any]] = []
    report = report_to(summaries.append)

    def gather(gathered: list[Any], cases: list[Any]) -> None:
        gathered[:] = [cases, cases[:1]]

    monkeypatch.setattr("monai_ssl.handlers.base.idist.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    evaluate(CASES, report)
    assert [each["image"] for each in summaries[0]["cases"]][2:] == ["healthy.nii.gz", "a.nii.gz"]
    monkeypatch.setattr("monai_ssl.handlers.base.idist.get_rank", lambda: 1)
    evaluate(CASES, report)
    assert len(summaries) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pred_score": None}, r"^b.nii.gz: a case to score must have pred_score, got box, image, label, pred_box"),
        ({"pred_label": torch.tensor([0, 1, -1])}, r"^b.nii.gz: The classes of `boxes` must be .* from 0 to 0, got 1"),
        ({"box": torch.tensor(BOX)}, r"^b.nii.gz: `true_boxes` must be \(M, 6\)"),
        ({"box": torch.zeros(2)}, r"^b.nii.gz: `true_boxes` must be \(M, 6\)"),
    ],
)
@pytest.mark.parametrize("space", ["voxel", "RAS"])
def test_a_bad_case_is_named(change: dict[str, Any], message: str, space: str) -> None:
    bad = {key: value for key, value in {**CASES[1], **change}.items() if value is not None}
    with pytest.raises(UserError, match=message):
        evaluate([CASES[2], bad], report_to(print, space=space))


def test_only_decollated_batches_are_taken() -> None:
    engine = Engine(lambda _, batch: {"pred_box": torch.zeros(1, 1, 6)})
    report_to(print).attach(engine)
    with pytest.raises(UserError, match=r"attached to an evaluator of cases"):
        engine.run([{"image": image()}])


def test_arguments() -> None:
    with pytest.raises(ValueError, match=r"`space` must be one of voxel, RAS, LPS, got 'mm'"):
        report_to(print, space="mm")
    with pytest.raises(ValueError, match=r"`class_names` must hold at least one class, got none"):
        report_to(print, class_names=[])
    for key, value in (("iou_threshold", 0), ("iou_threshold", 1.5), ("max_detections", 0), ("resamples", -5)):
        with pytest.raises(ValueError, match=rf"`{key}` must be .*, got {value}"):
            report_to(print, **{key: value})
    with pytest.raises(ValueError, match=r"`resamples` must be a whole number from 0, got 1\.5"):
        report_to(print, resamples=1.5)


def test_the_coordinates_of_the_list_are_kept_where_they_are_told() -> None:
    cases = [case([], [], [[4, 4, 4, 8, 8, 8]])]
    kept: list[dict[str, Any]] = []
    for coordinates in (None, "LPS"):
        evaluate(cases, report_to(kept.append, coordinates=coordinates))
    assert [summary.get("coordinates") for summary in kept] == [None, "LPS"]
    assert {key: value for key, value in kept[1].items() if key != "coordinates"} == kept[0]


def test_no_case() -> None:
    report = report_to(print)
    with pytest.raises(UserError, match=r"at least one scored case of part 'test', got none"):
        report.finish(Engine(lambda _, batch: batch))
