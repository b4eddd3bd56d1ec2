"""Scores of a repeated cross-validation, with intervals that know that its folds share their training cases."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.seeding import derive_seed

__all__ = ["Fold", "FoldInterval", "case_interval", "class_scores", "fold_interval", "grouped_folds"]

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Indices of the training and of the test cases."""


@dataclass(frozen=True)
class FoldInterval:
    """A mean score with its interval.

    Attributes:
        mean: the estimate.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """The three numbers by name."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def grouped_folds(
    labels: ArrayLike, groups: Sequence[Hashable], folds: int = 5, repeats: int = 10, seed: int = 0
) -> list[Fold]:
    """Repeated stratified folds in which all cases of a patient are on one side.

    Args:
        labels: class of each case.
        groups: patient of each case.
        folds: number K of folds, 2 or more.
        repeats: how often the cases are dealt anew.
        seed: of the dealing.

    Returns:
        ``folds * repeats`` folds.

    Raises:
        UserError: when there are fewer than two classes, a class has fewer patients than there are folds, or the
            patients cannot be dealt so that every class is on both sides of every fold.
    """
    classes = np.asarray(labels)
    if folds < 2 or repeats < 1:
        raise UserError(f"folds must be 2 or more and repeats 1 or more, got {folds} and {repeats}.")
    _check_patients(classes, groups, folds)
    _, codes = np.unique([str(group) for group in groups], return_inverse=True)
    dealt: list[Fold] = []
    for repeat in range(repeats):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=derive_seed(seed, "folds", repeat, bits=32))
        for train, test in splitter.split(classes[:, None], classes, codes):
            if any(set(classes[part]) != set(classes) for part in (train, test)):
                raise UserError(
                    f"{folds} folds leave a class out of one of them: patients with several cases cannot be split. "
                    "Give fewer --folds, or more patients of the rare classes."
                )
            dealt.append((train, test))
    return dealt


def class_scores(probabilities: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Balanced accuracy of the most probable class, and area under the ROC curve.

    With more than two classes the area is the mean over classes of one against the rest.

    Args:
        probabilities: of the classes 0, 1, ...
        labels: the classes, all of which must occur.

    Shape:
        - probabilities: ``(N, K)``
        - labels: ``(N,)``
    """
    table, classes = np.asarray(probabilities), np.asarray(labels)
    one_hot = classes[:, None] == np.arange(table.shape[1])
    return {
        "balanced_accuracy": float(balanced_accuracy_score(classes, table.argmax(axis=1))),
        "roc_auc": float(np.mean([roc_auc_score(one_hot[:, k], table[:, k]) for k in range(table.shape[1])])),
    }


def fold_interval(scores: ArrayLike, folds: int, level: float = 0.95) -> FoldInterval:
    r"""Mean over the folds of a repeated cross-validation, or mean difference, with its interval.

    .. math:: \bar x \pm t_{J-1} \sqrt{\left(\frac{1}{J} + \frac{1}{K-1}\right) s^2}

    with :math:`J` scores of standard deviation :math:`s`. The term :math:`1/(K-1)`, the ratio of test to training
    cases, is for the training cases that folds share: without it the interval shrinks towards nothing as the folds are
    dealt again and again, while no case was added.

    Args:
        scores: one a fold; for a paired difference, the differences.
        folds: number K of folds of one repeat.
        level: nominal coverage.

    Raises:
        ValueError: when there are fewer than two scores.

    Reference:
        C. Nadeau, Y. Bengio: Inference for the Generalization Error, Machine Learning 52, 2003,
        https://doi.org/10.1023/A:1024068626366; for repeated cross-validation R. Bouckaert, E. Frank, PAKDD 2004.
    """
    array = np.asarray(scores, dtype=float)
    return _t_interval(array, 1 / max(len(array), 1) + 1 / (folds - 1), level)


def case_interval(scores: ArrayLike, level: float = 0.95) -> FoldInterval:
    """Mean over cases, or mean difference, with the t interval for new cases.

    Args:
        scores: one a case; for a paired difference, the differences.
        level: nominal coverage.

    Raises:
        ValueError: when there are fewer than two scores.
    """
    array = np.asarray(scores, dtype=float)
    return _t_interval(array, 1 / max(len(array), 1), level)


def _t_interval(scores: NDArray[np.float64], factor: float, level: float) -> FoldInterval:
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"`scores` must be two scores or more, got {scores.shape}.")
    half = float(stats.t.ppf((1 + level) / 2, len(scores) - 1)) * math.sqrt(factor) * float(scores.std(ddof=1))
    mean = float(scores.mean())
    return FoldInterval(mean, mean - half, mean + half)


def _check_patients(classes: NDArray[Any], groups: Sequence[Hashable], folds: int) -> None:
    patients: dict[int, set[Hashable]] = {}
    for label, group in zip(classes.tolist(), groups, strict=True):
        patients.setdefault(label, set()).add(group)
    if len(patients) < 2:
        raise UserError(f"a probe needs cases of two classes at least, got the classes {sorted(patients)}.")
    label, found = min(patients.items(), key=lambda item: len(item[1]))
    if len(found) < folds:
        raise UserError(
            f"class {label} has cases of {len(found)} patients, and {folds} folds need {folds}. Give fewer --folds, "
            "or leave the class out of the list."
        )
