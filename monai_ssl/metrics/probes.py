"""Probes of features of whole scans: how well a class can be read from them by a simple classifier."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monai_ssl.metrics.fold_scores import Fold, class_scores

__all__ = ["PROBES", "intensity_statistics", "linear_probe", "neighbour_probe", "probe_scores"]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
PROBES = ("linear", "nearest_neighbours")

_UNCHOSEN = 1e-2  # where patients are too few to choose
_STRENGTHS = tuple(10.0**power for power in range(-4, 2))
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def probe_scores(
    features: ArrayLike, labels: ArrayLike, groups: Sequence[Hashable], folds: Sequence[Fold], neighbours: int = 5
) -> dict[str, dict[str, list[float]]]:
    """Scores of both probes on the test cases of every fold.

    Args:
        features: of each case.
        labels: class of each case.
        groups: patient of each case.
        folds: of :func:`~monai_ssl.metrics.fold_scores.grouped_folds`; the same folds for all features that are to be
            compared, so that differences pair.
        neighbours: of :func:`neighbour_probe`.

    Returns:
        ``{probe: {score: [one a fold]}}`` with the scores of :func:`~monai_ssl.metrics.fold_scores.class_scores`.

    Shape:
        - features: ``(N, F)``
        - labels: ``(N,)``
    """
    table, given = np.asarray(features, dtype=float), np.asarray(labels)
    _, classes = np.unique(given, return_inverse=True)
    _, patients = np.unique([str(group) for group in groups], return_inverse=True)
    scores: dict[str, dict[str, list[float]]] = {probe: {} for probe in PROBES}
    for train, test in folds:
        answers = {
            "linear": linear_probe(table[train], classes[train], patients[train], table[test]),
            "nearest_neighbours": neighbour_probe(table[train], classes[train], table[test], neighbours),
        }
        for probe, probabilities in answers.items():
            for score, value in class_scores(probabilities, classes[test]).items():
                scores[probe].setdefault(score, []).append(value)
    return scores


def linear_probe(features: Array, labels: Labels, groups: Labels, questions: Array, inner_folds: int = 3) -> Array:
    """Class probabilities by logistic regression on standardised features, every class weighing the same.

    Mean and deviation are those of the training cases. The strength of the regularisation is chosen among six by the
    balanced log loss of an inner cross-validation by patients, inside the training cases alone.

    Args:
        features: of the training cases.
        labels: their classes 0, 1, ...
        groups: their patients.
        questions: features of the cases in question.
        inner_folds: at most so many.

    Shape:
        - features: ``(N, F)``
        - questions: ``(M, F)``
        - Output: ``(M, K)``
    """
    strength = _best_strength(features, labels, groups, inner_folds)
    scaler = StandardScaler().fit(features)
    model = _logistic(strength).fit(scaler.transform(features), labels)
    answers: Array = model.predict_proba(scaler.transform(questions))
    return answers


def neighbour_probe(features: Array, labels: Labels, questions: Array, neighbours: int = 5) -> Array:
    """Shares of the classes among the nearest training cases, divided by the classes' shares in training.

    Near is a large cosine between features standardised as for :func:`linear_probe`. Divided by their shares, since
    a frequent class is among the neighbours of everything.

    Args:
        features: of the training cases.
        labels: their classes 0, 1, ...
        questions: features of the cases in question.
        neighbours: how many; all where there are fewer cases.

    Shape:
        - features: ``(N, F)``
        - questions: ``(M, F)``
        - Output: ``(M, K)``
    """
    near = KNeighborsClassifier(min(neighbours, len(labels)), metric="cosine")
    votes = make_pipeline(StandardScaler(), near).fit(features, labels).predict_proba(questions)
    fair = votes / np.bincount(labels)
    answers: Array = fair / fair.sum(axis=1, keepdims=True)
    return answers


def intensity_statistics(images: ArrayLike) -> Array:
    """What a scan's intensities say without looking at where they are: the baseline that features must beat.

    Mean, standard deviation, skewness, excess kurtosis, smallest and largest value, and the percentiles 1, 5, 25, 50,
    75, 95, 99 of each channel.

    Args:
        images: the scans.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - Output: ``(B, C * 13)``
    """
    values = np.asarray(images, dtype=float)
    flat = values.reshape(*values.shape[:2], -1)
    mean, deviation = flat.mean(-1), flat.std(-1)
    scaled = (flat - mean[..., None]) / np.where(deviation > 0, deviation, 1)[..., None]
    moments = [mean, deviation, (scaled**3).mean(-1), (scaled**4).mean(-1) - 3, flat.min(-1), flat.max(-1)]
    statistics = np.stack([*moments, *np.percentile(flat, _PERCENTILES, axis=-1)], axis=-1)
    return statistics.reshape(len(values), -1)


def _best_strength(features: Array, labels: Labels, groups: Labels, inner_folds: int) -> float:
    rarest = min(len(set(groups[labels == label])) for label in np.unique(labels))
    count = min(inner_folds, rarest)
    splits: list[Fold] = []
    if count > 1:
        inner = StratifiedGroupKFold(count, shuffle=True, random_state=0)
        splits = [fold for fold in inner.split(features, labels, groups) if set(labels[fold[0]]) == set(labels)]
    if not splits:
        return _UNCHOSEN
    tested = np.concatenate([test for _, test in splits])
    losses = np.zeros((len(_STRENGTHS), len(tested)))
    done = 0
    for train, test in splits:
        scaler = StandardScaler().fit(features[train])
        known, asked = scaler.transform(features[train]), scaler.transform(features[test])
        for row, strength in enumerate(_STRENGTHS):
            answers = _logistic(strength).fit(known, labels[train]).predict_proba(asked)
            own = answers[np.arange(len(test)), labels[test]]
            losses[row, done : done + len(test)] = -np.log(np.clip(own, 1e-12, None))
        done += len(test)
    # every class weighs the same, as in the fit
    balanced = [losses[:, labels[tested] == label].mean(axis=1) for label in np.unique(labels[tested])]
    return _STRENGTHS[int(np.argmin(np.mean(balanced, axis=0)))]


def _logistic(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
