"""Boxes out of masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey
from scipy import ndimage
from torch import Tensor

from monai_ssl.utils.errors import UserError

__all__ = ["MaskToBoxesD", "MaskToBoxesDict", "MaskToBoxesd", "mask_to_boxes"]


def mask_to_boxes(mask: np.ndarray) -> tuple[Tensor, Tensor]:
    """A box around every object of a mask, an object being connected voxels of one value, corners included.

    Args:
        mask: 0 where nothing is, ``c + 1`` in objects of class ``c``; whole numbers.

    Returns:
        Boxes in edge coordinates and their classes, the least class first.

    Shape:
        - mask: ``(H, W, D)``
        - Output: ``(N, 6)``, float32, and ``(N,)``, int64; N may be 0
    """
    boxes, classes = [], []
    for value, place in enumerate(ndimage.find_objects(mask), 1):
        if place is None:
            continue
        # diagonal neighbours too: a resampled thin object would fall apart
        objects, _ = ndimage.label(mask[place] == value, np.ones((3,) * mask.ndim))
        for part in ndimage.find_objects(objects):
            low = [outer.start + inner.start for outer, inner in zip(place, part, strict=True)]
            boxes.append(low + [outer.start + inner.stop for outer, inner in zip(place, part, strict=True)])
            classes.append(value - 1)
    return torch.tensor(boxes).float().reshape(-1, 2 * mask.ndim), torch.tensor(classes, dtype=torch.int64)


class MaskToBoxesd(MapTransform):
    """Turn a mask into the boxes of its objects, as the mask is by then; see :func:`mask_to_boxes`.

    Objects of one class that touch are one box. A mask is to be resampled by nearest neighbours.

    Args:
        mask_key: the mask, with one channel; 0 where nothing is, ``c + 1`` in objects of class ``c``.
        box_key: where the boxes go.
        label_key: where their classes go; by default in place of the mask.
        classes: number of classes, background not counted; any by default.
        image_key: the image, on whose grid the mask must lie by then, where both know theirs.

    Shape:
        - mask: ``(1, H, W, D)``
        - box: ``(N, 6)``, float32; label: ``(N,)``, int64; N is 0 where the mask is empty

    Raises:
        ValueError: when the mask has more channels than one.
        UserError: naming the mask, when a value is no whole number, or above ``classes``, or it lies on another grid
            than its image.
    """

    def __init__(
        self,
        mask_key: str = "label",
        box_key: str = "box",
        label_key: str = "label",
        classes: int | None = None,
        image_key: str = "image",
    ) -> None:
        super().__init__(mask_key)
        self.mask_key = mask_key
        self.box_key = box_key
        self.label_key = label_key
        self.classes = classes
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        mask = torch.as_tensor(out[self.mask_key])
        if len(mask) != 1:
            raise ValueError(f"`{self.mask_key}` must be a mask of one channel, got shape {tuple(mask.shape)}.")
        file = getattr(mask, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ, f"`{self.mask_key}`")
        if not _on_one_grid(out.get(self.image_key), mask):
            raise UserError(f"{file}: lies on another grid than its image. Resample it to the image's grid.")
        values = mask[0].detach().cpu().as_subclass(Tensor).numpy()
        limit = np.inf if self.classes is None else self.classes
        wrong = values[(values != np.rint(values)) | (values < 0) | (values > limit)]
        if wrong.size:
            rule = "0" if self.classes is None else f"0 to {self.classes}"
            raise UserError(
                f"{file}: has the value {wrong[0]:g}; a mask of objects must hold whole numbers "
                f"from {rule}, 0 where nothing is. Correct the file, or resample masks by nearest neighbours."
            )
        out[self.box_key], out[self.label_key] = mask_to_boxes(values.astype(np.int32))
        return out


def _on_one_grid(image: Any, mask: Tensor) -> bool:
    """Whether both end at the same places, to half a voxel; a grid that is not known is taken for the same."""
    if not isinstance(image, MetaTensor) or not isinstance(mask, MetaTensor):
        return True
    if image.shape[1:] != mask.shape[1:]:
        return False
    apart = torch.linalg.solve(image.affine.double().cpu(), mask.affine.double().cpu()).as_subclass(Tensor)
    ends = torch.tensor([*image.shape[1:]], dtype=torch.float64) - 1
    both = torch.stack([torch.zeros_like(ends), ends])
    moved = both @ apart[:-1, :-1].T + apart[:-1, -1]
    return bool((moved - both).abs().max() < 0.5)


MaskToBoxesD = MaskToBoxesDict = MaskToBoxesd
