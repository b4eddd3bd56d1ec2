"""Random crops for detection: with a chance around an object, wherever in the crop it may lie; else anywhere."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, SpatialCrop
from monai.utils import ImageMetaKey
from torch import Tensor

from monai_ssl.utils.errors import UserError

__all__ = ["RandBoxCropD", "RandBoxCropDict", "RandBoxCropd", "crop_boxes"]

_ROUNDING = 1e-6  # shares are products of quotients; a box at the very limit must be kept where it was drawn


def crop_boxes(
    boxes: Tensor, start: Sequence[int], size: Sequence[int], image_size: Sequence[int], visible: float = 0.5
) -> tuple[Tensor, Tensor]:
    r"""Boxes in a crop of their image, and which of them are enough inside it.

    A box is kept where the crop holds at least the part ``visible`` of what it could hold of it,

    .. math:: \prod_a o_a(k_a) \ge v \prod_a \max_k o_a(k),

    where :math:`o_a(k)` is the length of the box inside a crop that starts at voxel :math:`k` of axis :math:`a`. For a
    box that fits into the crop the right side is :math:`v` times its volume; a larger one is not lost in every crop.

    Args:
        boxes: in edge coordinates of the image; not changed. Rows of NaN are not kept.
        start: first voxel of the crop.
        size: its sides in voxels.
        image_size: sides of the image; what lies outside of it does not count.
        visible: the part, in (0, 1].

    Returns:
        The kept boxes in edge coordinates of the crop, clipped to it, and a mask of the boxes that were kept.

    Shape:
        - boxes: ``(N, 6)``
        - Output: ``(M, 6)``, float32, and ``(N,)``, bool
    """
    tables = _shares(boxes.double().cpu().numpy(), size, image_size)
    share = np.prod([table[:, first] for table, first in zip(tables, start, strict=True)], axis=0)
    kept = torch.from_numpy(share >= visible - _ROUNDING)
    offset = boxes.new_tensor([*start, *start])
    sides = boxes.new_tensor([*size, *size])
    return (boxes[kept] - offset).clamp(torch.zeros_like(sides), sides).float(), kept


class RandBoxCropd(Randomizable, MapTransform):
    """Cut a crop out at random: with chance ``p_object`` one that holds an object, else any.

    An object is picked at random among the case's boxes, and the crop then uniformly among all that hold enough of it
    (see :func:`crop_boxes`), so that the object may lie anywhere in the crop, at its border too. Else, and where a
    case has no box, the crop is uniform over the image, with whatever is there or nothing. Boxes of which too little is
    inside are dropped, the others clipped.

    MONAI's ``RandCropBoxByPosNegLabeld`` does not do here, for three reasons: it warns at every case without a box, it
    keeps any box of which a voxel is left, and it draws by a mask of the whole image for each box. Ours looks at no
    voxel.

    An image that is smaller than a crop has to be padded before its boxes are made (``SpatialPadd`` in front of
    :class:`~monai_ssl.transforms.boxes.WorldToVoxelBoxd`, which finds the shift in the affine): padding at both ends
    moves the boxes, and ``SpatialPadd`` knows none.

    Args:
        image_keys: images of one size that are cropped alike.
        roi_size: sides of the crop in voxels, one number or one an axis.
        p_object: chance that the crop is drawn to hold an object, in [0, 1]. At 0.5 half of the crops show objects as
            well in scans with few of them.
        visible: least part of an object in (0, 1] that makes it one of the crop's; at 0.5 its centre is about inside,
            and what is cut off more than that would teach that fragments are objects.
        box_key: boxes in edge coordinates of the image.
        label_key: their classes.

    Shape:
        - image: ``(C, H, W, D)`` becomes ``(C, *roi_size)``
        - box: ``(N, 6)`` becomes ``(M, 6)``, float32; label: ``(N,)`` becomes ``(M,)``, int64; M may be 0

    Raises:
        ValueError: when an argument is out of range, or images differ in size.
        UserError: naming the image, when it is smaller than the crop.
    """

    def __init__(
        self,
        image_keys: KeysCollection,
        roi_size: int | Sequence[int],
        p_object: float = 0.5,
        visible: float = 0.5,
        box_key: str = "box",
        label_key: str = "label",
    ) -> None:
        MapTransform.__init__(self, image_keys)
        size = tuple(roi_size) if isinstance(roi_size, Sequence) else (roi_size,) * 3
        if not size or any(side != int(side) or side < 1 for side in size):
            raise ValueError(f"`roi_size` must be whole voxels from 1, got {roi_size}.")
        if not 0.0 <= p_object <= 1.0:
            raise ValueError(f"`p_object` must be in [0, 1], got {p_object}.")
        if not 0.0 < visible <= 1.0:
            raise ValueError(f"`visible` must be in (0, 1], got {visible}.")
        self.size = tuple(int(side) for side in size)
        self.p_object = p_object
        self.visible = visible
        self.box_key = box_key
        self.label_key = label_key
        self.start: tuple[int, ...] = ()

    def randomize(self, boxes: np.ndarray, image_size: Sequence[int]) -> None:  # type: ignore[override]
        """Draw the first voxel of the crop.

        Args:
            boxes: ``(N, 6)`` in edge coordinates.
            image_size: sides of the image.
        """
        around_object = self.R.random_sample() < self.p_object
        shares = _shares(boxes, self.size, image_size)
        there = np.flatnonzero(np.all([table.any(1) for table in shares], axis=0))  # not NaN, not outside
        if around_object and len(there):
            chosen = there[self.R.randint(len(there))]
            self.start = self._around([table[chosen] for table in shares])
        else:
            self.start = tuple(
                int(self.R.randint(length - side + 1)) for length, side in zip(image_size, self.size, strict=True)
            )

    def _around(self, shares: list[np.ndarray]) -> tuple[int, ...]:
        """Draw uniformly among all starts whose product of shares is enough.

        Places along all axes but the last are counted off by how many starts of the last axis go with them, so that one
        whole number picks a start, and nothing is drawn and thrown away.
        """
        *others, last = shares
        across = reduce(np.multiply.outer, others)
        # stricter than the rule for keeping, so that rounding never drops what was drawn
        needed = np.divide(self.visible - _ROUNDING / 2, across, out=np.full_like(across, np.inf), where=across > 0)
        fitting = len(last) - np.searchsorted(np.sort(last), needed)
        ends = np.cumsum(fitting)
        pick = self.R.randint(ends[-1])
        place = int(np.searchsorted(ends, pick, side="right"))
        where = np.unravel_index(place, across.shape)
        rank = pick - (ends[place] - fitting.flat[place])
        return (*map(int, where), int(np.flatnonzero(last >= needed[where])[rank]))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        boxes = torch.as_tensor(out[self.box_key]).as_subclass(Tensor)
        boxes = boxes.reshape(-1, 2 * len(self.size)).double().cpu()
        labels = torch.as_tensor(out[self.label_key]).as_subclass(Tensor).reshape(-1).long().cpu()
        if len(labels) != len(boxes):
            raise ValueError(f"`{self.label_key}` must be one class a box: {len(boxes)} boxes, got {len(labels)}.")
        image_size = self._image_size(out)
        self.randomize(boxes.numpy(), image_size)
        cropper = SpatialCrop(
            roi_start=self.start, roi_end=[first + side for first, side in zip(self.start, self.size, strict=True)]
        )
        for key in self.key_iterator(out):
            out[key] = cropper(out[key])
        out[self.box_key], kept = crop_boxes(boxes, self.start, self.size, image_size, self.visible)
        out[self.label_key] = labels[kept]
        return out

    def _image_size(self, data: Mapping[Hashable, Any]) -> tuple[int, ...]:
        sizes = {tuple(data[key].shape[1:]): key for key in self.key_iterator(dict(data))}
        if len(sizes) > 1:
            raise ValueError(
                f"`image_keys` must be of images of one size, got {dict(zip(sizes.values(), sizes, strict=True))}."
            )
        size, key = next(iter(sizes.items()))
        if len(size) != len(self.size) or min(np.subtract(size, self.size)) < 0:
            file = getattr(data[key], "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ, f"`{key}`")
            raise UserError(
                f"{file}: has {size} voxels, which do not hold a crop of {self.size} (`roi_size`): pad images before "
                "their boxes are made (SpatialPadd), or make the crop smaller."
            )
        return size


def _shares(boxes: np.ndarray, size: Sequence[int], image_size: Sequence[int]) -> list[np.ndarray]:
    """For every axis, of every box and every start of a crop, the length inside the crop over the most that there is.

    Shape:
        - boxes: ``(N, 6)``
        - Output: ``(N, length - side + 1)`` each; 0 for boxes of NaN
    """
    tables = []
    for axis, (length, side) in enumerate(zip(image_size, size, strict=True)):
        first = np.arange(length - side + 1)
        low, high = (
            np.clip(np.nan_to_num(boxes[:, column, None]), 0, length) for column in (axis, axis + len(image_size))
        )
        inside = np.clip(np.minimum(high, first + side) - np.maximum(low, first), 0, None)
        most = inside.max(1, keepdims=True)
        tables.append(np.divide(inside, most, out=np.zeros_like(inside), where=most > 0))
    return tables


RandBoxCropD = RandBoxCropDict = RandBoxCropd
