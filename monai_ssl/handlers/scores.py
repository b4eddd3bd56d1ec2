"""Scores every case of an evaluator and leaves them as JSON, with a picture of the worst, median and best case."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Protocol

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import ResampleToMatch
from monai.utils import ImageMetaKey
from torch import Tensor

from monai_ssl.metrics.segmentation import case_record, segmentation_scores, summarise
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import write_json

__all__ = ["SegmentationReport"]

logger = logging.getLogger(__name__)


class CaseDrawer(Protocol):
    """What ``overlay`` must offer; :class:`monai_ssl.handlers.pictures.Overlay` does."""

    def clear(self) -> None: ...

    def add(self, name: str, dice: float | None, image: Any, label: Any, prediction: Any, affine: Any) -> None: ...

    def draw(self, class_names: Sequence[str]) -> None: ...


class SegmentationReport:
    """Score each case as it comes out of the evaluator and write ``metrics.json`` at the end.

    Attach it to a ``SupervisedEvaluator`` with ``decollate=True`` whose postprocessing leaves ``pred`` as a label map
    in the voxels of the input image, and ``label`` in the same voxels; the spacing is the label's. The mean Dice goes
    to ``engine.state.metrics["dice"]`` (NaN where no case has a class), the whole summary to
    ``engine.state.segmentation_summary``. With several processes the cases of all are gathered, and the first process
    writes; the overlay then chooses among the first process's cases. Give each case to one process only.

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
        self.output = output
        self.class_names = list(class_names)
        self.part = part
        self.weights = os.fspath(weights)
        self.list_name = os.fspath(list_name)
        self.tolerance_mm = tolerance_mm
        self.overlay = overlay
        self.cases: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Hang on to the start of the run, each iteration and the end."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.score)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Forget the cases of the run before."""
        self.cases = []
        if self.overlay is not None:
            self.overlay.clear()

    def score(self, engine: Engine) -> None:
        """Score the cases of this iteration and let go of their volumes.

        Raises:
            UserError: when a case lacks its prediction or label, or they do not fit; the case's file is named.
        """
        if not isinstance(engine.state.output, list) or not isinstance(engine.state.batch, list):
            raise UserError("`SegmentationReport` must be attached to an evaluator with decollate=True.")
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            self._score_case({**batch, **output})

    def finish(self, engine: Engine) -> None:
        """Summarise, publish and write.

        Raises:
            UserError: when there was no case.
        """
        cases = self.cases
        if idist.get_world_size() > 1:
            cases = [case for part in _gather(self.cases) for case in part]
        summary = summarise(
            cases,
            part=self.part,
            weights=self.weights,
            list_name=self.list_name,
            class_names=self.class_names,
            tolerance_mm=self.tolerance_mm,
        )
        dice = summary["mean"]["dice"]
        engine.state.metrics["dice"] = float("nan") if dice is None else dice
        engine.state.segmentation_summary = summary
        if idist.get_rank() != 0:
            return
        scored = "no class in any case" if dice is None else f"mean Dice {dice:.4f}"
        logger.info(f"{self.part}: {scored} over {len(cases)} cases")
        if callable(self.output):
            self.output(summary)
        else:
            write_json(Path(self.output), summary)
        if self.overlay is not None:
            self.overlay.draw(self.class_names)

    def _score_case(self, case: Mapping[str, Any]) -> None:
        name = _file_name(case)
        missing = [key for key in ("pred", "label") if not isinstance(case.get(key), Tensor)]
        if missing:
            raise UserError(f"{name}: a case to score must have {' and '.join(missing)}, got {sorted(case)}.")
        prediction, label = _volume(name, "pred", case["pred"]), _volume(name, "label", case["label"])
        affine = case["label"].affine if isinstance(case["label"], MetaTensor) else torch.eye(4)
        try:
            scores = segmentation_scores(
                prediction,
                label,
                spacing=[float(step) for step in affine_to_spacing(affine)],
                class_names=self.class_names,
                tolerance_mm=self.tolerance_mm,
            )
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        record = case_record(name, scores)
        self.cases.append(record)
        if self.overlay is not None:
            # the prediction's grid, not the label's: it was inverted from the image and has the image's header
            grid = case["pred"] if isinstance(case["pred"], MetaTensor) else case["label"]
            image, voxels = _image_on(case["image"], grid)
            self.overlay.add(name, record["mean"]["dice"], image, label, prediction, voxels)


def _gather(cases: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    gathered: list[list[dict[str, Any]]] = [[] for _ in range(idist.get_world_size())]
    torch.distributed.all_gather_object(gathered, cases)
    return gathered


def _file_name(case: Mapping[str, Any]) -> str:
    for key in ("image", "label"):
        path = case[key].meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(case.get(key), MetaTensor) else None
        if path:
            return PurePath(str(path)).name
    return "case without a file name"


def _volume(name: str, key: str, values: Tensor) -> Tensor:
    if values.ndim != 4 or values.shape[0] != 1:
        raise UserError(f"{name}: `{key}` must be a label map of shape (1, H, W, D), got {tuple(values.shape)}.")
    return values.detach().as_subclass(Tensor)[0].cpu()


def _image_on(image: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """First channel of the image in the voxels of ``grid``, and their affine; the model's own grid may be another."""
    first = image[:1]
    if not isinstance(first, MetaTensor) or not isinstance(grid, MetaTensor):
        return first[0].detach().cpu(), torch.eye(4)
    if first.shape[1:] != grid.shape[1:] or not torch.allclose(first.affine, grid.affine, atol=1e-4):
        first = ResampleToMatch(mode="bilinear", padding_mode="border")(first, grid)
    return _volume("image", "image", first), grid.affine.cpu()
