"""Scores the boxes of every case of an evaluator and leaves them as JSON, with a curve and pictures of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from ignite.engine import Engine
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from monai_ssl.handlers.base import CaseReport
from monai_ssl.metrics.box_matching import MatchedBoxes, detection_record, match_boxes
from monai_ssl.metrics.detection import summarise_detections
from monai_ssl.utils.box_grids import world_to_voxel_boxes
from monai_ssl.utils.errors import UserError

__all__ = ["DetectionReport"]

Array = NDArray[np.float64]
_SPACES = ("voxel", "RAS", "LPS")


class CurveDrawer(Protocol):
    """What ``curve`` must offer; :class:`monai_ssl.handlers.free_response_picture.FreeResponsePicture` does."""

    def draw(self, cases: Sequence[Mapping[str, Any]]) -> None: ...


class BoxDrawer(Protocol):
    """What ``overlay`` must offer; :class:`monai_ssl.handlers.detection_pictures.BoxOverlay` does."""

    def clear(self) -> None: ...

    def add(self, name: str, image: Any, affine: Any, matched: MatchedBoxes) -> None: ...

    def draw(self, cases: Sequence[Mapping[str, Any]]) -> None: ...


class DetectionReport(CaseReport):
    """Match the boxes of each case as it comes out of the evaluator and write ``metrics.json`` at the end.

    Attach it to a :class:`~monai_ssl.engines.DetectionEvaluator`, whose batch and output, taken together, have for each
    case the predicted boxes, scores and classes and the true boxes and classes, both in the same space; rows of class
    -1 are padding, and a case may have no box at all. Cases with the same ``patient`` are drawn together for the
    intervals. CPM goes to ``engine.state.metrics["cpm"]`` (NaN where no case has a box), the whole summary of
    :func:`~monai_ssl.metrics.detection.summarise_detections` to ``engine.state.summary``. For several processes see
    :class:`~monai_ssl.handlers.base.CaseReport`.

    Args:
        output: the JSON file, or a function that is given the summary instead.
        class_names: names of the classes 0, 1, ...; there is none for the background.
        part: part of the data list that is scored, ``"test"`` or ``"validation"``.
        weights: file of the weights that are scored; its name goes into the summary.
        list_name: data list; its name goes into the summary.
        iou_threshold: intersection over union of a hit; see :func:`~monai_ssl.metrics.box_matching.match_boxes`.
        max_detections: predictions that count, those of highest score, for a case and class.
        space: ``"voxel"`` for corners in edge coordinates of ``image`` (voxel i covers i to i + 1), ``"RAS"`` or
            ``"LPS"`` for centre and size in millimetres.
        coordinates: of the list's boxes, kept in the summary for those who read the list again; None: not kept.
        resamples: draws for the intervals; 0 leaves them out, as one may while training.
        seed: of the draws.
        pred_box: key of the predicted boxes.
        pred_score: key of their scores.
        pred_label: key of their classes.
        box: key of the true boxes.
        label: key of their classes.
        curve: draws the free-response curve; None draws nothing.
        overlay: draws hits, misses and false alarms; None draws nothing.

    Raises:
        ValueError: when ``space`` is unknown, there is no class, or a number is out of range.
    """

    def __init__(
        self,
        output: str | os.PathLike[str] | Callable[[dict[str, Any]], Any],
        class_names: Sequence[str],
        *,
        part: str,
        weights: str | os.PathLike[str],
        list_name: str | os.PathLike[str],
        iou_threshold: float = 0.1,
        max_detections: int = 100,
        space: str = "voxel",
        coordinates: str | None = None,
        resamples: int = 2000,
        seed: int = 0,
        pred_box: str = "pred_box",
        pred_score: str = "pred_score",
        pred_label: str = "pred_label",
        box: str = "box",
        label: str = "label",
        curve: CurveDrawer | None = None,
        overlay: BoxDrawer | None = None,
    ) -> None:
        if space not in _SPACES:
            raise ValueError(f"`space` must be one of {', '.join(_SPACES)}, got {space!r}.")
        if not class_names:
            raise ValueError("`class_names` must hold at least one class, got none.")
        if not 0 < iou_threshold <= 1:
            raise ValueError(f"`iou_threshold` must be in (0, 1], got {iou_threshold}.")
        for key, number, least in (("max_detections", max_detections, 1), ("resamples", resamples, 0)):
            if number != int(number) or number < least:
                raise ValueError(f"`{key}` must be a whole number from {least}, got {number}.")
        super().__init__(output, class_names, part, weights, list_name, overlay)
        self.iou_threshold = iou_threshold
        self.max_detections = int(max_detections)
        self.space = space
        self.coordinates = coordinates
        self.resamples = int(resamples)
        self.seed = seed
        self.keys = (pred_box, pred_score, pred_label, box, label)
        self.curve = curve
        self.overlay = overlay

    def score_case(self, name: str, case: Mapping[str, Any]) -> tuple[dict[str, Any], MatchedBoxes]:
        """The case's record and what its boxes were matched with.

        Raises:
            UserError: when the case lacks something, or its boxes are none.
        """
        missing = [key for key in self.keys if not isinstance(case.get(key), (Tensor, np.ndarray, list))]
        if missing:
            raise UserError(f"a case to score must have {', '.join(missing)}, got {', '.join(sorted(case))}.")
        boxes, scores, labels, true_boxes, true_labels = (_array(case[key]) for key in self.keys)
        matched = match_boxes(
            self._corners(boxes),
            scores,
            labels,
            self._corners(true_boxes),
            true_labels,
            classes=len(self.class_names),
            iou_threshold=self.iou_threshold,
            max_detections=self.max_detections,
        )
        if self.overlay is not None:
            image = case["image"]
            affine = torch.as_tensor(_array(image.affine)) if isinstance(image, MetaTensor) else torch.eye(4)
            self.overlay.add(name, _array(image[0]), affine.numpy(), self._in_voxels(matched, affine))
        record = detection_record(name, matched, self.class_names)
        return {**record, **({"patient": case["patient"]} if "patient" in case else {})}, matched

    def summarise(self, cases: list[tuple[dict[str, Any], MatchedBoxes]]) -> dict[str, Any]:
        """See :func:`monai_ssl.metrics.detection.summarise_detections`."""
        summary = summarise_detections(
            [record for record, _ in cases],
            [matched for _, matched in cases],
            part=self.part,
            weights=self.weights,
            list_name=self.list_name,
            class_names=self.class_names,
            iou_threshold=self.iou_threshold,
            resamples=self.resamples,
            seed=self.seed,
        )
        return summary if self.coordinates is None else {"coordinates": self.coordinates, **summary}

    def publish(self, engine: Engine, summary: dict[str, Any]) -> str:
        """CPM into the engine's state."""
        cpm = summary["mean"]["cpm"]
        engine.state.metrics["cpm"] = float("nan") if cpm is None else cpm
        return _in_words(summary)

    def draw(self, summary: dict[str, Any]) -> None:
        """The curve, and the overlay of hits, misses and false alarms."""
        for drawer in (self.curve, self.overlay):
            if drawer is not None:
                drawer.draw(summary["cases"])

    def _corners(self, boxes: NDArray[Any]) -> NDArray[Any]:
        if self.space == "voxel" or boxes.ndim != 2:
            return boxes
        centre, half = boxes[:, :3], boxes[:, 3:] / 2
        return np.concatenate([centre - half, centre + half], axis=1)

    def _in_voxels(self, matched: MatchedBoxes, affine: Tensor) -> MatchedBoxes:
        if self.space == "voxel":
            return matched
        own = torch.diag(affine.new_tensor([-1, -1, 1, 1])) @ affine if self.space == "LPS" else affine

        def moved(corners: Array) -> Array:
            low, high = torch.as_tensor(corners).split(3, -1)
            return world_to_voxel_boxes(torch.cat([(low + high) / 2, high - low], -1), own).double().numpy()

        return replace(matched, boxes=moved(matched.boxes), true_boxes=moved(matched.true_boxes))


def _in_words(summary: Mapping[str, Any]) -> str:
    counts, mean, interval = summary["counts"], summary["mean"], summary["intervals"]["cpm"]
    over = f"(cases: {counts['cases']}, boxes: {counts['boxes']})"
    if mean["cpm"] is None:
        return f"no case has a box to find; false positives: {counts['false_positives']} {over}"
    spread = "" if interval is None else f" (95 % interval {interval[0]:.4f} to {interval[1]:.4f})"
    return f"CPM {mean['cpm']:.4f}{spread}, mean average precision {mean['map']:.4f} {over}"


def _array(values: Tensor | NDArray[Any] | list[Any]) -> NDArray[Any]:
    if not isinstance(values, Tensor):
        return np.asarray(values)
    plain = values.detach().as_subclass(Tensor).cpu()
    # NumPy has no bfloat16
    return plain.float().numpy() if plain.is_floating_point() else plain.numpy()
