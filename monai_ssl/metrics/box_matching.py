"""Which predicted boxes find which true ones, and what a file keeps of it for free-response curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou
from numpy.typing import ArrayLike, NDArray

from monai_ssl.utils.errors import UserError

__all__ = ["MEAN_OVER_IOU", "MatchedBoxes", "detection_record", "match_boxes"]

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]

MEAN_OVER_IOU = tuple(float(threshold) for threshold in np.linspace(0.1, 0.5, 9))  # those of MONAI's COCOMetric
_PADDING = -1


@dataclass(frozen=True)
class MatchedBoxes:
    """The boxes of one case, and which of them found each other.

    Attributes:
        boxes: predicted corners by falling score, ``(D, 6)``.
        scores: of the predictions, to nine digits, which tell any two float32 apart, ``(D,)``.
        labels: their classes, ``(D,)``.
        hits: whether each is a hit, ``(10, D)``: the first row at ``iou_threshold``, the others at IoU 0.1 to 0.5.
        true_boxes: corners, ``(M, 6)``.
        true_labels: their classes, ``(M,)``.
        found_by: position of the prediction that found the true box at ``iou_threshold``; -1 where none did, ``(M,)``.
    """

    boxes: Array
    scores: Array
    labels: Whole
    hits: Flags
    true_boxes: Array
    true_labels: Whole
    found_by: Whole


def match_boxes(
    boxes: ArrayLike,
    scores: ArrayLike,
    labels: ArrayLike,
    true_boxes: ArrayLike,
    true_labels: ArrayLike,
    *,
    classes: int = 1,
    iou_threshold: float = 0.1,
    max_detections: int = 100,
) -> MatchedBoxes:
    """Match the predictions of one case to its true boxes, class by class.

    MONAI's ``matching_batch`` does it: from the highest score down, each prediction takes the true box of its class
    that it overlaps most among those not yet taken, if their intersection over union reaches the threshold. A
    prediction that finds none is a false positive, and so is a second prediction of a box that is taken. Predictions
    of equal score take turns by their coordinates, so that the order in which they are given does not matter.

    Args:
        boxes: predicted corners xmin, ymin, zmin, xmax, ymax, zmax, in voxels or millimetres.
        scores: of the predictions, higher is surer.
        labels: predicted classes 0, 1, ...; rows of class -1 are padding.
        true_boxes: corners in the same space; a case may have none.
        true_labels: their classes; rows of class -1 are padding, whatever their box, such as NaN.
        classes: number of classes.
        iou_threshold: intersection over union of a hit, in (0, 1]; 0.1 as is usual in 3D, where a shift by a voxel or
            two takes small objects far below 0.5.
        max_detections: predictions that count, those of highest score, for a case and class.

    Shape:
        - boxes: ``(D, 6)``; scores, labels: ``(D,)``
        - true_boxes: ``(M, 6)``; true_labels: ``(M,)``

    Raises:
        ValueError: when ``iou_threshold`` or ``max_detections`` is out of range.
        UserError: when shapes do not agree, or there is a box, a score or a class that is none.

    Reference:
        T.-Y. Lin et al.: Microsoft COCO: Common Objects in Context, ECCV 2014, https://arxiv.org/abs/1405.0312; the
        rule of matching is that of its evaluation code.
    """
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"`iou_threshold` must be in (0, 1], got {iou_threshold}.")
    if max_detections < 1:
        raise ValueError(f"`max_detections` must be at least 1, got {max_detections}.")
    truth, truth_labels, _ = _present("true_boxes", true_boxes, true_labels, None, classes)
    given, given_labels, sure = _present("boxes", boxes, labels, scores, classes)
    # the coordinates settle ties, since the order of the input may know what is a hit
    order = np.lexsort((*given.T, -sure))
    surplus = [order[given_labels[order] == label][max_detections:] for label in range(classes)]
    order = order[~np.isin(order, np.concatenate(surplus))]
    given, given_labels, sure = given[order], given_labels[order], sure[order]
    thresholds = (iou_threshold, *MEAN_OVER_IOU)
    matches = matching_batch(
        _overlaps, thresholds, [given], [given_labels], [sure], [truth], [truth_labels], max_detections=max_detections
    )
    hits = np.zeros((len(thresholds), len(sure)), dtype=bool)
    found_by = np.full(len(truth), -1)
    for label, match in matches[0].items():
        ours, theirs = np.flatnonzero(given_labels == label), np.flatnonzero(truth_labels == label)
        hits[:, ours] = match["dtMatches"] > 0
        first = ours[hits[0, ours]]
        if len(first):
            found_by[theirs[_partners(_overlaps(given[first], truth[theirs]))]] = first
    return MatchedBoxes(given, sure, given_labels, hits, truth, truth_labels, found_by)


def detection_record(image: str, matched: MatchedBoxes, class_names: Sequence[str]) -> dict[str, Any]:
    """One case of ``metrics.json``: what a free-response curve of any selection of cases needs of it.

    Args:
        image: file of the case; only its name is kept, never its folder.
        matched: of :func:`match_boxes`.
        class_names: names of the classes 0, 1, ...

    Returns:
        ``{"image": .., "boxes": .., "classes": {name: {"boxes": .., "hit_scores": [..], "false_scores": [..]}}}``;
        ``boxes`` is the number of true ones.
    """
    classes = {}
    for label, name in enumerate(class_names):
        own, hit = matched.labels == label, matched.hits[0]
        classes[name] = {
            "boxes": int(np.sum(matched.true_labels == label)),
            "hit_scores": matched.scores[own & hit].tolist(),
            "false_scores": matched.scores[own & ~hit].tolist(),
        }
    return {"image": PurePath(image).name, "boxes": len(matched.true_labels), "classes": classes}


def _present(
    name: str, boxes: ArrayLike, labels: ArrayLike, scores: ArrayLike | None, classes: int
) -> tuple[Array, Whole, Array]:
    """Boxes, classes and scores without padding, checked."""
    table, given = np.asarray(boxes, dtype=np.float64), np.asarray(labels)
    sure = np.zeros(given.shape) if scores is None else np.asarray(scores, dtype=np.float64)
    table = table.reshape(0, 6) if table.size == 0 else table
    if table.ndim != 2 or table.shape[1] != 6 or given.shape != table.shape[:1] or sure.shape != given.shape:
        raise UserError(
            f"`{name}` must be (M, 6), with M classes and M scores, got {table.shape}, {given.shape} and {sure.shape}."
        )
    there = given != _PADDING
    table, given, sure = table[there], given[there], sure[there]
    chosen = given.astype(np.int64)
    no_class = given[(chosen != given) | (chosen < 0) | (chosen >= classes)]
    if len(no_class):
        raise UserError(f"The classes of `{name}` must be whole numbers from 0 to {classes - 1}, got {no_class[0]:g}.")
    no_box = table[~(np.isfinite(table).all(axis=1) & (table[:, 3:] >= table[:, :3]).all(axis=1))]
    if len(no_box):
        raise UserError(f"`{name}` must be finite corners, the lower ones first, got {no_box[0].tolist()}.")
    if not np.isfinite(sure).all():
        raise UserError(f"The scores of `{name}` must be finite, got {sure[~np.isfinite(sure)][0]}.")
    # a file with all digits of a float64 would be twice as long, and figures must follow from the file alone
    return table, chosen, np.array([float(f"{score:.9g}") for score in sure])


def _overlaps(boxes: Array, true_boxes: Array) -> Array:
    return np.asarray(box_iou(boxes, true_boxes))


def _partners(overlaps: Array) -> list[int]:
    """Which true box each hit took, ``(hits, boxes)``: MONAI's matching keeps only whether; the rule is its own."""
    left, partners = overlaps.copy(), []
    for row in left:
        best = int(len(row) - 1 - np.argmax(row[::-1]))  # of equals the last
        partners.append(best)
        left[:, best] = -1.0
    return partners
