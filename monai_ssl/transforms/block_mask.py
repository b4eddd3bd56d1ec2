"""Block masking: blocks of a volume are hidden, to be restored."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal

import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked

__all__ = [
    "Fill",
    "RandBlockMask",
    "RandBlockMaskD",
    "RandBlockMaskDict",
    "RandBlockMaskd",
    "block_mask",
    "fill_masked",
]

Fill = Literal["zero", "mean", "noise", "other"]


def block_mask(grids: Tensor, block: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Voxels that lie in chosen blocks of a regular grid; the last block of an axis may be cut.

    Args:
        grids: true where a block is chosen.
        block: its sides in voxels.
        shape: of the volumes.

    Shape:
        - grids: ``(B, g1, g2[, g3])`` with ``ceil(shape / block)`` blocks along an axis
        - Output: ``(B, 1, H, W[, D])``, bool
    """
    mask = grids[:, None]
    # the last axis first, while the mask is small: the others then copy whole rows
    for axis in range(len(shape) - 1, -1, -1):
        mask = mask.repeat_interleave(block[axis], dim=axis + 2).narrow(axis + 2, 0, shape[axis])
    return mask.contiguous()


def fill_masked(
    images: Tensor, mask: Tensor, fill: Fill, seeds: Tensor | None = None, other: Tensor | None = None
) -> Tensor:
    """Replace the masked voxels of a batch.

    Args:
        images: the batch; not changed.
        mask: true where a voxel is replaced.
        fill: ``zero``, the mean over all voxels after z-score; ``mean`` of each volume and channel; ``noise``, normal
            with that mean and the deviation of the volume and channel; ``other``, the same voxels of another scan.
        seeds: of every case's noise, which is made on the device.
        other: the other scans, for ``other``; by default the next one of the batch.

    Shape:
        - images, other: ``(B, C, H, W[, D])``
        - mask: ``(B, 1, H, W[, D])``, bool
        - seeds: ``(B,)``

    Raises:
        ValueError: when ``noise`` is asked for without seeds, or ``other`` in a batch of one without another scan.
    """
    if fill == "zero":
        return torch.where(mask, images.new_zeros(()), images)
    if fill == "other":
        if other is None:
            if len(images) < 2:
                raise ValueError("`fill` other needs a second scan: a batch of two at least, or `other`.")
            other = images.roll(-1, 0)
        return torch.where(mask, other, images)
    axes = tuple(range(2, images.ndim))
    mean = images.mean(axes, keepdim=True)
    if fill == "mean":
        return torch.where(mask, mean, images)
    if seeds is None:
        raise ValueError("`seeds` must be given for noise.")
    wide = torch.promote_types(images.dtype, torch.float32)
    out = images.clone(memory_format=torch.contiguous_format)
    for case, seed in enumerate(seeds.tolist()):
        # as std(), which takes several times as long on a CPU
        deviation = torch.linalg.vector_norm((images[case] - mean[case]).flatten(1), dim=1, keepdim=True, dtype=wide)
        noise = out.new_empty(out.shape[1], int(mask[case].count_nonzero()))  # for the hidden voxels alone
        noise.normal_(generator=torch.Generator(images.device).manual_seed(seed))
        noise.mul_((deviation / math.sqrt(mask[case].numel() - 1)).to(noise.dtype)).add_(mean[case].flatten(1))
        out[case].masked_scatter_(mask[case], noise)
    return out


