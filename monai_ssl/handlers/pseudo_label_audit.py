"""Whether pseudo-labels are any good: what the network that makes them answers on labelled validation cases."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Protocol

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.utils import ImageMetaKey
from torch import Tensor, nn

from monai_ssl.metrics.calibration import expected_calibration_error, mean_confidence, reliability_counts
from monai_ssl.metrics.pseudo_labels import (
    agreement_counts,
    foreground_agreement,
    kept_label_counts,
    kept_share,
    precision_and_recall,
)
from monai_ssl.networks.fit import undisturbed
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write
from monai_ssl.utils.predictions import predicted_classes

__all__ = ["PseudoLabelAudit"]

logger = logging.getLogger(__name__)

Row = dict[str, float]

_PATIENCE = 0.25  # share of the run in which a class may not have been learned yet
_AS_MANY = 0.9  # share of the recall at which labels count as no fewer


class CountsDrawer(Protocol):
    """What ``picture`` must offer; :class:`monai_ssl.handlers.reliability_picture.ReliabilityPicture` does."""

    def draw(self, counts: Tensor, title: str) -> None: ...


class PseudoLabelAudit:
    r"""Compares pseudo-labels with the truth every ``interval`` steps and after the last one, and warns.

    The network that makes the labels (``objective.labeler``, else ``objective.deployed``) goes over labelled validation
    cases; where another one learns from it (``objective.learner``, else ``objective.network``), so does that. A row of
    the table has ``step``; ``kept`` and ``kept_foreground``, the share of the voxels (of those predicted as foreground)
    that the threshold keeps; for each class ``precision_<class>`` and ``recall_<class>`` of the kept labels and
    ``confidence_<class>``, the mean over the voxels that are predicted so; ``ece`` and ``ece_foreground``, the expected
    calibration error; ``agreement``, the Dice of the two networks over the foreground; ``confidence``, over all voxels.
    A cell is empty where there is nothing to divide by. See :mod:`monai_ssl.metrics.calibration` and
    :mod:`monai_ssl.metrics.pseudo_labels`. The figures are in ``engine.state.metrics``, too.

    It warns, once each time it begins,

    - of a term (each but ``supervised``) that weighs more than 0 and is exactly 0 for ``idle_steps`` steps on end: a
      mean over thousands of voxels is 0 where none was kept. A phase without the term is one at a weight of 0;
    - of a class that the labels contain and of which no voxel is kept: at once where one was kept before, else from a
      quarter of the run on, since a network first has to learn it;
    - of a class that is predicted with a mean confidence of ``confident`` or more while the precision of its kept
      labels is ``fall`` or more below that of an earlier row, which was no surer and had nine tenths of the recall or
      more. Without that condition the first labels, few and easy, would be a best that no good run reaches again.

    The defaults are set by reasoning: an epoch of 50 steps without one kept voxel is no bad luck; at a mean confidence
    of 0.95, FixMatch's threshold, a threshold sorts no longer; 0.05 is more than the precision over a few cases wavers
    between rows late in a run. The labels that a step learns from come from augmented patches, these from whole scans
    in overlapping windows, so that they are rather better.

    The validation cases count as labels; never give it test cases. The run is not disturbed by a bit. A resumed one
    drops the rows behind its checkpoint and ends with the table of an uninterrupted one; steps at 0 are counted anew.
    Place it after :class:`~monai_ssl.handlers.Resume` and before :class:`~monai_ssl.handlers.CheckpointWriter`.

    Args:
        loader: batches with ``image`` and ``label``, both in the network's own space, without random transforms.
        inferer: is called with a batch of images and a network and returns logits; as in validation, a sliding window.
        path: the table, such as ``audit.csv``.
        interval: optimiser steps between two rows; one takes as long as a validation, for two networks twice as long.
        class_names: names of the foreground classes; class ``i + 1`` is ``class_names[i]``.
        threshold: confidence above which the method keeps a label, in [0, 1); None: ``objective.label_threshold``, or
            where it has none 0, which keeps all.
        picture: draws the reliability counts of the last row; None draws nothing.
        idle_steps: see above, from 1.
        confident: see above, in [0, 1).
        fall: see above, in (0, 1].

    Raises:
        ValueError: when an argument is out of range.
        UserError: when the loader has no case, or a case lacks its label or does not fit.
    """

    def __init__(
        self,
        loader: Iterable[Mapping[str, Any]],
        inferer: Callable[[Tensor, nn.Module], Any],
        path: str | os.PathLike[str],
        interval: int,
        class_names: Sequence[str],
        threshold: float | None = None,
        picture: CountsDrawer | None = None,
        idle_steps: int = 50,
        confident: float = 0.95,
        fall: float = 0.05,
    ) -> None:
        for name, number in (("interval", interval), ("idle_steps", idle_steps)):
            if number < 1:
                raise ValueError(f"`{name}` must be at least 1 step, got {number}.")
        for name, share in (("threshold", threshold or 0.0), ("confident", confident)):
            if not 0.0 <= share < 1.0:
                raise ValueError(f"`{name}` must be in [0, 1), got {share}.")
        if not 0.0 < fall <= 1.0:
            raise ValueError(f"`fall` must be in (0, 1], got {fall}.")
        self.loader = loader
        self.inferer = inferer
        self.path = Path(path)
        self.interval = interval
        self.class_names = list(class_names)
        self.threshold = threshold
        self.picture = picture
        self.idle_steps = idle_steps
        self.confident, self.fall = confident, fall
        self._started = False
        self._rows: list[Row] = []
        self._told: set[str] = set()
        self._idle: Counter[str] = Counter()

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._watch_terms)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._look_if_due)

    def _start(self, engine: Any) -> None:
        if self._started or idist.get_rank() > 0:
            return
        self._started = True
        if engine.state.iteration > 0:
            self._rows = _rows_until(self.path, engine.state.iteration)
            self._told = set(self._alarms(engine))
        # a kill between here and the next row must not bring back what was dropped
        self._write()

    def _watch_terms(self, engine: Any) -> None:
        for name, term in engine.state.output["terms"].items() if idist.get_rank() == 0 else ():
            weight = engine.objective.weights.get(name, 1.0)
            idle = name != "supervised" and weight > 0 and not bool(term)
            self._idle[name] = self._idle[name] + 1 if idle else 0
            if self._idle[name] == self.idle_steps:
                logger.warning(
                    f"step {engine.state.iteration}: the term {name} has been exactly 0 for {self.idle_steps} steps at "
                    f"a weight of {weight:.3g}: nothing is learned from it. Where labels are kept by confidence, none "
                    "is sure enough: lower the threshold, or let the network learn longer from labelled cases first."
                )

    def _look_if_due(self, engine: Any) -> None:
        step = engine.state.iteration
        if idist.get_rank() > 0 or (step % self.interval and step != engine.total_steps):
            return
        device = engine.state.device
        with undisturbed(engine.objective, device):
            counts = self._count(engine.objective, device)
        figures = self._figures(counts)
        engine.state.metrics.update(figures)
        self._rows.append({"step": step, **figures})
        self._write()
        if self.picture is not None:
            self.picture.draw(counts["reliability"], f"Step {step}")
        alarms = self._alarms(engine)
        for name in sorted(alarms.keys() - self._told):
            logger.warning(alarms[name])
        self._told = set(alarms)

    def _count(self, objective: Any, device: torch.device) -> dict[str, Tensor]:
        """The tables over all cases."""
        labeler = getattr(objective, "labeler", objective.deployed)
        learner = getattr(objective, "learner", objective.network)
        classes = len(self.class_names) + 1
        total: dict[str, Tensor] = {}
        for batch in self.loader:
            missing = [name for name in ("image", "label") if not isinstance(batch.get(name), Tensor)]
            if missing:
                raise UserError(f"{_file_name(batch)}: a case to audit must have {' and '.join(missing)}.")
            image, label = (batch[name].as_subclass(Tensor) for name in ("image", "label"))
            image = image.to(device)
            probabilities = torch.softmax(self.inferer(image, labeler).float(), 1)
            if probabilities.shape[1] != classes:
                raise UserError(
                    f"the network answers with {probabilities.shape[1]} classes, background included, and "
                    f"`class_names` has {classes - 1} in front of it: {', '.join(self.class_names)}."
                )
            try:
                counts = {
                    "reliability": reliability_counts(probabilities, label),
                    "labels": kept_label_counts(probabilities, label, self._threshold(objective)),
                }
            except ValueError as error:
                raise UserError(f"{_file_name(batch)}: {error}") from error
            if learner is not labeler:
                other = self.inferer(image, learner)
                counts["agreement"] = agreement_counts(
                    predicted_classes(other), predicted_classes(probabilities), classes
                )
            total = {name: total[name] + table if total else table for name, table in counts.items()}
        if not total:
            raise UserError("pseudo-labels are compared with labelled validation cases, and there is none: add some.")
        return total

    def _threshold(self, objective: Any) -> float:
        return float(getattr(objective, "label_threshold", 0.0)) if self.threshold is None else self.threshold

    def _figures(self, counts: Mapping[str, Tensor]) -> Row:
        labels, reliability = counts["labels"], counts["reliability"]
        precision, recall = (figure.tolist() for figure in precision_and_recall(labels))
        row = {"kept": kept_share(labels), "kept_foreground": kept_share(labels[1:])}
        for number, name in enumerate(self.class_names, start=1):
            row |= {f"precision_{name}": precision[number], f"recall_{name}": recall[number]}
            row |= {f"confidence_{name}": mean_confidence(reliability[number])}
        row |= {"ece": expected_calibration_error(reliability)}
        row |= {"ece_foreground": expected_calibration_error(reliability[1:])}
        row |= {"agreement": foreground_agreement(counts["agreement"]) if "agreement" in counts else math.nan}
        return row | {"confidence": mean_confidence(reliability)}

    def _alarms(self, engine: Any) -> dict[str, str]:
        """What is wrong at the last row, by event."""
        alarms: dict[str, str] = {}
        for name in self.class_names if self._rows else ():
            alarms |= {f"vanished {name}": self._vanished(name, engine), f"worse {name}": self._surer_and_worse(name)}
        return {event: text for event, text in alarms.items() if text}

    def _vanished(self, name: str, engine: Any) -> str:
        last = self._rows[-1]
        labelled = not math.isnan(last[f"recall_{name}"])
        before = [row["step"] for row in self._rows if not math.isnan(row[f"precision_{name}"])]
        if not labelled or last["step"] in before or not (before or last["step"] >= _PATIENCE * engine.total_steps):
            return ""
        confidence = last[f"confidence_{name}"]
        why, remedy = "no voxel is predicted so", "weigh the class up in the supervised loss"
        if not math.isnan(confidence):
            least = self._threshold(engine.objective)
            why = f"predicted with a mean confidence of {confidence:.2f}, nowhere above the threshold of {least:g}"
            remedy = "lower the threshold"
        since = f"step {before[-1]:.0f} was the last with any" if before else "there never was any"
        return (
            f"step {last['step']:.0f}: no pseudo-label of the class {name} is left on the validation cases, though "
            f"their labels contain it ({why}; {since}). The unlabelled cases may teach that there is no {name}: "
            f"{remedy}, let the unsupervised weight rise later, or lower it."
        )

    def _surer_and_worse(self, name: str) -> str:
        precision, recall, confidence = (f"{figure}_{name}" for figure in ("precision", "recall", "confidence"))
        last = self._rows[-1]
        if not last[confidence] >= self.confident:
            return ""
        # comparisons with NaN are false: a row without kept labels is no best
        rows = [row for row in self._rows if row[precision] - last[precision] >= self.fall]
        rows = [row for row in rows if row[recall] >= _AS_MANY * last[recall] and row[confidence] <= last[confidence]]
        if not rows:
            return ""
        best = max(rows, key=lambda row: row[precision])
        return (
            f"step {last['step']:.0f}: the pseudo-labels of the class {name} grow surer and worse: mean confidence "
            f"{last[confidence]:.3f}, precision {last[precision]:.3f}, recall {last[recall]:.3f}; at step "
            f"{best['step']:.0f} {best[confidence]:.3f}, {best[precision]:.3f}, {best[recall]:.3f}. The network learns "
            "its own mistakes: lower the unsupervised weight, raise the threshold, or take fewer steps."
        )

    def _write(self) -> None:
        classes = [f"{figure}_{name}" for name in self.class_names for figure in ("precision", "recall", "confidence")]
        columns = ["step", "kept", "kept_foreground", *classes, "ece", "ece_foreground", "agreement", "confidence"]
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows({name: "" if math.isnan(row[name]) else row[name] for name in columns} for row in self._rows)
        atomic_write(self.path, lambda target: target.write(stream.getvalue().encode()))


def _rows_until(path: Path, step: int) -> list[Row]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    rows = [{name: float(cell or "nan") for name, cell in row.items()} for row in table]
    return [{**row, "step": int(row["step"])} for row in rows if row["step"] <= step]


def _file_name(batch: Mapping[str, Any]) -> str:
    image = batch.get("image")
    path = image.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(image, MetaTensor) else None
    return PurePath(str(path[0] if isinstance(path, list) else path)).name if path else "case without a file name"
