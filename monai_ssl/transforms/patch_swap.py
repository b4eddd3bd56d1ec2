"""Patch swapping: pairs of patches change places; every intensity is kept, and the context is to be restored."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked

__all__ = ["RandPatchSwap", "RandPatchSwapD", "RandPatchSwapDict", "RandPatchSwapd", "patch_swap"]


def patch_swap(images: Tensor, corners: Tensor, patch: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Swap pairs of patches.

    Args:
        images: the batch; not changed.
        corners: first voxels of the two patches of every pair. All patches of a case are disjoint, so that voxels are
            permuted and the histogram is exactly kept.
        patch: their sides in voxels.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - corners: ``(B, S, 2, 2 or 3)``
        - Output: as ``images``, and the mask of the voxels that moved, ``(B, 1, H, W[, D])``, bool
    """
    shape, device = images.shape[2:], images.device
    strides = torch.tensor([shape[axis + 1 :].numel() for axis in range(len(shape))], device=device)
    inner = torch.cartesian_prod(*[torch.arange(side, device=device) for side in patch]).view(-1, len(patch))
    voxels = (corners * strides).sum(-1)[..., None] + (inner * strides).sum(-1)
    target, source = (index.flatten(1)[:, None].expand(-1, images.shape[1], -1) for index in (voxels, voxels.flip(2)))
    out = images.clone(memory_format=torch.contiguous_format)
    out.view(*images.shape[:2], -1).scatter_(2, target, images.flatten(2).gather(2, source))
    mask = torch.zeros(len(images), 1, *shape, dtype=torch.bool, device=device)
    mask.view(len(images), -1).scatter_(1, voxels.flatten(1), True)
    return out, mask


class RandPatchSwap(RandBatchTransform):
    """Swap pairs of disjoint patches of equal size.

    Patches are cells of a regular grid, drawn without replacement. The grid's offset is uniform over one patch along
    each axis; where too few cells fit then, over the voxels that the largest number of cells leaves free. Voxels at the
    border move less often than others, as with all patches that lie inside a volume.

    Args:
        swaps: number of pairs, from 1. 20 pairs of 8 voxels a side move 14 % of a patch of 48 x 64 x 48: give more, or
            larger ones, for larger volumes.
        patch: side of a patch in voxels, one number or one an axis.
        prob: see :class:`RandBatchTransform`.

    Attributes:
        extras: ``mask``, true where a voxel moved; ``(1, H, W[, D])``, with the batch's axis in front after
            :meth:`batch`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range, or a volume holds fewer than ``2 * swaps`` patches.

    Reference:
        L. Chen et al.: Self-Supervised Learning for Medical Image Analysis Using Image Context Restoration, Medical
        Image Analysis 58, 2019, https://doi.org/10.1016/j.media.2019.101539. There pairs are drawn one after the other
        and a later one may move a voxel again; here all are disjoint, so that the number of moved voxels is fixed and
        all pairs are swapped at once. Defaults are ours.
    """

    def __init__(self, swaps: int = 20, patch: int | Sequence[int] = 8, prob: float = 1.0) -> None:
        super().__init__(prob)
        if swaps < 1:
            raise ValueError(f"`swaps` must be 1 at least, got {swaps}.")
        sides = patch if isinstance(patch, Sequence) else [patch]
        if any(side < 1 or side != int(side) for side in sides):
            raise ValueError(f"`patch` must be whole voxels from 1, got {patch}.")
        self.swaps, self.sides = swaps, tuple(int(side) for side in sides)

    def patch(self, dimensions: int) -> tuple[int, ...]:
        """Sides of a patch in voxels.

        Raises:
            ValueError: when ``patch`` has another number of axes.
        """
        if len(self.sides) not in (1, dimensions):
            raise ValueError(f"`patch` must be one number or one for each of {dimensions} axes, got {self.sides}.")
        return (self.sides * dimensions)[:dimensions]

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the grid's offset, and the pairs."""
        lengths, patch = np.asarray(shape[1:]), np.asarray(self.patch(len(shape) - 1))
        most = int(np.prod(lengths // patch))
        if most < 2 * self.swaps:
            raise ValueError(
                f"`swaps` {self.swaps} needs {2 * self.swaps} patches of {tuple(patch.tolist())} voxels, and a volume"
                f" of {tuple(shape[1:])} holds {most}: swap fewer or smaller ones."
            )
        offset = self.R.randint(0, np.minimum(patch, lengths - patch + 1))
        if np.prod((lengths - offset) // patch) < 2 * self.swaps:
            offset = self.R.randint(0, lengths % patch + 1)
        grid = (lengths - offset) // patch
        cells = self.R.permutation(int(np.prod(grid)))[: 2 * self.swaps]
        corners = offset + patch * np.stack(np.unravel_index(cells, tuple(grid)), -1)
        return {"corners": corners.reshape(self.swaps, 2, -1)}

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Swap the pairs."""
        out, mask = patch_swap(images, stacked(params, "corners", images.device), self.patch(images.ndim - 2))
        return out, {"mask": mask}

    def skipped(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Nothing moves."""
        return images, {"mask": torch.zeros_like(images[:, :1], dtype=torch.bool)}


class RandPatchSwapd(RandBatchTransformd):
    """Dictionary twin of :class:`RandPatchSwap`.

    Args:
        keys: images whose patches are swapped, the same in all.
        mask_key: entry for the mask; None leaves it out.
        swaps: see :class:`RandPatchSwap`.
        patch: see :class:`RandPatchSwap`.
        prob: see :class:`RandPatchSwap`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: Hashable | None = "mask",
        swaps: int = 20,
        patch: int | Sequence[int] = 8,
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        extra_keys = {} if mask_key is None else {"mask": mask_key}
        super().__init__(keys, RandPatchSwap(swaps, patch, prob), extra_keys, allow_missing_keys)


RandPatchSwapD = RandPatchSwapDict = RandPatchSwapd
