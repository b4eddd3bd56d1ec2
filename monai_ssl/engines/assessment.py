"""What pretrained features are worth as they are: probes of them, of a random encoder's and of plain intensities."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.engines import Evaluator
from numpy.typing import NDArray
from torch import nn

from monai_ssl.engines.embedding import describe_scans
from monai_ssl.engines.voxel_table import voxel_table
from monai_ssl.metrics.fold_scores import FoldInterval, case_interval, fold_interval, grouped_folds
from monai_ssl.metrics.probes import intensity_statistics, probe_scores
from monai_ssl.metrics.voxel_probe import fit_voxel_probe
from monai_ssl.networks.frozen_features import FrozenEncoder, Neighbourhood, TiledVector, random_network
from monai_ssl.networks.voxel_readout import VoxelReadout
from monai_ssl.utils.errors import UserError

__all__ = ["ClassAssessment", "MaskAssessment", "compare_features"]

logger = logging.getLogger(__name__)

PRETRAINED, RANDOM, INTENSITY = "pretrained", "random", "intensity"
Scores = NDArray[np.float64]


class ClassAssessment:
    """Linear and nearest-neighbour probe of whole scans' classes, cross-validated by patients.

    Args:
        network: with the weights in question.
        definition: plain values of ``network_def``, of which networks with random weights are made.
        loader: gives the cases' images one by one, in their order.
        cases: ``{"label": class, "patient": name, ..}``.
        patch_size: voxels of a tile, see :class:`~monai_ssl.networks.frozen_features.TiledVector`.
        levels: see :class:`~monai_ssl.networks.frozen_features.FrozenEncoder`.
        pooling: see :class:`~monai_ssl.networks.frozen_features.TiledVector`.
        random_seeds: how many random encoders the baseline is the mean of.
        folds: see :func:`~monai_ssl.metrics.fold_scores.grouped_folds`.
        repeats: see there.
        neighbours: of the nearest-neighbour probe.
        seed: of the random weights and of the folds.
        device: where the networks run.
    """

    def __init__(
        self,
        network: nn.Module,
        definition: Mapping[str, Any],
        loader: Iterable[Mapping[str, Any]],
        cases: Sequence[Mapping[str, Any]],
        patch_size: Sequence[int],
        *,
        levels: Any = "deepest",
        pooling: Any = "mean",
        random_seeds: int = 5,
        folds: int = 5,
        repeats: int = 10,
        neighbours: int = 5,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.loader, self.cases, self.device = loader, cases, device
        self.folds, self.repeats, self.neighbours, self.seed = folds, repeats, neighbours, seed
        encoders = _encoders(network, definition, random_seeds, seed, levels)
        vectors = {name: TiledVector(maps, patch_size, pooling).to(device) for name, maps in encoders.items()}
        self.describers: dict[str, Callable[..., Any]] = {**vectors, INTENSITY: _statistics}

    def run(self) -> dict[str, Any]:
        """Probe, and return figures for ``assessment.json``.

        Raises:
            UserError: when the classes have too few patients for the folds.
        """
        labels = np.array([case["label"] for case in self.cases])
        groups = [case["patient"] for case in self.cases]
        dealt = grouped_folds(labels, groups, self.folds, self.repeats, self.seed)
        tables = describe_scans(self.loader, self.describers, self.device)
        scores: dict[str, dict[str, Scores]] = {}
        for name, table in tables.items():
            found = probe_scores(table, labels, groups, dealt, self.neighbours)
            scores[name] = {
                f"{probe}: {score}": np.array(values) for probe, by in found.items() for score, values in by.items()
            }
            logger.info(f"{name}: linear ROC AUC {scores[name]['linear: roc_auc'].mean():.3f}")
        classes = {str(label): count for label, count in sorted(Counter(labels.tolist()).items())}
        return {
            "labels": "class",
            "cases": len(labels),
            "patients": len(set(groups)),
            "classes": classes,
            "chance": {"balanced_accuracy": 1 / len(classes), "roc_auc": 0.5},
            "lengths": _named_once({name: table.shape[1] for name, table in tables.items()}),
            "folds": self.folds,
            "repeats": self.repeats,
            "neighbours": self.neighbours,
            **compare_features(scores, lambda values: fold_interval(values, self.folds)),
        }


class MaskAssessment:
    """Linear probe of voxels: a readout is fitted to voxels of training cases and segments the evaluation cases.

    Args:
        network: with the weights in question.
        definition: as for :class:`ClassAssessment`.
        loader: gives the training cases' images and masks, see :func:`~monai_ssl.engines.voxel_table.voxel_table`.
        evaluator: of the evaluation cases, with a :class:`~monai_ssl.handlers.SegmentationReport`; its network is
            replaced.
        classes: number of classes, background included.
        patch_size: voxels of a tile, as of the evaluator's sliding window.
        random_seeds: how many random encoders the baseline is the mean of.
        voxels_per_class: voxels of each class that are drawn from each training case.
        seed: of the random weights and of the draw.
        device: where the networks run.
    """

    def __init__(
        self,
        network: nn.Module,
        definition: Mapping[str, Any],
        loader: Iterable[Mapping[str, Any]],
        evaluator: Evaluator,
        classes: int,
        patch_size: Sequence[int],
        *,
        random_seeds: int = 3,
        voxels_per_class: int = 200,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.loader, self.evaluator, self.classes, self.device = loader, evaluator, classes, device
        self.patch_size, self.voxels_per_class, self.seed = tuple(patch_size), voxels_per_class, seed
        encoders = _encoders(network, definition, random_seeds, seed, "all")
        self.maps = {name: maps.to(device) for name, maps in {**encoders, INTENSITY: Neighbourhood()}.items()}

    def run(self) -> dict[str, Any]:
        """Probe, and return figures for ``assessment.json``.

        Raises:
            UserError: when the training masks are of one class, or fewer than two evaluation cases have a class.
        """
        table = voxel_table(self.loader, self.maps, self.patch_size, self.voxels_per_class, self.seed, self.device)
        scores: dict[str, dict[str, Scores]] = {}
        for name, maps in self.maps.items():
            probe = fit_voxel_probe(table.features[name], table.labels, table.counts, table.cases, self.classes)
            readout = VoxelReadout(maps, torch.from_numpy(probe.weight), torch.from_numpy(probe.bias))
            self.evaluator.network = readout.to(self.device)
            self.evaluator.run()
            cases = self.evaluator.state.summary["cases"]
            scores[name] = {"dice": np.array([case["mean"]["dice"] for case in cases], dtype=float)}
            logger.info(f"{name}: mean Dice {np.nanmean(scores[name]['dice']):.3f}")
        # a case without any class in mask and prediction has no Dice; it counts where it has one for all
        known = np.isfinite([values["dice"] for values in scores.values()]).all(axis=0)
        if known.sum() < 2:
            raise UserError(f"{known.sum()} of {known.size} evaluation cases have a Dice: two are needed at least.")
        return {
            "labels": "mask",
            "training_cases": int(table.cases.max()) + 1,
            "cases": int(known.sum()),
            "voxels": len(table.labels),
            "lengths": _named_once({name: values.shape[1] for name, values in table.features.items()}),
            **compare_features(
                {name: {"dice": values["dice"][known]} for name, values in scores.items()}, case_interval
            ),
        }


def compare_features(
    scores: Mapping[str, Mapping[str, Scores]], interval: Callable[[Scores], FoldInterval]
) -> dict[str, Any]:
    """Means and paired differences with intervals; the random encoders count as one, by their mean.

    Args:
        scores: by feature set and score, one a fold or a case; the random encoders' sets are named ``random 1``, ...
        interval: of such scores.

    Returns:
        ``{"features": {set: {score: {mean, low, high}}}, "differences": {"pretrained - set": ..}}``; ``random`` has
        the mean of every single encoder too, as ``per_seed``.
    """
    names = list(scores[PRETRAINED])
    random = [values for name, values in scores.items() if _family(name) == RANDOM]
    sets: dict[str, dict[str, Scores]] = {}
    for family in (PRETRAINED, RANDOM, INTENSITY):
        members = [values for name, values in scores.items() if _family(name) == family]
        sets[family] = {name: np.mean([values[name] for values in members], axis=0) for name in names}
    features: dict[str, Any] = {
        family: {name: interval(values).as_dict() for name, values in by.items()} for family, by in sets.items()
    }
    for name in names:
        features[RANDOM][name]["per_seed"] = [float(np.mean(values[name])) for values in random]
    differences = {
        f"{PRETRAINED} - {family}": {
            name: interval(sets[PRETRAINED][name] - sets[family][name]).as_dict() for name in names
        }
        for family in (RANDOM, INTENSITY)
    }
    return {"features": features, "differences": differences}


def _encoders(
    network: nn.Module, definition: Mapping[str, Any], seeds: int, seed: int, levels: Any
) -> dict[str, FrozenEncoder]:
    if seeds < 1:
        raise UserError(f"random_seeds must be 1 or more, got {seeds}.")
    networks = {PRETRAINED: network}
    networks |= {f"{RANDOM} {number}": random_network(definition, seed + number) for number in range(1, seeds + 1)}
    return {name: FrozenEncoder(member, levels) for name, member in networks.items()}


def _statistics(image: torch.Tensor) -> Scores:
    return intensity_statistics(image.cpu().numpy())


def _family(name: str) -> str:
    return name.split(" ")[0]


def _named_once(lengths: Mapping[str, int]) -> dict[str, int]:
    return {_family(name): length for name, length in lengths.items()}
