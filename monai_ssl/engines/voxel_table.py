"""Features of voxels that are drawn from labelled scans, for a probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from monai_ssl.engines.prepare_batch import prepare_streams
from monai_ssl.networks.frozen_features import tiles_of
from monai_ssl.networks.voxel_readout import read_voxels
from monai_ssl.utils.seeding import derive_seed

__all__ = ["VoxelTable", "draw_voxels", "voxel_table"]


@dataclass(frozen=True)
class VoxelTable:
    """Voxels of all cases, one a row.

    Attributes:
        features: by name of the feature set, ``(N, F)``.
        labels: ``(N,)``, the classes.
        counts: ``(N,)``, how many voxels of the case and class each stands for.
        cases: ``(N,)``, the number of the case.
    """

    features: dict[str, NDArray[np.float64]]
    labels: NDArray[np.int64]
    counts: NDArray[np.float64]
    cases: NDArray[np.int64]


def draw_voxels(label: Tensor, per_class: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw up to ``per_class`` voxels of every class, without replacement.

    Args:
        label: the mask.
        per_class: voxels of each class; all where there are fewer.
        seed: of the draw.

    Returns:
        Indices of the voxels, their classes, and how many each stands for.

    Shape:
        - label: ``(H, W[, D])``
        - Output: ``(N, axes)``, ``(N,)``, ``(N,)``
    """
    generator = torch.Generator().manual_seed(seed)
    flat = label.flatten().long().cpu()
    chosen, counts = [], []
    for value in flat.unique():
        there = torch.nonzero(flat == value)[:, 0]
        drawn = there[torch.randperm(len(there), generator=generator)[:per_class]]
        chosen.append(drawn)
        counts.append(torch.full((len(drawn),), len(there) / len(drawn), dtype=torch.float64))
    index = torch.cat(chosen)
    points = torch.stack(torch.unravel_index(index, label.shape), dim=1)
    return points, flat[index], torch.cat(counts)


def voxel_table(
    loader: Iterable[Mapping[str, Any]],
    maps: Mapping[str, nn.Module],
    patch_size: tuple[int, ...],
    per_class: int = 200,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> VoxelTable:
    """Draw voxels of every labelled scan and read all feature sets at the same ones.

    A scan goes through an encoder in tiles as in :class:`~monai_ssl.networks.frozen_features.TiledVector`; a voxel in
    two tiles is read in the last.

    Args:
        loader: gives ``{"image": (1, C, H, W[, D]), "label": (1, 1, H, W[, D])}``, one scan at a time.
        maps: by name, images to a list of maps, on ``device``.
        patch_size: voxels of a tile along each axis.
        per_class: voxels of each class in each case.
        seed: of the draw.
        device: where the scans go.
    """
    features: dict[str, list[Tensor]] = {name: [] for name in maps}
    labels, counts, cases = [], [], []
    for number, batch in enumerate(loader):
        scan = prepare_streams({"scan": batch}, device)["scan"]
        points, classes, weights = draw_voxels(scan["label"][0, 0], per_class, derive_seed(seed, "voxels", number))
        tiles = tiles_of(scan["image"], patch_size)
        owner = torch.zeros(len(points), dtype=torch.long)
        starts = torch.tensor([[side.start for side in place] for place, _ in tiles])
        for tile, start in enumerate(starts):
            owner[((points >= start) & (points < start + torch.tensor(patch_size))).all(dim=1)] = tile
        order = torch.argsort(owner, stable=True)
        for name, module in maps.items():
            for tile in owner.unique().tolist():
                inside = (points[owner == tile] - starts[tile]).to(device)
                with torch.no_grad():
                    features[name].append(read_voxels(module(tiles[tile][1]), inside, patch_size).cpu())
        labels.append(classes[order])
        counts.append(weights[order])
        cases.append(torch.full_like(classes, number))
    return VoxelTable(
        {name: torch.cat(found).double().numpy() for name, found in features.items()},
        torch.cat(labels).numpy(),
        torch.cat(counts).numpy(),
        torch.cat(cases).numpy(),
    )
