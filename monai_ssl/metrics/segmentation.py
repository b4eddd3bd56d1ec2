"""Dice, surface Dice and 95th percentile Hausdorff distance of label maps, and the summary that a run keeps of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from statistics import fmean
from typing import Any

import torch
from monai.metrics.meandice import compute_dice
from monai.metrics.utils import get_mask_edges, get_surface_distance
from torch import Tensor

from monai_ssl.utils.errors import UserError

__all__ = ["LOWER_IS_BETTER", "SCORE_NAMES", "case_record", "segmentation_scores", "summarise"]

SCORE_NAMES = ("dice", "surface_dice", "hausdorff_95")
LOWER_IS_BETTER = ("hausdorff_95",)
Scores = dict[str, float | None]

# A NIfTI affine is float32: a 1 mm spacing can read 1.0000001 and put every distance of 1 mm beyond a 1 mm tolerance.
_SPACING_DECIMALS = 4


def segmentation_scores(
    prediction: Tensor,
    label: Tensor,
    *,
    spacing: Sequence[float],
    class_names: Sequence[str],
    tolerance_mm: float = 1.0,
) -> dict[str, Scores]:
    r"""Score one predicted label map, class by class.

    With :math:`P, Y` the voxels of a class in prediction and label, :math:`\partial` their boundary voxels (what an
    erosion with the face neighbours removes) and :math:`d` the Euclidean distance in millimetres,

    .. math::
        \mathrm{Dice} &= \frac{2 |P \cap Y|}{|P| + |Y|} \\
        \mathrm{surface\ Dice} &= \frac{|\{p \in \partial P: d(p, \partial Y) \le \tau\}| +
            |\{y \in \partial Y: d(y, \partial P) \le \tau\}|}{|\partial P| + |\partial Y|} \\
        \mathrm{HD95} &= \max\left(Q_{0.95}\, d(p, \partial Y),\; Q_{0.95}\, d(y, \partial P)\right)

    A class that neither map contains has no score: all three are None, and it counts in no mean. A class that only
    one of the two contains scores 0 in Dice and in surface Dice; its Hausdorff distance is infinite, which no mean
    and no JSON can hold, so it is None, and :func:`summarise` reports how many such cases a mean leaves out.

    Args:
        prediction: predicted classes, 0 for background, ``i + 1`` for ``class_names[i]``; whole numbers in any dtype.
        label: reference classes in the same voxels.
        spacing: millimetres between voxels along each axis, rounded here to 0.0001 mm.
        class_names: names of the foreground classes, in order.
        tolerance_mm: the deviation :math:`\tau` of a boundary that still counts as right, in millimetres; 1 mm is
            about one voxel of a usual MRI.

    Shape:
        - prediction, label: ``(H, W, D)``

    Returns:
        ``{class name: {"dice": .., "surface_dice": .., "hausdorff_95": ..}}``.

    Raises:
        UserError: when the shapes differ, a value is no class, or the spacing or the tolerance is no length.

    Reference:
        Nikolov et al., "Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy", JMIR 2021,
        https://doi.org/10.2196/26151. As MONAI's ``compute_surface_dice`` does by default, the boundary is counted
        in voxels, not weighed by area: with very anisotropic voxels the two differ.
    """
    _check_lengths(prediction, label, spacing, tolerance_mm)
    prediction, label = _crop_to_foreground(_plain(prediction), _plain(label))
    prediction = _class_map("prediction", prediction, class_names)
    label = _class_map("label", label, class_names)
    dice = compute_dice(
        prediction[None, None],
        label[None, None],
        include_background=False,
        ignore_empty=False,
        num_classes=len(class_names) + 1,
    )[0]
    millimetres = [round(float(step), _SPACING_DECIMALS) for step in spacing]
    scores: dict[str, Scores] = {}
    for index, name in enumerate(class_names):
        predicted, reference = prediction == index + 1, label == index + 1
        if predicted.any() and reference.any():
            surface_dice, hausdorff_95 = _surface_scores(predicted, reference, millimetres, tolerance_mm)
            values: tuple[float | None, ...] = (float(dice[index]), surface_dice, hausdorff_95)
        elif predicted.any() or reference.any():
            values = (0.0, 0.0, None)
        else:
            values = (None, None, None)
        scores[name] = dict(zip(SCORE_NAMES, values, strict=True))
    return scores


def case_record(image: str, scores: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    """One case of ``metrics.json``: its file name, its scores and their mean over the classes that have one.

    Args:
        image: file of the case; only its name is kept, never its folder.
        scores: what :func:`segmentation_scores` returned.

    Returns:
        ``{"image": .., "mean": {score: ..}, "classes": {name: {score: ..}}}``.
    """
    classes = {name: dict(values) for name, values in scores.items()}
    mean = {score: _mean(values[score] for values in classes.values()) for score in SCORE_NAMES}
    return {"image": PurePath(image).name, "mean": mean, "classes": classes}


def summarise(
    cases: Sequence[Mapping[str, Any]],
    *,
    part: str,
    weights: str,
    list_name: str,
    class_names: Sequence[str],
    tolerance_mm: float,
) -> dict[str, Any]:
    """Summarise scored cases into the content of ``metrics.json``.

    ``mean`` is the mean over cases of each case's mean over classes; a score that is None takes part in neither.
    ``counts`` stands beside every mean that it qualifies: of ``cases``, how many are ``scored`` (the class, or for the
    file any class, is in the prediction or the label), and for how many, ``hausdorff_undefined``, a class is missing
    from one of the two, so that its infinite Hausdorff distance is left out of the mean (for the file the count is
    of pairs of case and class). Read the mean Hausdorff distance only together with that count.

    Args:
        cases: records of :func:`case_record`.
        part: part of the data list that was scored, ``"test"`` or ``"validation"``.
        weights: file of the weights; only its name is kept.
        list_name: file of the data list; only its name is kept.
        class_names: names of the foreground classes.
        tolerance_mm: tolerance of the surface Dice, in millimetres.

    Raises:
        UserError: when there is no case.
    """
    if not cases:
        raise UserError(f"`cases` must hold at least one scored case of part {part!r}, got none.")
    classes = {name: _summary([case["classes"][name] for case in cases]) for name in class_names}
    total = _summary([case["mean"] for case in cases])
    undefined = sum(summary["counts"]["hausdorff_undefined"] for summary in classes.values())
    return {
        "part": str(part),
        "weights": PurePath(weights).name,
        "list": PurePath(list_name).name,
        "tolerance_mm": float(tolerance_mm),
        "mean": {score: total[score] for score in SCORE_NAMES},
        "counts": {**total["counts"], "hausdorff_undefined": undefined},
        "classes": classes,
        "cases": [dict(case) for case in cases],
    }


def _summary(rows: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    scored = [row for row in rows if row["dice"] is not None]
    counts = {
        "cases": len(rows),
        "scored": len(scored),
        "hausdorff_undefined": sum(row["hausdorff_95"] is None for row in scored),
    }
    return {**{score: _mean(row[score] for row in rows) for score in SCORE_NAMES}, "counts": counts}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _surface_scores(
    predicted: Tensor, reference: Tensor, spacing: Sequence[float], tolerance_mm: float
) -> tuple[float, float]:
    # MONAI's two parts, not its compute_surface_dice and compute_hausdorff_distance: those search the neighbours once
    # each, and warn about an argument of MONAI's own at every call. The tests demand the same figures.
    predicted_edges, reference_edges = get_mask_edges(predicted, reference)
    to_reference = torch.as_tensor(get_surface_distance(predicted_edges, reference_edges, spacing=spacing))
    to_prediction = torch.as_tensor(get_surface_distance(reference_edges, predicted_edges, spacing=spacing))
    within = int((to_reference <= tolerance_mm).sum()) + int((to_prediction <= tolerance_mm).sum())
    hausdorff_95 = max(float(torch.quantile(distances, 0.95)) for distances in (to_reference, to_prediction))
    return within / (len(to_reference) + len(to_prediction)), hausdorff_95


def _crop_to_foreground(prediction: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Cut both to the joint box of all that is not 0; outside is background in both, as MONAI's edges assume."""
    foreground = (prediction != 0) | (label != 0)
    if not foreground.any():
        return prediction, label
    box = []
    for axis in range(foreground.ndim):
        occupied = torch.nonzero(foreground.movedim(axis, 0).flatten(1).any(dim=1))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return prediction[tuple(box)], label[tuple(box)]


