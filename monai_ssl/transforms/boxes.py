"""Boxes between millimetres and voxels as transforms, and as tensors of one size.

What their numbers mean: :mod:`monai_ssl.utils.box_grids`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey
from torch import Tensor

from monai_ssl.utils.box_grids import (
    LEAST,
    Coordinates,
    boxes_within,
    file_grid,
    to_world,
    voxel_to_world_boxes,
    world_to_voxel_boxes,
)
from monai_ssl.utils.errors import UserError

__all__ = [
    "PadBoxesD",
    "PadBoxesDict",
    "PadBoxesd",
    "VoxelToWorldBoxD",
    "VoxelToWorldBoxDict",
    "VoxelToWorldBoxd",
    "WorldToVoxelBoxD",
    "WorldToVoxelBoxDict",
    "WorldToVoxelBoxd",
]


class _BoxesOfImaged(MapTransform):
    """Boxes that go with an image, from one frame to another by its affine."""

    def __init__(
        self,
        box_keys: KeysCollection,
        image_key: str = "image",
        coordinates: Coordinates = "RAS",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(box_keys, allow_missing_keys)
        if coordinates not in ("RAS", "LPS"):
            raise ValueError(f"`coordinates` must be RAS or LPS, got {coordinates!r}.")
        self.image_key = image_key
        self.coordinates = coordinates

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        image = out[self.image_key]
        affine = _affine(image, self.image_key, self.coordinates)
        for key in self.key_iterator(out):
            out[key] = self.moved(_rows(out[key], key), affine, image)
        return out

    def moved(self, boxes: Tensor, affine: Tensor, image: Tensor) -> Tensor:
        raise NotImplementedError


class WorldToVoxelBoxd(_BoxesOfImaged):
    """Turn boxes of a data list into boxes of the image as it is by then, turned, resampled and padded.

    To be used after everything that changes the image's grid and knows no boxes (``Orientationd``, ``Spacingd``,
    ``SpatialPadd``): their changes are in the image's affine. What sticks out of the image is cut off: no detector can
    see it, and predictions end at the image, too.

    Args:
        box_keys: boxes by centre and size in mm, as lists or arrays; empty ones are ordinary.
        image_key: the image that they belong to, with its affine.
        coordinates: of the boxes: ``"RAS"`` as in NIfTI, or ``"LPS"`` as in DICOM, ITK and MONAI's LUNA16 lists.
        allow_missing_keys: leave out keys that are not there.

    Shape:
        - box: ``(N, 6)`` in mm becomes ``(N, 6)`` in edge coordinates, a float32 tensor

    Raises:
        ValueError: when ``coordinates`` is unknown, the image has no affine, or boxes have another shape.
        UserError: naming the image and the box, when a box lies wholly outside its image or is larger than it.
    """

    def moved(self, boxes: Tensor, affine: Tensor, image: Tensor) -> Tensor:
        """The boxes in the image's voxels."""
        self._check(boxes, image)
        return boxes_within(world_to_voxel_boxes(boxes, affine), image.shape[1:])

    def _check(self, world: Tensor, image: Any) -> None:
        """Whether boxes are of the image as its file has it."""
        affine, size = file_grid(image, self.coordinates)
        boxes = world_to_voxel_boxes(world, affine)
        low, high = boxes.split(3, -1)
        for wrong, what, remedy in (
            (
                (high <= LEAST) | (low >= size - LEAST),
                "lies outside its image",
                f"it is in {self.coordinates} (`coordinates`)",
            ),
            (high - low > size + 1, "is larger than its image", "it is centre and size (cccwhd), not two corners"),
        ):
            if (found := wrong.any(-1).nonzero()).numel():
                number = int(found[0])
                raise UserError(
                    f"{_file(image, self.image_key)}: box {number + 1}, {_shown(world[number])} mm, {what}: in voxels "
                    f"it is {_shown(boxes[number])}, and the image has {tuple(size.tolist())}. Check that {remedy} and "
                    "belongs to this image."
                )


