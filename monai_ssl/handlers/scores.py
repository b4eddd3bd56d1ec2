"""Scores every case of an evaluator and leaves them as JSON, with a picture of the worst, median and best case."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from ignite.engine import Engine
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import ResampleToMatch
from torch import Tensor

from monai_ssl.handlers.base import CaseReport
from monai_ssl.metrics.segmentation import case_record, segmentation_scores, summarise
from monai_ssl.utils.errors import UserError

__all__ = ["SegmentationReport"]


class CaseDrawer(Protocol):
    """What ``overlay`` must offer; :class:`monai_ssl.handlers.pictures.Overlay` does."""

    def clear(self) -> None: ...

    def add(self, name: str, dice: float | None, image: Any, label: Any, prediction: Any, affine: Any) -> None: ...

    def draw(self, class_names: Sequence[str]) -> None: ...


class SegmentationReport(CaseReport):
    """Score each case as it comes out of the evaluator and write ``metrics.json`` at the end.

    Attach it to a ``SupervisedEvaluator`` with ``decollate=True`` whose postprocessing leaves ``pred`` as a label map
    in the voxels of the input image, and ``label`` in the same voxels; the spacing is the label's. The mean Dice goes
    to ``engine.state.metrics["dice"]`` (NaN where no case has a class), the whole summary to
    ``engine.state.summary``. For several processes see
    :class:`~monai_ssl.handlers.base.CaseReport`.

    Args:
        output: the JSON file, or a function that is given the summary instead.
        class_names: names of the foreground classes; class ``i + 1`` is ``class_names[i]``.
        part: part of the data list that is scored, ``"test"`` or ``"validation"``.
        weights: file of the weights that are scored; its name goes into the summary.
        list_name: data list; its name goes into the summary.
        tolerance_mm: tolerance of the surface Dice, in millimetres; see
            :func:`monai_ssl.metrics.segmentation.segmentation_scores`.
        overlay: draws the cases, for example :class:`monai_ssl.handlers.pictures.Overlay`; None draws nothing.
    """

    def __init__(
        self,
        output: str | os.PathLike[str] | Callable[[dict[str, Any]], Any],
        class_names: Sequence[str],
        *,
        part: str,
        weights: str | os.PathLike[str],
        list_name: str | os.PathLike[str],
        tolerance_mm: float = 1.0,
        overlay: CaseDrawer | None = None,
    ) -> None:
        super().__init__(output, class_names, part, weights, list_name, overlay)
        self.tolerance_mm = tolerance_mm
        self.overlay = overlay

    def score_case(self, name: str, case: Mapping[str, Any]) -> dict[str, Any]:
        """The case's record, see :func:`monai_ssl.metrics.segmentation.case_record`.

        Raises:
            UserError: when the case lacks its prediction or label, or they do not fit.
        """
        missing = [key for key in ("pred", "label") if not isinstance(case.get(key), Tensor)]
        if missing:
            raise UserError(f"a case to score must have {' and '.join(missing)}, got {sorted(case)}.")
        prediction, label = _volume("pred", case["pred"]), _volume("label", case["label"])
        affine = case["label"].affine if isinstance(case["label"], MetaTensor) else torch.eye(4)
        scores = segmentation_scores(
            prediction,
            label,
            spacing=[float(step) for step in affine_to_spacing(affine)],
            class_names=self.class_names,
            tolerance_mm=self.tolerance_mm,
        )
        record = case_record(name, scores)
        if self.overlay is not None:
            # the prediction's grid, not the label's: it was inverted from the image and has the image's header
            grid = case["pred"] if isinstance(case["pred"], MetaTensor) else case["label"]
            image, voxels = _image_on(case["image"], grid)
            self.overlay.add(name, record["mean"]["dice"], image, label, prediction, voxels)
        return record

    def summarise(self, cases: list[dict[str, Any]]) -> dict[str, Any]:
        """See :func:`monai_ssl.metrics.segmentation.summarise`."""
        return summarise(
            cases,
            part=self.part,
            weights=self.weights,
            list_name=self.list_name,
            class_names=self.class_names,
            tolerance_mm=self.tolerance_mm,
        )

    def publish(self, engine: Engine, summary: dict[str, Any]) -> str:
        """Mean Dice into the engine's state."""
        dice = summary["mean"]["dice"]
        engine.state.metrics["dice"] = float("nan") if dice is None else dice
        scored = "no class in any case" if dice is None else f"mean Dice {dice:.4f}"
        return f"{scored} over {len(summary['cases'])} cases"

    def draw(self, summary: dict[str, Any]) -> None:
        """The overlay of worst, median and best case."""
        if self.overlay is not None:
            self.overlay.draw(self.class_names)


def _volume(key: str, values: Tensor) -> Tensor:
    if values.ndim != 4 or values.shape[0] != 1:
        raise UserError(f"`{key}` must be a label map of shape (1, H, W, D), got {tuple(values.shape)}.")
    return values.detach().as_subclass(Tensor)[0].cpu()


def _image_on(image: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """First channel of the image in the voxels of ``grid``, and their affine; the model's own grid may be another."""
    first = image[:1]
    if not isinstance(first, MetaTensor) or not isinstance(grid, MetaTensor):
        return first[0].detach().cpu(), torch.eye(4)
    if first.shape[1:] != grid.shape[1:] or not torch.allclose(first.affine, grid.affine, atol=1e-4):
        first = ResampleToMatch(mode="bilinear", padding_mode="border")(first, grid)
    return _volume("image", first), grid.affine.cpu()
