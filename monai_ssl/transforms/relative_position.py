"""Relative position: of two tiles of a volume it is to be told how the second lies to the first."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked
from monai_ssl.utils.tiles import GRID, cut_tiles, normalize_tiles, tile_ranges, tile_sides

__all__ = [
    "RandRelativePosition",
    "RandRelativePositionD",
    "RandRelativePositionDict",
    "RandRelativePositiond",
]


class RandRelativePosition(RandBatchTransform):
    """Cut the centre tile of a volume and one of its 26 neighbours (8 in 2D), drawn with equal chances.

    A tile is cut at random inside its cell of a 3 x 3 x 3 grid, so that no edge goes on in the other tile. Every case
    is transformed: a skipped one would have no class.

    Args:
        tile: side of a tile in voxels, one number or one an axis; less than a third of the volume's side, so that
            there are gaps: 24 at a side of 96.
        spatial_dims: 3 for volumes, 2 for images.
        normalize: bring every tile and channel to mean 0 and standard deviation 1, against shortcuts by brightness.

    Attributes:
        extras: ``position``, the class, a row of :attr:`offsets`, int64; a scalar, or ``(B,)`` after :meth:`batch`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: ``(2, C, tile, tile[, tile])``, the centre first; without metadata

    Raises:
        ValueError: when an argument is out of range, or a volume is too small for the tiles.

    Reference:
        A. Taleb et al.: 3D Self-Supervised Methods for Medical Imaging, NeurIPS 2020,
        https://arxiv.org/abs/2006.03829, section 3.2; after C. Doersch et al.: Unsupervised Visual Representation
        Learning by Context Prediction, ICCV 2015, https://arxiv.org/abs/1505.05192. Ours: that tiles are normalized.
    """

    def __init__(self, tile: int | Sequence[int] = 24, spatial_dims: int = 3, normalize: bool = True) -> None:
        super().__init__(prob=1.0)
        self.sides = tile_sides(tile, spatial_dims)
        self.normalize = normalize

    @property
    def classes(self) -> int:
        """Number of neighbours: 26, or 8 in 2D."""
        return int(GRID ** len(self.sides)) - 1

    @property
    def chance_level(self) -> float:
        """Accuracy of guessing."""
        return 1.0 / self.classes

    @property
    def offsets(self) -> Tensor:
        """What each class means: steps of -1, 0 or 1 cell along each axis, ``(classes, spatial_dims)``."""
        steps = torch.cartesian_prod(*[torch.arange(GRID) - GRID // 2] * len(self.sides))
        return steps[steps.any(1)]

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the neighbour, and where both tiles start."""
        first, last = tile_ranges(shape[1:], self.sides)
        label, center = int(self.R.randint(self.classes)), self.classes // 2
        cells = [center, label + (label >= center)]
        return {"position": label, "starts": self.R.randint(first[cells], last[cells] + 1, dtype=np.int64)}

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Cut the two tiles."""
        tiles = cut_tiles(images, stacked(params, "starts"), self.sides)
        labels = stacked(params, "position", images.device)
        return normalize_tiles(tiles) if self.normalize else tiles, {"position": labels.long()}


class RandRelativePositiond(RandBatchTransformd):
    """Dictionary twin of :class:`RandRelativePosition`.

    Args:
        keys: images whose tiles are cut at the same places.
        position_key: entry for the class; None leaves it out.
        tile: see :class:`RandRelativePosition`.
        spatial_dims: see :class:`RandRelativePosition`.
        normalize: see :class:`RandRelativePosition`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        position_key: Hashable | None = "position",
        tile: int | Sequence[int] = 24,
        spatial_dims: int = 3,
        normalize: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandRelativePosition(tile, spatial_dims, normalize)
        extra_keys = {} if position_key is None else {"position": position_key}
        super().__init__(keys, transform, extra_keys, allow_missing_keys)


RandRelativePositionD = RandRelativePositionDict = RandRelativePositiond
