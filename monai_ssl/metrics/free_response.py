"""The free-response curve of a detector, sensitivity over false positives a scan, and its summary CPM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_ssl.metrics.prediction_table import (
    Counts,
    PredictionTable,
    cumulate,
    divide,
    prediction_table,
    selection_weights,
)

__all__ = ["FALSE_POSITIVE_RATES", "cpm_of", "free_response_curve", "operating_score", "sensitivities_of"]

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Record = Mapping[str, Any]

FALSE_POSITIVE_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def free_response_curve(cases: Sequence[Record], class_name: str | None = None) -> tuple[Array, Array]:
    r"""Sensitivity over the mean number of false positives a scan, a point for each score that occurs.

    With hits :math:`h_i`, scores :math:`p_i`, :math:`G` true boxes and :math:`N` scans, those without a box among them,

    .. math:: \mathrm{rate}(t) = \frac{1}{N} \sum_i [p_i \ge t] (1 - h_i), \quad
              \mathrm{sensitivity}(t) = \frac{1}{G} \sum_i [p_i \ge t]\, h_i

    Predictions of equal score enter together, as no threshold tells them apart: they make one point, with a straight
    line to it, so that a tie favours neither hits nor false positives.

    Args:
        cases: of :func:`~monai_ssl.metrics.box_matching.detection_record`, or the ``cases`` of a ``metrics.json``.
        class_name: a class; by default all are pooled in one curve.

    Returns:
        Rates and sensitivities, rising, from (0, 0) on; sensitivities are NaN where no case has a box.

    Raises:
        ValueError: when there is no case, or no such class.

    Reference:
        D. P. Chakraborty, L. H. L. Winter: Free-response Methodology: Alternate Analysis and a New Observer-Performance
        Experiment, Radiology 174(3), 1990, https://doi.org/10.1148/radiology.174.3.2305073.
    """
    table = _read(cases, class_name)
    hits, falses = cumulate(table, table.hits[0], np.ones((1, len(cases)), dtype=np.int64))
    return np.append(0.0, falses[0]) / len(cases), divide(np.append(0.0, hits[0]), table.boxes.sum())


def sensitivities_of(
    cases: Sequence[Record],
    index: ArrayLike | None = None,
    *,
    rates: Sequence[float] = FALSE_POSITIVE_RATES,
    class_name: str | None = None,
) -> Array:
    """Sensitivity at given numbers of false positives a scan, for many selections of the cases at once.

    Between points of :func:`free_response_curve` it is interpolated, and a rate that the curve does not reach has the
    sensitivity of its last point; LUNA16's evaluation does both in the same way. With 20 scans a rate of 1/8 allows 2.5
    boxes in all: such a sensitivity moves with single boxes.

    Args:
        cases: of :func:`~monai_ssl.metrics.box_matching.detection_record`, or the ``cases`` of a ``metrics.json``.
        index: positions in ``cases``, a row being a selection; they may repeat, and -1 is none. Rows of
            :func:`~monai_ssl.metrics.prediction_table.draw_cases` make a bootstrap.
            With the cases of two methods one after the other, N each, rows that take case i or i + N by the toss of a
            coin make a paired permutation test.
        rates: false positives a scan, >= 0.
        class_name: a class; by default all are pooled.

    Shape:
        - index: ``(R, n)``; ``(n,)`` is one selection, None are all cases
        - Output: ``(R, Q)`` or ``(Q,)`` for Q rates; NaN of a selection without a true box

    Raises:
        ValueError: when an argument is out of range.
    """
    if min(rates) < 0:
        raise ValueError(f"`rates` must be numbers of false positives >= 0, got {tuple(rates)}.")
    table = _read(cases, class_name)
    parts = []
    for weights in selection_weights(index, len(cases), table.hits.shape[1]):
        allowed = weights.sum(axis=1)[:, None] * np.asarray(rates, dtype=np.float64)
        hits = _interpolate(*cumulate(table, table.hits[0], weights), allowed)
        parts.append(divide(hits, (weights @ table.boxes)[:, None]))
    found = np.concatenate(parts)
    return found if index is not None and np.ndim(index) == 2 else found[0]


def cpm_of(cases: Sequence[Record], index: ArrayLike | None = None, *, class_name: str | None = None) -> Any:
    r"""Competition performance metric: mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives a scan.

    .. math:: \mathrm{CPM} = \frac{1}{7} \sum_{k=-3}^{3} \mathrm{sensitivity}(\mathrm{rate} = 2^k)

    Args:
        cases: see :func:`sensitivities_of`.
        index: selections of cases, see :func:`sensitivities_of`; one call with many rows is much faster than many.
        class_name: a class; by default all are pooled.

    Returns:
        A number, or one for each row of ``index``; NaN of a selection without a true box.

    Raises:
        ValueError: when an argument is out of range.

    Reference:
        A. A. A. Setio et al.: Validation, Comparison, and Combination of Algorithms for Automatic Detection of
        Pulmonary Nodules in Computed Tomography Images: the LUNA16 Challenge, Medical Image Analysis 42, 2017,
        https://arxiv.org/abs/1612.08012. There a hit is a point within a nodule's radius, and a second prediction of a
        nodule is forgiven; here see :func:`~monai_ssl.metrics.box_matching.match_boxes`: figures do not compare.
    """
    means = sensitivities_of(cases, index, class_name=class_name).mean(axis=-1)
    return means if index is not None and np.ndim(index) == 2 else float(means)


def operating_score(cases: Sequence[Record], rate: float = 1.0) -> float:
    """The score above which predictions make at most ``rate`` false positives a scan; -inf where all of them may stay.

    Args:
        cases: see :func:`sensitivities_of`; all classes are pooled.
        rate: false positives a scan, >= 0.
    """
    entries = [entry for case in cases for entry in case["classes"].values()]
    falses = sorted((score for entry in entries for score in entry["false_scores"]), reverse=True)
    allowed = int(rate * len(cases))
    return float(falses[allowed]) if len(falses) > allowed else -np.inf


def _read(cases: Sequence[Record], class_name: str | None) -> PredictionTable:
    if not cases:
        raise ValueError("`cases` must hold at least one case, got none.")
    if class_name is not None and class_name not in cases[0]["classes"]:
        raise ValueError(f"`class_name` must be one of {', '.join(cases[0]['classes'])}, got {class_name!r}.")
    scores: list[float] = []
    boxes, counts = [], []  # counts of hits and false positives by turns, one pair a case
    for case in cases:
        entries = [entry for name, entry in case["classes"].items() if class_name in (None, name)]
        boxes.append(sum(entry["boxes"] for entry in entries))
        for key in ("hit_scores", "false_scores"):
            before = len(scores)
            for entry in entries:
                scores += entry[key]
            counts.append(len(scores) - before)
    rows = np.repeat(np.arange(len(counts)) // 2, counts)
    hits = np.repeat(np.arange(len(counts)) % 2 == 0, counts)
    return prediction_table(np.array(scores, dtype=np.float64), rows, hits[None], np.array(boxes, dtype=np.int64))


def _interpolate(hits: Counts, falses: Counts, allowed: Array) -> Array:
    """Hits at the allowed numbers of false positives, both ``(r, Q)``: linear between points, level behind the last."""
    start = np.zeros((len(hits), 1), dtype=hits.dtype)
    hits, falses = np.hstack([start, hits]), np.hstack([start, falses])
    # the rows end to end, each lifted above the one before: a single search finds the places in all of them
    row = np.arange(len(hits))[:, None]
    lift = row * (max(float(falses.max()), float(allowed.max())) + 1)
    line, wanted = (falses + lift).ravel(), allowed + lift
    before = np.searchsorted(line, wanted.ravel(), side="right").reshape(wanted.shape) - 1
    after = np.minimum(before + 1, (row + 1) * hits.shape[1] - 1)
    share = np.nan_to_num(divide(wanted - line[before], line[after] - line[before]))  # 0 behind the last point
    found = hits.ravel()
    interpolated: Array = found[before] + share * (found[after] - found[before])
    return interpolated