class RandBlockMask(RandBatchTransform):
    r"""Hide a fixed fraction of the blocks of a regular grid.

    Of :math:`n` blocks :math:`\mathrm{round}(r n)` are hidden, one at least and never all, drawn without replacement.
    With blocks that divide the volume the hidden fraction of voxels is the same in every draw.

    Args:
        ratio: fraction :math:`r` of blocks that are hidden, in (0, 1). 0.75 is the masked autoencoder's.
        block: side of a block, one number or one an axis; 16 at a side of 96 to 160, 4 to 8 at 32.
        spacing: voxel size in mm, one number or one an axis. Where given, ``block`` is in mm, rounded to whole voxels.
        fill: see :func:`fill_masked`.
        prob: see :class:`RandBatchTransform`.

    Attributes:
        extras: ``mask``, true where a voxel is hidden; ``(1, H, W[, D])``, with the batch's axis in front after
            :meth:`batch`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range, or a volume holds a single block.

    Reference:
        K. He et al.: Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, https://arxiv.org/abs/2111.06377;
        for volumes T. Wald et al.: Revisiting MAE Pre-training for 3D Medical Image Segmentation, CVPR 2025,
        https://arxiv.org/abs/2410.23132.
    """

    def __init__(
        self,
        ratio: float = 0.75,
        block: float | Sequence[float] = 16,
        spacing: float | Sequence[float] | None = None,
        fill: Fill = "zero",
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        if not 0.0 < ratio < 1.0:
            raise ValueError(f"`ratio` must be in (0, 1), got {ratio}.")
        sides = block if isinstance(block, Sequence) else [block]
        steps = spacing if isinstance(spacing, Sequence) else [1.0 if spacing is None else spacing]
        if min(sides) <= 0 or min(steps) <= 0 or (spacing is None and any(side != int(side) for side in sides)):
            raise ValueError(f"`block` must be whole voxels from 1, or mm with `spacing`, got {block} and {spacing}.")
        if fill not in ("zero", "mean", "noise", "other"):
            raise ValueError(f"`fill` must be zero, mean, noise or other, got {fill!r}.")
        self.ratio = ratio
        self.sides, self.steps = tuple(sides), tuple(steps)
        self.fill: Fill = fill

    def block(self, dimensions: int) -> tuple[int, ...]:
        """Sides of a block in voxels.

        Raises:
            ValueError: when ``block`` or ``spacing`` has another number of axes.
        """
        for name, values in (("block", self.sides), ("spacing", self.steps)):
            if len(values) not in (1, dimensions):
                raise ValueError(f"`{name}` must be one number or one for each of {dimensions} axes, got {values}.")
        pairs = zip(self.sides * dimensions, self.steps * dimensions, strict=False)
        return tuple(max(1, round(side / step)) for side, step in pairs)[:dimensions]

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the hidden blocks, and a seed for the noise."""
        grid = [math.ceil(length / side) for length, side in zip(shape[1:], self.block(len(shape) - 1), strict=True)]
        blocks = math.prod(grid)
        if blocks < 2:
            raise ValueError(
                f"`block` {self.sides} leaves one block in a volume of {tuple(shape[1:])}: make it smaller."
            )
        hidden = min(max(round(self.ratio * blocks), 1), blocks - 1)
        return {
            "grid": (self.R.permutation(blocks) < hidden).reshape(grid),
            "seed": int(self.R.randint(2**31 - 1)),
        }

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Hide the blocks."""
        shape = images.shape[2:]
        mask = block_mask(stacked(params, "grid", images.device), self.block(len(shape)), shape)
        return fill_masked(images, mask, self.fill, stacked(params, "seed")), {"mask": mask}

    def skipped(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Nothing is hidden."""
        return images, {"mask": torch.zeros_like(images[:, :1], dtype=torch.bool)}


class RandBlockMaskd(RandBatchTransformd):
    """Dictionary twin of :class:`RandBlockMask`.

    Args:
        keys: images whose blocks are hidden, the same in all.
        mask_key: entry for the mask; None leaves it out.
        ratio: see :class:`RandBlockMask`.
        block: see :class:`RandBlockMask`.
        spacing: see :class:`RandBlockMask`.
        fill: see :class:`RandBlockMask`.
        prob: see :class:`RandBlockMask`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: Hashable | None = "mask",
        ratio: float = 0.75,
        block: float | Sequence[float] = 16,
        spacing: float | Sequence[float] | None = None,
        fill: Fill = "zero",
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandBlockMask(ratio, block, spacing, fill, prob)
        extra_keys = {} if mask_key is None else {"mask": mask_key}
        super().__init__(keys, transform, extra_keys, allow_missing_keys)


RandBlockMaskD = RandBlockMaskDict = RandBlockMaskd