class VoxelToWorldBoxd(_BoxesOfImaged):
    """Turn boxes of an image as it is by now into boxes of the world; undoes :class:`WorldToVoxelBoxd`.

    Args:
        box_keys: boxes in edge coordinates of the image.
        image_key: the image that they belong to, with its affine.
        coordinates: of the boxes that come out, ``"RAS"`` or ``"LPS"``.
        allow_missing_keys: leave out keys that are not there.

    Shape:
        - box: ``(N, 6)`` in edge coordinates becomes ``(N, 6)`` in mm, centre and size, a float32 tensor

    Raises:
        ValueError: when ``coordinates`` is unknown, the image has no affine, or boxes have another shape.
    """

    def moved(self, boxes: Tensor, affine: Tensor, image: Tensor) -> Tensor:
        """The boxes in the world."""
        return voxel_to_world_boxes(boxes, affine)


class PadBoxesd(MapTransform):
    """Give every case the same number of rows, so that cases make a batch: NaN for no box, -1 for its class.

    Args:
        count: rows that come out.
        box_key: boxes, as a list or array.
        label_key: their classes.
        image_key: the image, which a message names.

    Shape:
        - box: ``(N, 6)`` becomes ``(count, 6)``, float32
        - label: ``(N,)`` becomes ``(count,)``, int64

    Raises:
        ValueError: when ``count`` is below 1, or there are not as many classes as boxes.
        UserError: naming the image, when it has more boxes.
    """

    def __init__(self, count: int, box_key: str = "box", label_key: str = "label", image_key: str = "image") -> None:
        super().__init__((box_key, label_key))
        if count != int(count) or count < 1:
            raise ValueError(f"`count` must be a whole number from 1, got {count}.")
        self.count = int(count)
        self.box_key = box_key
        self.label_key = label_key
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        boxes = _rows(out[self.box_key], self.box_key)
        labels = torch.as_tensor(out[self.label_key]).as_subclass(Tensor)
        if labels.numel() != len(boxes):
            raise ValueError(f"`{self.label_key}` must be one class a box: {len(boxes)} boxes, got {labels.numel()}.")
        if len(boxes) > self.count:
            raise UserError(
                f"{_file(out.get(self.image_key), self.image_key)}: has {len(boxes)} boxes, but there is room for "
                f"{self.count}: raise `count` (in bundles `max_boxes`) to {len(boxes)} or more."
            )
        out[self.box_key] = torch.full((self.count, 6), torch.nan)
        out[self.label_key] = torch.full((self.count,), -1, dtype=torch.int64)
        out[self.box_key][: len(boxes)] = boxes.float()
        out[self.label_key][: len(boxes)] = labels.reshape(-1).long()
        return out


def _affine(image: Any, key: Hashable, coordinates: Coordinates) -> Tensor:
    """From voxel centres of the image as it is now to the coordinates of its boxes."""
    if not isinstance(image, MetaTensor):
        raise ValueError(
            f"`{key}` must be an image with an affine, as LoadImaged reads it, got {type(image).__name__}."
        )
    return to_world(image.affine, image.meta, coordinates)


def _rows(boxes: Any, key: Hashable) -> Tensor:
    rows = torch.as_tensor(boxes).as_subclass(Tensor)
    if rows.numel() == 0:
        return rows.new_zeros(0, 6).double()
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise ValueError(f"`{key}` must be boxes of six numbers, (N, 6), got shape {tuple(rows.shape)}.")
    return rows.double()


def _file(image: Any, key: Hashable) -> str:
    return str(getattr(image, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ, f"`{key}`"))


def _shown(box: Tensor) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in box.tolist()) + "]"


WorldToVoxelBoxD = WorldToVoxelBoxDict = WorldToVoxelBoxd
VoxelToWorldBoxD = VoxelToWorldBoxDict = VoxelToWorldBoxd
PadBoxesD = PadBoxesDict = PadBoxesd
