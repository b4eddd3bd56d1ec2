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

from monai_ssl.utils.box_grids import boxes_within, file_grid, voxel_to_world_boxes, world_to_voxel_boxes
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
        # diagonal neighbours too: a thin object that was resampled once would fall apart
        objects, _ = ndimage.label(mask[place] == value, np.ones((3,) * mask.ndim))
        for part in ndimage.find_objects(objects):
            low = [outer.start + inner.start for outer, inner in zip(place, part, strict=True)]
            boxes.append(low + [outer.start + inner.stop for outer, inner in zip(place, part, strict=True)])
            classes.append(value - 1)
    return torch.tensor(boxes).float().reshape(-1, 2 * mask.ndim), torch.tensor(classes, dtype=torch.int64)


class MaskToBoxesd(MapTransform):
    """Turn a mask as its file has it into the boxes of its objects in its image as it is by then.

    Objects are told apart voxel by voxel of the mask, see :func:`mask_to_boxes`: resampled, small ones would vanish and
    near ones grow together. So the mask is not to be turned, resampled or padded; its boxes follow the image.

    Args:
        mask_key: the mask; 0 where nothing is, ``c + 1`` in objects of class ``c``.
        box_key: where the boxes go.
        label_key: where their classes go; by default in place of the mask.
        classes: number of classes, background not counted; any by default.
        image_key: the image, on whose file's grid the mask lies, to half a voxel. Where it has no affine boxes stay as
            they are.

    Shape:
        - mask: ``(1, H, W, D)``
        - box: ``(N, 6)``, float32, and label ``(N,)``, int64

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
        mask, image = torch.as_tensor(out[self.mask_key]), out.get(self.image_key)
        if len(mask) != 1:
            raise ValueError(f"`{self.mask_key}` must be a mask of one channel, got shape {tuple(mask.shape)}.")
        if isinstance(image, MetaTensor) and isinstance(mask, MetaTensor) and not _on_one_grid(image, mask):
            told = "lies on another grid than its image. Resample it to the image's grid"
            raise UserError(f"{self._file(mask)}: {told}.")
        boxes, out[self.label_key] = mask_to_boxes(self._values(mask))
        out[self.box_key] = _as_it_is(boxes, image) if isinstance(image, MetaTensor) else boxes
        return out

    def _values(self, mask: Tensor) -> np.ndarray:
        values = mask[0].detach().cpu().as_subclass(Tensor).numpy()
        limit = np.inf if self.classes is None else self.classes
        wrong = values[(values != np.rint(values)) | (values < 0) | (values > limit)]
        if wrong.size:
            rule = "0" if self.classes is None else f"0 to {self.classes}"
            raise UserError(
                f"{self._file(mask)}: has the value {wrong[0]:g}; a mask of objects must hold whole numbers "
                f"from {rule}, 0 where nothing is. Correct the mask."
            )
        return values.astype(np.int32)

    def _file(self, mask: Tensor) -> str:
        return str(getattr(mask, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ, f"`{self.mask_key}`"))


def _on_one_grid(image: MetaTensor, mask: MetaTensor) -> bool:
    """Whether the files of both end at the same places, to half a voxel."""
    affine, size = file_grid(image)
    if tuple(size.tolist()) != tuple(mask.shape[1:]):
        return False
    apart = torch.linalg.solve(affine, file_grid(mask)[0])
    both = torch.stack([torch.zeros(3), size - 1.0]).double()
    moved = both @ apart[:3, :3].T + apart[:3, 3]
    return bool((moved - both).abs().max() < 0.5)


def _as_it_is(boxes: Tensor, image: MetaTensor) -> Tensor:
    """Boxes in an image's file as boxes in the image, which has been turned, resampled and padded since."""
    now = image.affine.as_subclass(Tensor).double().cpu()
    steps = torch.linalg.solve(now, file_grid(image)[0])
    found = voxel_to_world_boxes(boxes, steps)  # centre and size, the image's voxel centres being the world
    return boxes_within(world_to_voxel_boxes(found, torch.eye(4)), image.shape[1:])


MaskToBoxesD = MaskToBoxesDict = MaskToBoxesd
