"""The boxes of every scan as files, as they are found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor

from monai_ssl.data.box_files import write_boxes, write_markups
from monai_ssl.data.images import prediction_path
from monai_ssl.handlers.base import file_name

__all__ = ["BoxWriter"]


class BoxWriter:
    """Write ``<stem>_boxes.json`` and ``<stem>_boxes.mrk.json`` of each case of an evaluator.

    The first has all boxes and their scores, see :func:`~monai_ssl.data.box_files.write_boxes`; the second, which 3D
    Slicer opens, those above ``markups_threshold``, see :func:`~monai_ssl.data.box_files.write_markups`.

    Args:
        output_dir: their folder.
        class_names: of the classes 0, 1, ..
        markups_threshold: least score of a box that people are shown, in [0, 1].
        box_key: of the boxes, by centre and size in mm, RAS, ``(N, 6)``.
        label_key: of their classes, ``(N,)``.
        score_key: of their scores, ``(N,)``.

    Raises:
        ValueError: when ``markups_threshold`` is out of range.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        class_names: Sequence[str],
        markups_threshold: float = 0.5,
        box_key: str = "pred_box",
        label_key: str = "pred_label",
        score_key: str = "pred_score",
    ) -> None:
        if not 0.0 <= markups_threshold <= 1.0:
            raise ValueError(f"`markups_threshold` must be in [0, 1], got {markups_threshold}.")
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.markups_threshold = markups_threshold
        self.keys = (box_key, label_key, score_key)

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.write)

    def write(self, engine: Any) -> None:
        """Write the files of this iteration's cases."""
        for case, found in zip(engine.state.batch, engine.state.output, strict=True):
            boxes, labels, scores = (found[key].detach().cpu().as_subclass(Tensor) for key in self.keys)
            name = file_name(case)
            self.output_dir.mkdir(parents=True, exist_ok=True)
            write_boxes(
                prediction_path(name, self.output_dir, "boxes", ".json"), name, boxes, labels, scores, self.class_names
            )
            shown = scores >= self.markups_threshold
            path = prediction_path(name, self.output_dir, "boxes", ".mrk.json")
            write_markups(path, boxes[shown], labels[shown], scores[shown], self.class_names)
