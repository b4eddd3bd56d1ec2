"""Jigsaw: tiles of a volume are permuted, and which permutation it was is to be told."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked
from monai_ssl.utils.tiles import GRID, cut_tiles, normalize_tiles, tile_ranges, tile_sides

__all__ = [
    "RandJigsaw",
    "RandJigsawD",
    "RandJigsawDict",
    "RandJigsawd",
    "far_apart_permutations",
]


def far_apart_permutations(tiles: int = 27, count: int = 100, seed: int = 0, candidates: int = 10_000) -> Tensor:
    r"""A table of permutations that differ from each other in many places.

    From a pool :math:`P` of random permutations the first is taken, then one after the other that which is farthest
    from its nearest among the taken :math:`S`: :math:`\arg\max_{p \in P} \min_{s \in S} \sum_i [p_i \ne s_i]`.
    Only integers are drawn and compared, so that every machine gets the same table.

    Args:
        tiles: length of a permutation, from 2.
        count: number of permutations, from 2.
        seed: of the pool.
        candidates: size of the pool.

    Shape:
        - Output: ``(count, tiles)``, int64

    Raises:
        ValueError: when an argument is out of range, or the pool holds too few different permutations.

    Reference:
        M. Noroozi, P. Favaro: Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles, ECCV 2016,
        https://arxiv.org/abs/1603.09246, where the pool holds all permutations of 9 tiles; those of 27 are too many.
    """
    if tiles < 2 or count < 2 or candidates < count:
        raise ValueError(
            f"`tiles` and `count` must be 2 or more and `candidates` `count` or more, got {tiles}, {count} and "
            f"{candidates}."
        )
    state = np.random.RandomState(seed)
    columns = np.arange(candidates)
    pool = np.repeat(np.arange(tiles, dtype=np.int64)[:, None], candidates, axis=1)  # a column each: summed fastest
    for last in range(tiles - 1, 0, -1):  # Fisher and Yates's shuffle, of all columns at once
        other = state.randint(0, last + 1, size=candidates, dtype=np.int64)
        pool[last, columns], pool[other, columns] = pool[other, columns], pool[last, columns]
    taken = [0]
    nearest = (pool != pool[:, :1]).sum(0)
    while len(taken) < count:
        best = int(nearest.argmax())
        if nearest[best] == 0:
            raise ValueError(
                f"`count` {count} is more than the {len(taken)} different permutations of {tiles} tiles among "
                f"{candidates} candidates: ask for fewer, or draw more."
            )
        taken.append(best)
        nearest = np.minimum(nearest, (pool != pool[:, best, None]).sum(0))
    return torch.from_numpy(pool[:, taken].T.copy())


class RandJigsaw(RandBatchTransform):
    """Cut a volume into 27 tiles (an image into 9) and stack them in the order of a drawn permutation.

    A tile is cut at random inside its cell of a 3 x 3 x 3 grid, so that no edge goes on in the next tile. All
    permutations of the table are equally likely, and every case is transformed: a skipped one would have no class.

    Args:
        tile: side of a tile in voxels, one number or one an axis; less than a third of the volume's side, so that
            there are gaps: 24 at a side of 96.
        spatial_dims: 3 for volumes, 2 for images.
        count: number of permutations, the classes.
        seed: of the table of permutations, not of the draws.
        permutations: a table from a checkpoint; ``count`` and ``seed`` are not used then.
        normalize: bring every tile and channel to mean 0 and standard deviation 1, against shortcuts by brightness.

    Attributes:
        permutations: the table, ``(classes, 27)``, int64: output tile ``i`` of class ``k`` is the volume's tile
            ``permutations[k, i]``, cells counted in row-major order. A head that was trained with one table is of no
            use with another, so it belongs into the checkpoint.
        extras: ``permutation``, the class, int64; a scalar, or ``(B,)`` after :meth:`batch`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: ``(27, C, tile, tile, tile)``, ``(9, C, tile, tile)`` in 2D; without metadata

    Raises:
        ValueError: when an argument is out of range, the table holds something else than different permutations, or a
            volume is too small for the tiles.

    Reference:
        A. Taleb et al.: 3D Self-Supervised Methods for Medical Imaging, NeurIPS 2020,
        https://arxiv.org/abs/2006.03829, section 3.3. Ours: the greedy choice among a random pool,
        and that tiles are normalized.
    """

    def __init__(
        self,
        tile: int | Sequence[int] = 24,
        spatial_dims: int = 3,
        count: int = 100,
        seed: int = 0,
        permutations: Tensor | Sequence[Sequence[int]] | None = None,
        normalize: bool = True,
    ) -> None:
        super().__init__(prob=1.0)
        self.sides = tile_sides(tile, spatial_dims)
        self.normalize = normalize
        tiles = GRID**spatial_dims
        if permutations is None:
            self.permutations = far_apart_permutations(tiles, count, seed)
        else:
            self.permutations = torch.as_tensor(permutations).detach().to("cpu", torch.int64, copy=True)
            _check_table(self.permutations, tiles)

    @property
    def classes(self) -> int:
        """Number of permutations."""
        return len(self.permutations)

    @property
    def chance_level(self) -> float:
        """Accuracy of guessing."""
        return 1.0 / self.classes

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the permutation, and where each tile starts."""
        first, last = tile_ranges(shape[1:], self.sides)
        label = int(self.R.randint(self.classes))
        starts = self.R.randint(first, last + 1, dtype=np.int64)
        return {"permutation": label, "starts": starts[self.permutations[label].numpy()]}

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Cut the tiles, in the permutation's order."""
        tiles = cut_tiles(images, stacked(params, "starts"), self.sides)
        labels = stacked(params, "permutation", images.device)
        return normalize_tiles(tiles) if self.normalize else tiles, {"permutation": labels.long()}


class RandJigsawd(RandBatchTransformd):
    """Dictionary twin of :class:`RandJigsaw`.

    Args:
        keys: images that are cut and permuted alike.
        permutation_key: entry for the class; None leaves it out.
        tile: see :class:`RandJigsaw`.
        spatial_dims: see :class:`RandJigsaw`.
        count: see :class:`RandJigsaw`.
        seed: see :class:`RandJigsaw`.
        permutations: see :class:`RandJigsaw`.
        normalize: see :class:`RandJigsaw`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        permutation_key: Hashable | None = "permutation",
        tile: int | Sequence[int] = 24,
        spatial_dims: int = 3,
        count: int = 100,
        seed: int = 0,
        permutations: Tensor | Sequence[Sequence[int]] | None = None,
        normalize: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandJigsaw(tile, spatial_dims, count, seed, permutations, normalize)
        extra_keys = {} if permutation_key is None else {"permutation": permutation_key}
        super().__init__(keys, transform, extra_keys, allow_missing_keys)


RandJigsawD = RandJigsawDict = RandJigsawd


def _check_table(table: Tensor, tiles: int) -> None:
    shaped = table.ndim == 2 and table.shape[0] > 1 and table.shape[1] == tiles
    if not shaped or not bool((table.sort(1).values == torch.arange(tiles)).all()):
        raise ValueError(f"`permutations` must be two or more permutations of 0 to {tiles - 1}, one a row.")
    if len(table.unique(dim=0)) < len(table):
        raise ValueError("`permutations` must differ from each other: equal rows would be two classes of one task.")
