"""Average precision of detected boxes, and the summary of a detector that a run keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_ssl.metrics.box_matching import MatchedBoxes
from monai_ssl.metrics.free_response import FALSE_POSITIVE_RATES, sensitivities_of
from monai_ssl.metrics.prediction_table import (
    Counts,
    Flags,
    PredictionTable,
    divide,
    draw_cases,
    prediction_table,
    selection_weights,
)
from monai_ssl.utils.errors import UserError

__all__ = ["average_precision_of", "summarise_detections"]

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Record = Mapping[str, Any]

_RECALLS = np.linspace(0.0, 1.0, 101)
_FEW_SCANS = 64  # below, the lowest rate allows fewer than 8 false positives in all


def average_precision_of(cases: Sequence[MatchedBoxes], label: int = 0, index: ArrayLike | None = None) -> Any:
    r"""Average precision of a class, mean over the IoU thresholds 0.1, 0.15, .., 0.5.

    .. math:: \mathrm{AP} = \frac{1}{101} \sum_{r \in \{0, 0.01, .., 1\}}
              \max_{t:\, \mathrm{recall}(t) \ge r} \mathrm{precision}(t)

    The figure of MONAI's ``COCOMetric``, for many selections of the cases at once. Other than there, predictions of
    equal score enter together, so that no order of them favours hits.

    Args:
        cases: of :func:`~monai_ssl.metrics.box_matching.match_boxes`.
        label: the class.
        index: selections of cases, see :func:`~monai_ssl.metrics.free_response.sensitivities_of`.

    Returns:
        A number, or one for each row of ``index``; NaN of a selection without a true box of the class.

    Raises:
        ValueError: when ``index`` is no table of positions.

    Reference:
        T.-Y. Lin et al.: Microsoft COCO: Common Objects in Context, ECCV 2014, https://arxiv.org/abs/1405.0312.
    """
    own = [case.labels == label for case in cases]
    table = prediction_table(
        np.concatenate([case.scores[rows] for case, rows in zip(cases, own, strict=True)]),
        np.repeat(np.arange(len(cases)), [int(rows.sum()) for rows in own]),
        np.concatenate([case.hits[1:, rows] for case, rows in zip(cases, own, strict=True)], axis=1),
        np.array([np.sum(case.true_labels == label) for case in cases]),
    )
    parts = []
    for weights in selection_weights(index, len(cases), table.hits.shape[1]):
        boxes = weights @ table.boxes
        drawn = weights.astype(np.int32)[:, table.cases]
        every = np.cumsum(drawn, axis=1, dtype=np.int32)[:, table.ends]
        parts.append(np.mean([_precision(*_at_hits(table, hits, drawn, every), boxes) for hits in table.hits], axis=0))
    found = np.concatenate(parts)
    return found if index is not None and np.ndim(index) == 2 else float(found[0])


def summarise_detections(
    records: Sequence[Record],
    cases: Sequence[MatchedBoxes],
    *,
    part: str,
    weights: str,
    list_name: str,
    class_names: Sequence[str],
    iou_threshold: float = 0.1,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Summarise matched cases into the content of ``metrics.json``.

    ``mean`` holds ``cpm`` and ``sensitivity_0.125`` to ``sensitivity_8`` of all classes pooled in one curve, and
    ``map``, the mean of the average precision over the classes that have a box; ``classes`` holds each class apart.
    ``intervals`` are the 2.5th and the 97.5th percentile over draws of as many patients with replacement, where draws
    without a true box are left out: they hold for other cases, not for another training, and are a little narrow with
    few (simulated, those of CPM covered 92 % with 20 scans and 94 % with 50). Figures that are undefined are None, and
    ``notes`` says why. Cases without a box count with their false positives.

    Args:
        records: of :func:`~monai_ssl.metrics.box_matching.detection_record`; the summary keeps them as ``cases``.
            Those with the same ``patient`` are drawn together, and the summary has a number for the name; each of the
            others is a patient of its own.
        cases: of :func:`~monai_ssl.metrics.box_matching.match_boxes`, in the same order.
        part: part of the data list that was scored, ``"test"`` or ``"validation"``.
        weights: file of the weights; only its name is kept.
        list_name: file of the data list; only its name is kept.
        class_names: names of the classes 0, 1, ...
        iou_threshold: with which the cases were matched.
        resamples: number of draws; 0 leaves the intervals out, as a single patient does.
        seed: of the draws.

    Raises:
        UserError: when there is no case.
    """
    if not records:
        raise UserError(f"`records` must hold at least one scored case of part {part!r}, got none.")
    records = _numbered(records)
    patients = [record.get("patient", place) for place, record in enumerate(records)]
    several = len(set(patients)) > 1
    draws = draw_cases(patients, resamples, seed) if resamples > 0 and several else None
    means = _all_scores(records, cases, class_names, None)
    spreads = means if draws is None else _all_scores(records, cases, class_names, draws)
    found: dict[str | None, dict[str, Any]] = {}
    for name, scores in means.items():
        found[name] = {
            "mean": {key: float(value) if np.isfinite(value) else None for key, value in scores.items()},
            "intervals": {key: None if draws is None else _interval(spreads[name][key]) for key in scores},
            "counts": _counts(records, name),
        }
    total = found.pop(None)
    return {
        "part": str(part),
        "weights": PurePath(weights).name,
        "list": PurePath(list_name).name,
        "iou_threshold": float(iou_threshold),
        "resamples": 0 if draws is None else len(draws),
        **total,
        "notes": _notes(total["counts"], len(set(patients))),
        "classes": {name: {**each.pop("mean"), **each} for name, each in found.items()},
        "cases": [dict(record) for record in records],
    }


