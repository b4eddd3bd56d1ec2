"""Overlapping crops: two or more views of one scan that share at least a stated part of their volume."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked

__all__ = [
    "RandOverlappingCrops",
    "RandOverlappingCropsD",
    "RandOverlappingCropsDict",
    "RandOverlappingCropsd",
    "common_region",
    "crops_at",
]


def crops_at(images: Tensor, starts: Tensor, size: Sequence[int]) -> Tensor:
    """Crops of a batch, several of each volume.

    Args:
        images: the batch; not changed.
        starts: first voxel of each crop.
        size: sides of a crop in voxels.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - starts: ``(B, V, 3)``, int64 (2 for planes)
        - Output: ``(B, V, C, h, w[, d])``
    """
    windows = images
    for axis, side in enumerate(size, start=2):
        windows = windows.unfold(axis, side, 1)  # a view of every crop that there is; nothing is copied
    case = torch.arange(len(images), device=images.device)[:, None]
    # The channels' axis lies between those that are indexed, so that it comes out behind them.
    places: list[Any] = [case, slice(None), *starts.to(images.device).unbind(-1)]
    return windows[tuple(places)]


def common_region(first: Tensor, second: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Where two crops of one scan hold the same voxels, in the coordinates of each crop.

    Voxel ``begin_first + k`` of the first crop is voxel ``begin_second + k`` of the second one, for ``k`` from 0 to
    below ``extent`` along each axis; crops without a common voxel have an extent of 0 along some axis.

    Args:
        first: start voxels of the first crops.
        second: start voxels of the second crops.
        size: sides of a crop in voxels.

    Returns:
        ``begin_first``, ``begin_second`` and ``extent``.

    Shape:
        - first, second, and each output: ``(..., 3)``, int64 (2 for planes)
    """
    shift = second - first
    extent = (shift.new_tensor(list(size)) - shift.abs()).clamp_min(0)
    return shift.clamp_min(0), (-shift).clamp_min(0), extent


class RandOverlappingCrops(RandBatchTransform):
    r"""Crops of one scan, every two of which share at least a stated part of their volume.

    Two crops of sides :math:`s_a` whose starts are :math:`\Delta_a` voxels apart share
    :math:`\prod_a (s_a - |\Delta_a|)` voxels, which has to reach :math:`n = \lceil o \prod_a s_a \rceil`. The first
    start is uniform over all in the volume, each further one over all in the volume that meet the rule with every crop
    before it. Where two crops share :math:`A` voxels along all axes but the last, the rule says
    :math:`|\Delta_\mathrm{last}| \le s_\mathrm{last} - \lceil n / A \rceil`: the allowed starts are one interval of the
    last axis for every place along the others. One whole number below the sum of the intervals' lengths picks one of
    them. So nothing is drawn and thrown away, only whole numbers are compared, and there is always a start to pick,
    that of the first crop: the overlap is met in every draw. Of two views the second lies a little more often in the
    inside of the volume than the first.

    Every case is cropped, so there is no ``prob``. What comes out has one more axis and is a plain tensor: the views
    have no affine in common.

    Args:
        size: sides of a crop in voxels, one number or one an axis.
        views: number of crops of a scan, from 2.
        overlap: least part :math:`o` of a crop's volume that two crops share, in (0, 1]; at 1 all are the same crop.
            With 0.5 positives keep most of their content in common.

    Attributes:
        extras: ``position``, the start voxel of each view; ``(V, 3)`` (2 for planes), int64, with the batch's axis in
            front after :meth:`batch`. :func:`common_region` turns two of them into the voxels in common.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: ``(V, C, h, w[, d])``; ``(B, V, C, h, w[, d])`` from :meth:`batch`

    Raises:
        ValueError: when an argument is out of range, or a volume is smaller than a crop.

    Reference:
        Y. Tang et al.: Self-Supervised Pre-Training of Swin Transformers for 3D Medical Image Analysis, CVPR 2022,
        https://arxiv.org/abs/2111.14791, contrasts augmented copies of one crop; that positives overlap by a half at
        least is the rule of nnssl's contrastive training (T. Wald et al.: An OpenMind for 3D medical vision
        self-supervised learning, ICCV 2025, https://arxiv.org/abs/2412.17041). How positions are drawn is ours.
    """

    def __init__(self, size: int | Sequence[int], views: int = 2, overlap: float = 0.5) -> None:
        super().__init__(1.0)
        sides = tuple(size) if isinstance(size, Sequence) else (size,)
        if not sides or any(side != int(side) or side < 1 for side in sides):
            raise ValueError(f"`size` must be whole voxels from 1, got {size}.")
        if views != int(views) or views < 2:
            raise ValueError(f"`views` must be a whole number from 2, got {views}.")
        if not 0.0 < overlap <= 1.0:
            raise ValueError(f"`overlap` must be in (0, 1], got {overlap}.")
        self.sides = tuple(int(side) for side in sides)
        self.views = int(views)
        self.overlap = overlap

    def size(self, dimensions: int) -> tuple[int, ...]:
        """Sides of a crop in voxels.

        Raises:
            ValueError: when ``size`` has another number of axes.
        """
        if len(self.sides) not in (1, dimensions):
            raise ValueError(f"`size` must be one number or one for each of {dimensions} axes, got {self.sides}.")
        return self.sides if len(self.sides) == dimensions else self.sides * dimensions

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the start of every view."""
        size = self.size(len(shape) - 1)
        last = [length - side for length, side in zip(shape[1:], size, strict=True)]
        if min(last) < 0:
            raise ValueError(
                f"`size` {size} does not fit into a volume of {tuple(shape[1:])}: pad the volume before, as with "
                "monai.transforms.SpatialPadd, or make the crops smaller."
            )
        starts = np.array([[self.R.randint(end + 1) for end in last]], dtype=np.int64)
        for _ in range(self.views - 1):
            starts = np.concatenate([starts, _one_more(starts, size, last, self.overlap, self.R)[None]])
        return {"starts": starts}

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Cut the crops out."""
        starts = stacked(params, "starts", images.device)
        return crops_at(images, starts, self.size(images.ndim - 2)), {"position": starts}


