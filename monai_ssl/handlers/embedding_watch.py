"""Whether a pretraining learns anything: figures of its encoder's features on cases that stay the same."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_ssl.metrics.embeddings import effective_rank, feature_spread, majority_share, nearest_neighbour_accuracy
from monai_ssl.networks.encoder import encode
from monai_ssl.networks.fit import evaluation
from monai_ssl.networks.heads import ProjectionHead
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write

__all__ = ["EmbeddingWatch"]

logger = logging.getLogger(__name__)

Row = dict[str, float]

_FEW = 8  # cases below which a spread moves by chance, and no collapse is told
_LINE = 1.5  # effective rank of features that nearly lie on a line; healthy runs were seen to come down to 4


class EmbeddingWatch:
    r"""Embeds a few fixed cases every ``interval`` steps and tells what has become of the encoder's features.

    The deepest feature map, averaged over space, gives a row of ``embeddings.csv``: ``step``, ``feature_spread``,
    ``effective_rank``; for each projection head ``<head>_spread``; for labelled cases ``knn_accuracy`` (see
    :mod:`monai_ssl.metrics.embeddings`). Row 0 is the network before the first step, with which all others are to be
    compared. The figures are in ``engine.state.metrics``, too.

    It warns, once when it begins,

    - of a collapse of the features: a spread below ``collapse`` times that of step 0, or an effective rank below 1.5
      that was 3 or more, so that the features of all cases nearly lie on a line;
    - of a collapse of a projection head: a spread below ``head_collapse`` times that of step 0. A head can meet a term
      that only asks for agreement by itself, and the encoder then stays nearly as random as it was;
    - from the middle of the run on, of an accuracy within two standard errors of the commonest class's share.

    The effective rank is not compared with that of step 0: an encoder that learns rotations well comes down to an
    eighth of it, while one that only has to make views agree shrinks evenly and keeps it. Spread tells.

    Both thresholds were chosen on the same short runs of small U-Nets on hippocampus MRI and phantoms: four whose views
    only had to agree came below 0.4 within 20 to 160 steps; twelve that restored, told rotations, contrasted or had all
    terms of VICReg rose to 1.8 to 10 and were never below 0.6 (head 0.4) on the way; one that contrasted four scans was
    warned of, with a loss at chance. Silence is no proof of health: tiny networks on random volumes kept their features
    while their heads collapsed, and half of these heads stayed above the threshold for 120 steps.

    The run is not disturbed by a bit. A resumed one drops the rows behind its checkpoint and ends with the file of an
    uninterrupted one. Place it after :class:`~monai_ssl.handlers.Resume` and before
    :class:`~monai_ssl.handlers.CheckpointWriter`.

    Args:
        network: the very object that is trained: a :class:`~monai_ssl.networks.PretextNetwork`, or a bare network (see
            :func:`~monai_ssl.networks.encoder_taps`), whose heads are then not watched.
        loader: batches of items with an ``image``, in a fixed order and without random transforms. It is read once; the
            volumes stay in the CPU's memory, 64 of 48x64x48 voxels taking 38 MB, of 96x96x96 voxels 226 MB.
        path: the table.
        interval: optimiser steps between two rows; the last step has one, too.
        label: entry of the items with a class, a whole number, where they have one. It is looked at and not learned
            from.
        group: entry with the patient, where one may have several cases; these are then not each other's neighbours.
        cases: at most as many are taken, the loader's first; from 2, and from about 16 for steady figures. Of fewer
            than 8 no collapse is told.
        k: neighbours that vote, see :func:`~monai_ssl.metrics.embeddings.nearest_neighbour_accuracy`.
        collapse: see above, in [0, 1).
        head_collapse: see above, in [0, 1).

    Raises:
        ValueError: when an argument is out of range.
        UserError: at the start, when the loader has not two cases, or an entry is missing or no class; later, when the
            features are not finite.
    """

    def __init__(
        self,
        network: nn.Module,
        loader: Iterable[Mapping[str, Any]],
        path: str | os.PathLike[str],
        interval: int,
        label: str | None = None,
        group: str | None = None,
        cases: int = 64,
        k: int = 5,
        collapse: float = 0.4,
        head_collapse: float = 0.25,
    ) -> None:
        for name, value, least in (("interval", interval, 1), ("cases", cases, 2), ("k", k, 1)):
            if value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}.")
        for name, share in (("collapse", collapse), ("head_collapse", head_collapse)):
            if not 0.0 <= share < 1.0:
                raise ValueError(f"`{name}` must be in [0, 1), got {share}.")
        self.network = network
        self.loader = loader
        self.path = Path(path)
        self.interval = interval
        self.label, self.group = label, group
        self.cases = cases
        self.k = k
        self.collapse, self.head_collapse = collapse, head_collapse
        self._watched: _Cases | None = None
        self._rows: list[Row] = []
        self._told: set[str] = set()

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._look_if_due)

    def _start(self, engine: Any) -> None:
        if self._watched is not None or idist.get_rank() > 0:
            return
        with _random_state_kept(engine.state.device):
            self._watched = _read(self.loader, self.cases, self.label, self.group)
        if engine.state.iteration == 0:
            self._look(engine, self._watched)
            return
        self._rows = _rows_until(self.path, engine.state.iteration)
        # a kill between here and the next row must not bring back what was dropped
        atomic_write(self.path, lambda stream: stream.write(_table(self._rows)))
        self._told = set(self._alarms(self._watched, engine.total_steps)) if self._rows else set()

    def _look_if_due(self, engine: Any) -> None:
        step = engine.state.iteration
        if self._watched is not None and (step % self.interval == 0 or step == engine.total_steps):
            self._look(engine, self._watched)

    def _look(self, engine: Any, watched: _Cases) -> None:
        with _random_state_kept(engine.state.device), torch.no_grad(), evaluation(self.network):
            features, vectors = _embedded(self.network, watched.batches, engine.state.device)
        if not all(bool(torch.isfinite(table).all()) for table in (features, *vectors.values())):
            raise UserError(
                f"the encoder's features are not finite after step {engine.state.iteration}: check the scans for NaN "
                "and extreme intensities, or lower the learning rate."
            )
        figures = {"feature_spread": feature_spread(features), "effective_rank": effective_rank(features)}
        figures |= {f"{head}_spread": feature_spread(table) for head, table in vectors.items()}
        if watched.classes:
            figures["knn_accuracy"] = nearest_neighbour_accuracy(features, watched.classes, self.k, watched.groups)
        engine.state.metrics.update(figures)
        self._rows.append({"step": engine.state.iteration, **figures})
        atomic_write(self.path, lambda stream: stream.write(_table(self._rows)))
        alarms = self._alarms(watched, engine.total_steps)
        for name in sorted(alarms.keys() - self._told):
            logger.warning(alarms[name])
        self._told = set(alarms)

    def _alarms(self, watched: _Cases, total_steps: int) -> dict[str, str]:
        """What is wrong at the last row, by event."""
        last, first = self._rows[-1], self._rows[0]
        known = first["step"] == 0 and watched.count >= _FEW  # nor where a resumed run has lost its table
        alarms: dict[str, str] = {}
        (spread, rank), (wide, full) = ((row["feature_spread"], row["effective_rank"]) for row in (last, first))
        if known and (spread < self.collapse * wide or (rank < _LINE and full >= 2 * _LINE)):
            alarms["collapse"] = (
                f"step {last['step']}: the encoder's features collapse, scans look more and more alike to it: spread "
                f"{spread:.3g}, effective rank {rank:.3g}; at step 0 {wide:.3g} and {full:.3g}. Views that only have "
                "to agree do that: check the weights of the terms that keep scans apart, raise unlabeled_batch_size, "
                "or lower learning_rate."
            )
        for name in last.keys() & first.keys() - {"feature_spread"}:
            if known and name.endswith("_spread") and last[name] < self.head_collapse * first[name]:
                alarms[name] = (
                    f"step {last['step']}: the vectors of the head {name.removesuffix('_spread')} collapse, spread "
                    f"{last[name]:.3g}, at step 0 {first[name]:.3g}: to the term that reads them all scans are alike, "
                    "and the encoder learns no more from it. See to the terms and settings that keep scans apart."
                )
        if watched.classes and last["step"] >= max(total_steps / 2, 1):
            chance, accuracy = majority_share(watched.classes), last["knn_accuracy"]
            if accuracy <= chance + 2 * math.sqrt(chance * (1 - chance) / len(watched.classes)):
                before = f"{first['knn_accuracy']:.3f} at step 0, " if known and "knn_accuracy" in first else ""
                alarms["chance"] = (
                    f"step {last['step']}: the nearest neighbours of a labelled case tell its class no better than "
                    f"chance, {accuracy:.3f} of {len(watched.classes)} cases right ({before}{chance:.3f} by always "
                    "naming the commonest class). The task may teach nothing about these classes, or needs more steps."
                )
        return alarms


@dataclass(frozen=True)
class _Cases:
    batches: Sequence[Tensor]
    classes: Sequence[int]
    groups: Sequence[int] | None

    @property
    def count(self) -> int:
        return sum(map(len, self.batches))


def _read(loader: Iterable[Mapping[str, Any]], most: int, label: str | None, group: str | None) -> _Cases:
    batches: list[Tensor] = []
    classes: list[int] = []
    patients: list[str] = []
    left = most
    for batch in loader:
        images = _entry(batch, "image")[:left]
        batches.append(images.as_tensor() if isinstance(images, MetaTensor) else images)
        classes += [_class(value, label) for value in _entry(batch, label)[:left]] if label is not None else []
        patients += [str(value) for value in _entry(batch, group)[:left]] if group is not None else []
        left -= len(images)
        if left <= 0:
            break
    if most - left < 2:
        raise UserError(f"features are watched on two cases at least, got {most - left}: add cases.")
    if (label is not None and len(set(classes)) < 2) or (group is not None and len(set(patients)) < 2):
        raise UserError("features are watched by class on cases of two classes, and two patients, at least: add cases.")
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    return _Cases(batches, classes, [numbers[patient] for patient in patients] if group is not None else None)


def _embedded(network: nn.Module, batches: Sequence[Tensor], device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
    """The deepest map averaged over space, and the vectors of the projection heads by name."""
    bare, heads = network, {}
    if isinstance(network, PretextNetwork):
        bare = network.deployed
        heads = {name: head for name, head in network.heads.items() if isinstance(head, ProjectionHead)}
    features: list[Tensor] = []
    vectors: dict[str, list[Tensor]] = {name: [] for name in heads}
    for volumes in batches:
        maps = encode(bare, volumes.to(device))
        features.append(maps[-1].float().flatten(2).mean(2).cpu())
        for name, head in heads.items():
            vectors[name].append(head(maps).float().cpu())
    tables = {name: torch.cat(parts) for name, parts in vectors.items()}
    # a single number has no direction
    return torch.cat(features), {name: table for name, table in tables.items() if table.shape[1] > 1}


def _entry(batch: Mapping[str, Any], name: str) -> Any:
    if name not in batch:
        raise UserError(f"the cases whose features are watched have no entry {name!r}; they have {', '.join(batch)}.")
    return batch[name]


def _class(value: Any, name: str) -> int:
    try:
        if float(value).is_integer():
            return int(value)
    except (TypeError, ValueError, RuntimeError):  # a word, a whole label map
        pass
    raise UserError(f"the entry {name!r} of the cases whose features are watched must be a whole number, got {value}.")


def _random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    kept: AbstractContextManager[None] = torch.random.fork_rng([device] if device.type == "cuda" else [])
    return kept


def _table(rows: Sequence[Row]) -> bytes:
    # the columns of a run that was resumed with labels grow
    columns = dict.fromkeys(name for row in rows for name in row)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns)
    if rows:
        writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _rows_until(path: Path, step: int) -> list[Row]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    return [
        {name: int(cell) if name == "step" else float(cell) for name, cell in row.items() if cell}
        for row in table
        if int(row["step"]) <= step
    ]
