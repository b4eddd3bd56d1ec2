"""Painting: noise takes the place of boxes (in-painting) or of all but boxes (out-painting), to be restored."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import (
    Params,
    RandBatchTransform,
    RandBatchTransformd,
    checked_range,
    least_and_greatest,
    stacked,
)

__all__ = [
    "RandPainting",
    "RandPaintingD",
    "RandPaintingDict",
    "RandPaintingd",
    "paint",
]

INNER = (1 / 6, 1 / 3)  # sides of the boxes of in-painting, as parts of the volume's side
OUTER = (3 / 7, 4 / 7)  # of out-painting
UNIT = (0.0, 1.0)


def paint(
    images: Tensor,
    corners: Tensor,
    sides: Tensor,
    outside: Tensor,
    seeds: Tensor,
    range: Sequence[float] | None = UNIT,
) -> tuple[Tensor, Tensor]:
    """Replace boxes of a batch, or all but boxes, with uniform noise, made on the device, each channel with its own.

    Args:
        images: the batch; not changed.
        corners: the boxes' first voxels; like all that was drawn on the CPU, a GPU need not be waited for.
        sides: their sides; a box with a side of 0 is none.
        outside: where all but the boxes is replaced.
        seeds: of every case's noise.
        range: of the noise, low and high; None: least and greatest of each volume and channel.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - corners, sides: ``(B, N, 2 or 3)``
        - outside: ``(B,)``, bool
        - seeds: ``(B,)``
        - Output: as ``images``, and the mask of the replaced voxels, ``(B, 1, H, W[, D])``, bool
    """
    extremes = torch.stack(least_and_greatest(images), 1) if range is None else None
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    mask = torch.empty_like(out[:, :1], dtype=torch.bool)
    for case, (seed, all_but) in enumerate(zip(seeds.tolist(), outside.tolist(), strict=True)):
        generator = torch.Generator(images.device).manual_seed(seed)
        ends = range if extremes is None else extremes[case]
        image, painted = images[case], out[case]
        mask[case] = all_but
        if all_but:
            _make_noise(painted, ends, generator)
        else:
            painted.copy_(image)
        for corner, side in zip(corners[case].tolist(), sides[case].tolist(), strict=True):
            box = (slice(None), *(slice(first, first + length) for first, length in zip(corner, side, strict=True)))
            mask[case][box] = not all_but
            if all_but:
                painted[box] = image[box]
            else:
                _make_noise(painted[box], ends, generator)  # of a few boxes, not of the whole volume
    return out, mask


def _make_noise(part: Tensor, ends: Any, generator: torch.Generator) -> None:
    low, high = ends
    if isinstance(ends, Tensor):  # those of every channel
        part.uniform_(generator=generator).mul_(high - low).add_(low)
    else:
        part.uniform_(low, high, generator=generator)


def _checked(name: str, sides: Sequence[float]) -> Sequence[float]:
    if len(sides) != 2 or not 0.0 < sides[0] <= sides[1] <= 1.0:
        raise ValueError(f"`{name}` must be a low and a high part of the volume's side in (0, 1], got {sides}.")
    return sides


class RandPainting(RandBatchTransform):
    """Replace a few boxes with uniform noise (in-painting), or all but a few boxes (out-painting), one of the two.

    A box's side along an axis is uniform over the whole voxels between the two ends, which are rounded and 1 at least;
    its place is uniform over all that lie inside the volume. Boxes may overlap.

    Args:
        inpainting: chance of in-painting, in [0, 1], else out-painting; the paper's 0.2. At 1 or 0 it is one of them.
        inner: least and greatest side of the boxes of in-painting, as parts of the volume's side, in (0, 1].
        outer: the same of the boxes that out-painting keeps.
        boxes: number of boxes at most.
        again: chance that another box follows a box, in [0, 1]. With 0.95 there are 4.5 of 5 boxes on average.
        range: of the noise, low and high; None: least and greatest of each volume and channel.
        prob: see :class:`RandBatchTransform`; the paper's 0.9.

    Attributes:
        extras: ``mask``, true where a voxel was replaced; ``(1, H, W[, D])``, with the batch's axis in front after
            :meth:`batch`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range.

    Reference:
        Z. Zhou et al.: Models Genesis, Medical Image Analysis 67, 2021, https://arxiv.org/abs/2004.07882; first as
        Models Genesis: Generic Autodidactic Models for 3D Medical Image Analysis, MICCAI 2019,
        https://arxiv.org/abs/1908.06912. Where we differ from its code: the first box is always there (a volume in 20
        stays whole there, so that ``prob`` would not say how many are painted), boxes may touch the border (there they
        keep three voxels away, which small patches do not have), each channel has its own noise.
    """

    def __init__(
        self,
        inpainting: float = 0.2,
        inner: Sequence[float] = INNER,
        outer: Sequence[float] = OUTER,
        boxes: int = 5,
        again: float = 0.95,
        range: Sequence[float] | None = UNIT,
        prob: float = 0.9,
    ) -> None:
        super().__init__(prob)
        for name, chance in (("inpainting", inpainting), ("again", again)):
            if not 0.0 <= chance <= 1.0:
                raise ValueError(f"`{name}` must be in [0, 1], got {chance}.")
        if boxes < 1:
            raise ValueError(f"`boxes` must be 1 at least, got {boxes}.")
        self.inpainting, self.inner, self.outer = inpainting, _checked("inner", inner), _checked("outer", outer)
        self.boxes, self.again, self.range = boxes, again, checked_range(range)

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw which of the two, the boxes, and a seed for the noise."""
        outside = bool(self.R.random_sample() >= self.inpainting)
        lengths = np.asarray(shape[1:])
        ends = self.outer if outside else self.inner
        low, high = (np.maximum(1, np.round(lengths * side).astype(int)) for side in ends)
        drawn = self.R.randint(low, high + 1, (self.boxes, len(lengths)))
        corners = self.R.randint(0, lengths - drawn + 1)
        goes_on = np.cumprod(np.append(1, self.R.random_sample(self.boxes - 1) < self.again))
        seed = int(self.R.randint(2**31 - 1))
        return {"corners": corners, "sides": drawn * goes_on[:, None], "outside": outside, "seed": seed}

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Paint."""
        corners, sides, outside, seeds = (stacked(params, name) for name in ("corners", "sides", "outside", "seed"))
        out, mask = paint(images, corners, sides, outside, seeds, self.range)
        return out, {"mask": mask}

    def skipped(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Nothing is painted."""
        return images, {"mask": torch.zeros_like(images[:, :1], dtype=torch.bool)}


class RandPaintingd(RandBatchTransformd):
    """Dictionary twin of :class:`RandPainting`.

    Args:
        keys: images that are painted, with the same boxes and noise in all.
        mask_key: entry for the mask; None leaves it out.
        inpainting: see :class:`RandPainting`.
        inner: see :class:`RandPainting`.
        outer: see :class:`RandPainting`.
        boxes: see :class:`RandPainting`.
        again: see :class:`RandPainting`.
        range: see :class:`RandPainting`.
        prob: see :class:`RandPainting`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: Hashable | None = "mask",
        inpainting: float = 0.2,
        inner: Sequence[float] = INNER,
        outer: Sequence[float] = OUTER,
        boxes: int = 5,
        again: float = 0.95,
        range: Sequence[float] | None = UNIT,
        prob: float = 0.9,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandPainting(inpainting, inner, outer, boxes, again, range, prob)
        super().__init__(keys, transform, {} if mask_key is None else {"mask": mask_key}, allow_missing_keys)


RandPaintingD = RandPaintingDict = RandPaintingd