def _check_lengths(prediction: Tensor, label: Tensor, spacing: Sequence[float], tolerance_mm: float) -> None:
    if prediction.shape != label.shape or prediction.ndim != len(spacing):
        raise UserError(
            "`prediction` and `label` must have one shape, with one `spacing` per axis, "
            f"got {tuple(prediction.shape)}, {tuple(label.shape)} and {len(spacing)} spacings."
        )
    if not all(0 < step < float("inf") for step in spacing):
        raise UserError(f"`spacing` must be positive millimetres, got {tuple(spacing)}.")
    if not 0 <= tolerance_mm < float("inf"):
        raise UserError(f"`tolerance_mm` must be a finite length >= 0, got {tolerance_mm}.")


def _plain(values: Tensor) -> Tensor:
    """The data of a ``MetaTensor``, on the CPU, where MONAI's distances are the same with and without cuCIM."""
    return values.detach().as_subclass(Tensor).cpu()


def _class_map(argument: str, values: Tensor, class_names: Sequence[str]) -> Tensor:
    classes = values.to(torch.int64)
    allowed = (classes == values) & (classes >= 0) & (classes <= len(class_names))
    if not allowed.all():
        raise UserError(
            f"`{argument}` must hold whole numbers from 0 to {len(class_names)} ({', '.join(class_names)}), "
            f"got {float(values[~allowed][0])}."
        )
    return classes