class RandOverlappingCropsd(RandBatchTransformd):
    """Dictionary twin of :class:`RandOverlappingCrops`.

    Args:
        keys: images of one shape that are cropped alike.
        position_key: entry for the start voxels; None leaves it out.
        size: see :class:`RandOverlappingCrops`.
        views: see :class:`RandOverlappingCrops`.
        overlap: see :class:`RandOverlappingCrops`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        position_key: Hashable | None = "position",
        size: int | Sequence[int] = 96,
        views: int = 2,
        overlap: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        extra_keys = {} if position_key is None else {"position": position_key}
        super().__init__(keys, RandOverlappingCrops(size, views, overlap), extra_keys, allow_missing_keys)


RandOverlappingCropsD = RandOverlappingCropsDict = RandOverlappingCropsd


def _one_more(
    starts: np.ndarray, size: Sequence[int], last: Sequence[int], overlap: float, state: np.random.RandomState
) -> np.ndarray:
    """Draw a start, uniform over those of ``0..last`` whose crop overlaps enough with every crop given so far."""
    voxels = max(1, math.ceil(round(overlap * math.prod(size), 6)))  # 0.07 * 100 is a little more than 7
    places, lengths = [], []
    for axis, side in enumerate(size[:-1]):
        reach = side + -voxels * side // math.prod(size)  # floor division of a negative: rounded up
        begin, end = max(0, starts[:, axis].max() - reach), min(last[axis], starts[:, axis].min() + reach)
        places.append(np.arange(begin, end + 1))
        lengths.append(side - np.abs(places[-1][:, None] - starts[:, axis]))
    # what is common along all axes but the last, for every place there and every crop so far
    area = reduce(lambda left, right: left[..., None, :] * right, lengths, np.ones(len(starts), dtype=np.int64))

    far = size[-1] + -voxels // area
    low = np.maximum((starts[:, -1] - far).max(-1), 0)
    count = np.maximum(np.minimum((starts[:, -1] + far).min(-1), last[-1]) - low + 1, 0)
    ends = count.cumsum()
    number = state.randint(ends[-1], dtype=np.int64)
    cell = int(np.searchsorted(ends, number, side="right"))
    place = np.unravel_index(cell, count.shape)
    final = low[place] + number - (ends[cell] - count[place])
    return np.array([*(along[index] for along, index in zip(places, place, strict=True)), final], dtype=np.int64)
