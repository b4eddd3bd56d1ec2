"""Predictions of all cases in one row by score, and their hits and false positives in many selections of the cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Counts",
    "Flags",
    "PredictionTable",
    "cumulate",
    "divide",
    "draw_cases",
    "prediction_table",
    "selection_weights",
]

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.signedinteger[Any]]

_CELLS = 2_000_000  # selections times predictions that are in memory at once


@dataclass(frozen=True)
class PredictionTable:
    """Predictions by falling score.

    Attributes:
        cases: position of the case of each, ``(D,)``.
        hits: whether each is a hit, ``(T, D)``, by one or more rules.
        ends: position of the last prediction of each score, ``(P,)``: those of equal score enter a curve together.
        boxes: number of true boxes of each case, ``(N,)``.
    """

    cases: Whole
    hits: Flags
    ends: Whole
    boxes: Whole


def prediction_table(scores: Array, cases: Whole, hits: Flags, boxes: Whole) -> PredictionTable:
    """Sort predictions by their score; the arguments are described at :class:`PredictionTable`."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)[: len(falling)])
    return PredictionTable(cases[order], hits[:, order], ends, boxes)


def selection_weights(index: ArrayLike | None, cases: int, predictions: int) -> Iterator[Whole]:
    """Yield how often each selection has each case, in portions that fit into memory.

    Args:
        index: positions of cases, a row being a selection; they may repeat, and -1 is none, so that rows of whole
            patients, who have different numbers of cases, make a table. None is one selection of all.
        cases: number N of cases.
        predictions: number of predictions, which together with the selections decides the portions.

    Shape:
        - index: ``(R, n)``, or ``(n,)`` for one selection
        - Output: ``(r, N)`` each, R rows in all

    Raises:
        ValueError: when ``index`` is no table of positions.
    """
    chosen = np.arange(cases)[None] if index is None else np.atleast_2d(np.asarray(index))
    if chosen.ndim != 2 or chosen.size == 0 or chosen.dtype.kind not in "iu":
        raise ValueError(f"`index` must hold whole numbers, (R, n) or (n,), got {chosen.dtype} {chosen.shape}.")
    if chosen.min() < -1 or chosen.max() >= cases:
        raise ValueError(f"`index` must be in [-1, {cases - 1}], got {chosen.min()} to {chosen.max()}.")
    step = max(_CELLS // max(predictions, cases), 1)
    for start in range(0, len(chosen), step):
        portion = chosen[start : start + step].astype(np.int64) + 1  # in the first column are those that are none
        place = portion + (cases + 1) * np.arange(len(portion))[:, None]
        counts = np.bincount(place.ravel(), minlength=(cases + 1) * len(portion))
        yield counts.reshape(len(portion), cases + 1)[:, 1:]


def draw_cases(patients: Sequence[Any], resamples: int, seed: int) -> Whole:
    """Draw as many patients as there are, with replacement, each with all cases: the selections of a bootstrap.

    Cases of one patient are alike, and a bootstrap that draws them apart makes intervals that are too narrow.

    Args:
        patients: of each case, by name or number.
        resamples: number R of draws.
        seed: of the draws.

    Shape:
        - Output: ``(R, n)``, positions of cases; -1 fills up where a patient has fewer cases than another

    Reference:
        A. C. Davison, D. V. Hinkley: Bootstrap Methods and their Application, Cambridge 1997, section 3.8.
    """
    owned: dict[Any, list[int]] = {}
    for place, patient in enumerate(patients):
        owned.setdefault(patient, []).append(place)
    most = max(map(len, owned.values()))
    table = np.array([places + [-1] * (most - len(places)) for places in owned.values()])
    drawn = np.random.default_rng(seed).integers(len(owned), size=(resamples, len(owned)))
    return table[drawn].reshape(resamples, -1)


def cumulate(table: PredictionTable, hits: Flags, weights: Whole) -> tuple[Counts, Counts]:
    """Count hits and false positives down to each score that occurs.

    A score that a selection does not have repeats the point before, which changes no curve.

    Args:
        table: the predictions.
        hits: a row of ``table.hits``.
        weights: of :func:`selection_weights`.

    Shape:
        - hits: ``(D,)``; weights: ``(r, N)``
        - Output: ``(r, P)`` both
    """
    drawn = weights.astype(np.int32)[:, table.cases]
    every = np.cumsum(drawn, axis=1, dtype=np.int32)[:, table.ends]
    right = np.cumsum(drawn * hits, axis=1, dtype=np.int32)[:, table.ends]
    return right, every - right


def divide(values: ArrayLike, by: ArrayLike) -> Array:
    """Quotient, NaN where it is by 0."""
    over, under = np.broadcast_arrays(np.asarray(values, dtype=np.float64), np.asarray(by, dtype=np.float64))
    return np.divide(over, under, out=np.full(over.shape, np.nan), where=under != 0)