def _all_scores(
    records: Sequence[Record], cases: Sequence[MatchedBoxes], class_names: Sequence[str], index: Whole | None
) -> dict[str | None, dict[str, Array]]:
    """Scores of all classes pooled, under None, and of each class, one for each selection."""
    found: dict[str | None, dict[str, Array]] = {}
    for name in (None, *class_names):
        rows = sensitivities_of(records, index, class_name=name)
        by_rate = {f"sensitivity_{rate:g}": rows[..., place] for place, rate in enumerate(FALSE_POSITIVE_RATES)}
        found[name] = {"cpm": rows.mean(axis=-1), **by_rate}
    for label, name in enumerate(class_names):
        found[name]["map"] = np.asarray(average_precision_of(cases, label, index))
    each = np.stack([found[name]["map"] for name in class_names])
    found[None]["map"] = divide(np.nansum(each, axis=0), np.isfinite(each).sum(axis=0))
    return found


def _at_hits(table: PredictionTable, hits: Flags, drawn: Counts, every: Counts) -> tuple[Counts, Counts]:
    """Hits, and all predictions, down to each score that a hit has: between those precision only falls."""
    places = np.flatnonzero(hits)
    scores = np.searchsorted(table.ends, places)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)])  # of the hits of each score
    right = np.cumsum(drawn[:, places], axis=1, dtype=np.int32)
    return right[:, last], every[:, scores[last]]


def _precision(hits: Counts, every: Counts, boxes: Whole) -> Array:
    """Interpolated precision, mean over the recalls, ``(r,)``."""
    row = np.arange(len(hits))[:, None]
    precision = hits / np.maximum(every, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.hstack([envelope, np.zeros((len(hits), 1))])  # a recall that is not reached
    # in float32 as in MONAI: whether 3 of 10 boxes reach a recall of 0.3 is a matter of rounding
    numbers, kind = np.unique(boxes, return_inverse=True)
    recalls = [np.arange(n + 1, dtype=np.float32) / np.float32(max(n, 1)) for n in numbers]
    needed = np.stack([np.searchsorted(recall, _RECALLS) for recall in recalls])
    # the rows end to end, each lifted above the one before: a single search finds the places in all of them
    lift = row * (int(numbers.max()) + 2)
    wanted = needed[kind] + lift
    place = np.searchsorted((hits + lift).ravel(), wanted.ravel()).reshape(wanted.shape) - row * hits.shape[1]
    reached = np.take_along_axis(padded, np.minimum(place, hits.shape[1]), axis=1)
    return np.where(boxes > 0, reached.mean(axis=1), np.nan)


def _interval(values: Array) -> list[float] | None:
    known = values[np.isfinite(values)]
    return [float(end) for end in np.percentile(known, (2.5, 97.5))] if len(known) else None


def _counts(records: Sequence[Record], class_name: str | None) -> dict[str, int]:
    entries = [[entry for name, entry in case["classes"].items() if class_name in (None, name)] for case in records]
    flat = [entry for group in entries for entry in group]
    return {
        "cases": len(records),
        "with_boxes": sum(any(entry["boxes"] for entry in group) for group in entries),
        "boxes": sum(entry["boxes"] for entry in flat),
        "found": sum(len(entry["hit_scores"]) for entry in flat),
        "false_positives": sum(len(entry["false_scores"]) for entry in flat),
    }


def _numbered(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Records with a number for the patient's name, which is nobody's concern who reads figures; none where all differ.

    A case without a patient in a list that has some is a patient of its own.
    """
    numbers: dict[Any, int] = {}
    owners = [record.get("patient", ("of its own", place)) for place, record in enumerate(records)]
    told = [numbers.setdefault(owner, len(numbers)) for owner in owners]
    plain = [{key: value for key, value in record.items() if key != "patient"} for record in records]
    if len(numbers) == len(records):
        return plain
    return [{**record, "patient": number} for record, number in zip(plain, told, strict=True)]


def _notes(counts: Mapping[str, int], patients: int) -> list[str]:
    notes = []
    if patients < counts["cases"]:
        of_patients = "one patient, which gives no interval"
        if patients > 1:
            of_patients = f"{patients} patients, and intervals are of draws of whole patients"
        notes.append(f"The {counts['cases']} cases are of {of_patients}.")
    scans, lowest = counts["cases"], FALSE_POSITIVE_RATES[0]
    if not counts["boxes"]:
        notes.append("No case has a box: sensitivities and precision are undefined, only false positives are counted.")
    if scans < _FEW_SCANS:
        notes.append(
            f"{lowest:g} false positives a scan are {lowest * scans:g} boxes in {scans} scans: "
            "sensitivities at the lowest rates move with single boxes."
        )
    return notes
