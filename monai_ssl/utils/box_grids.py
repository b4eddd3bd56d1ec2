"""Boxes on grids of voxels and in the world.

In voxels a box is ``[xmin, ymin, zmin, xmax, ymax, zmax]`` (MONAI's standard mode) in EDGE coordinates: voxel ``i``
covers ``[i, i + 1]`` and an axis of ``L`` voxels ``[0, L]``. In the world it is its centre and size in millimetres
(``cccwhd``). MONAI's own ``AffineBoxToImageCoordinated`` takes corners and gives coordinates in which voxel ``i`` has
its centre at ``i``, half a voxel off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys
from torch import Tensor

__all__ = [
    "LEAST",
    "Coordinates",
    "boxes_within",
    "file_grid",
    "to_world",
    "voxel_to_world_boxes",
    "world_to_voxel_boxes",
]

Coordinates = Literal["RAS", "LPS"]

LEAST = 1e-3
"""Voxels of a box that an image holds at least; less is rounding, and no box after a flip in float32."""


def world_to_voxel_boxes(boxes: Tensor, affine: Tensor) -> Tensor:
    r"""Boxes of the world in edge coordinates of an image.

    With the affine :math:`x = M i + t` from voxel centres to the world, a box of centre :math:`c` and size :math:`s`
    becomes

    .. math:: M^{-1}(c - t) + \tfrac12 \pm \tfrac12 |M^{-1}| s,

    which is the hull of its eight corners; where the affine is not oblique, it is the box itself.

    Args:
        boxes: centre and size in mm; rows of NaN stay NaN.
        affine: from voxel centres to the world of the boxes.

    Shape:
        - boxes: ``(..., 6)``
        - affine: ``(4, 4)``
        - Output: ``(..., 6)``, float32; computed in float64
    """
    inverse = torch.linalg.inv(affine.double().cpu())
    centre, size = boxes.double().cpu().split(3, -1)
    middle = centre @ inverse[:3, :3].T + inverse[:3, 3] + 0.5
    half = size @ inverse[:3, :3].abs().T / 2
    return torch.cat([middle - half, middle + half], -1).float()


def voxel_to_world_boxes(boxes: Tensor, affine: Tensor) -> Tensor:
    r"""Undo :func:`world_to_voxel_boxes`: where the affine is oblique, the hull of the eight corners again.

    Args:
        boxes: corners in edge coordinates; rows of NaN stay NaN.
        affine: from voxel centres to the world of the boxes.

    Shape:
        - boxes: ``(..., 6)``
        - affine: ``(4, 4)``
        - Output: ``(..., 6)``, float32; computed in float64
    """
    matrix = affine.double().cpu()
    low, high = boxes.double().cpu().split(3, -1)
    centre = ((low + high) / 2 - 0.5) @ matrix[:3, :3].T + matrix[:3, 3]
    return torch.cat([centre, (high - low) @ matrix[:3, :3].abs().T], -1).float()


def boxes_within(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Cut off what sticks out of an image, and leave each box a part of it.

    Resampled between the centres of its first and last voxel an image is shorter than its file, up to a slice, and a
    box there would be gone.

    Args:
        boxes: corners in edge coordinates.
        size: voxels of the image.

    Shape:
        - boxes: ``(N, 6)``
        - Output: ``(N, 6)``
    """
    sides = torch.tensor(size).float()
    low, high = (side.clamp_min(0.0).minimum(sides) for side in boxes.split(3, -1))
    gone = high - low <= LEAST
    return torch.cat([low.where(~gone, low.minimum(sides - 1)), high.where(~gone, high.clamp_min(1.0))], -1)


def file_grid(image: MetaTensor, coordinates: Coordinates = "RAS") -> tuple[Tensor, Tensor]:
    """Affine and size of an image as its file has it; as it is by now, where it does not know.

    Args:
        image: of one channel or several, with whatever was done to it.
        coordinates: of the world, ``RAS`` or ``LPS``.

    Shape:
        - Output: ``(4, 4)``, float64, from voxel centres to the world; ``(3,)``, int64
    """
    affine, size = image.affine, torch.tensor(image.shape[1:])
    if MetaKeys.ORIGINAL_AFFINE in image.meta and MetaKeys.SPATIAL_SHAPE in image.meta:
        affine = torch.as_tensor(image.meta[MetaKeys.ORIGINAL_AFFINE])
        size = torch.as_tensor(image.meta[MetaKeys.SPATIAL_SHAPE]).flatten()[:3].as_subclass(Tensor).long()
    return to_world(affine, image.meta, coordinates), size


def to_world(affine: Tensor, meta: Mapping[Any, Any], coordinates: Coordinates) -> Tensor:
    """The affine of an image towards coordinates of the world, whichever its reader gave.

    Args:
        affine: from voxel centres to the world of the image's reader.
        meta: of the image, which tells that world; RAS where it does not.
        coordinates: of the world that is wanted, ``RAS`` or ``LPS``.

    Shape:
        - affine: ``(4, 4)``
        - Output: ``(4, 4)``, float64
    """
    affine = affine.as_subclass(Tensor).double().cpu()
    space = "LPS" if str(meta.get(MetaKeys.SPACE)) == "LPS" else "RAS"  # of the affine, by its reader
    return affine if space == coordinates else torch.diag(affine.new_tensor([-1, -1, 1, 1])) @ affine
