"""Anchors of a detector, and the order in which its maps are read for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from torch import Tensor

__all__ = ["CenteredAnchorGenerator", "flatten_maps"]


class CenteredAnchorGenerator(AnchorGeneratorWithAnchorShape):
    r"""Anchors whose centres are those of the cells, in voxel edge coordinates.

    .. math:: c_i = (i + \tfrac{1}{2})\, s, \qquad [c_i - \tfrac{w}{2},\; c_i + \tfrac{w}{2}]

    for cell :math:`i` of a level of stride :math:`s`. MONAI's own has :math:`i s + \lfloor s / 2 \rfloor`, half a voxel
    off for odd strides, and rounds half the shapes to whole voxels, so that a flipped patch had other anchors.
    Coordinates are float32 whatever the maps' precision.

    Args:
        feature_map_scales: a factor for each level, the finest first.
        base_anchor_shapes: voxels along each axis, of the anchors at each place; each level has them times its factor.

    Raises:
        ValueError: when a number is not above 0, or the shapes have different numbers of axes.
    """

    def __init__(self, feature_map_scales: Sequence[float], base_anchor_shapes: Sequence[Sequence[float]]) -> None:
        if not feature_map_scales or not all(scale > 0 for scale in feature_map_scales):
            raise ValueError(f"`feature_map_scales` must be numbers above 0, got {list(feature_map_scales)}.")
        shapes = [tuple(shape) for shape in base_anchor_shapes]
        if len({len(shape) for shape in shapes}) != 1 or not all(side > 0 for shape in shapes for side in shape):
            raise ValueError(
                f"`base_anchor_shapes` must be shapes of numbers above 0, all of 2 or 3 axes, got {shapes}."
            )
        super().__init__(feature_map_scales, shapes)

    @staticmethod
    def generate_anchors_using_shape(
        anchor_shapes: Tensor, dtype: torch.dtype = torch.float32, device: torch.device | None = None
    ) -> Tensor:
        """Boxes of the shapes around the origin, unrounded."""
        half = anchor_shapes.to(dtype=dtype, device=device) / 2
        return torch.cat([-half, half], dim=1)

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Send the shapes to a device; the dtype stays."""
        super().set_cell_anchors(torch.float32, device)

    def grid_anchors(
        self, grid_sizes: Sequence[Sequence[int]], strides: Sequence[Sequence[int | Tensor]]
    ) -> list[Tensor]:
        """Anchors of each level, the last axis fastest among the places, and the shapes within a place fastest of all.

        Args:
            grid_sizes: cells of each level along each axis.
            strides: of each level along each axis, in voxels.

        Shape:
            - Output: a list of ``(h * w[ * d] * A, 4 or 6)``

        Raises:
            ValueError: when there is not one grid and one row of strides for each level.
        """
        if not len(grid_sizes) == len(strides) == len(self.cell_anchors):
            raise ValueError(
                f"`grid_sizes` and `strides` must be one for each of {len(self.cell_anchors)} levels of anchors, got "
                f"{len(grid_sizes)} and {len(strides)}."
            )
        anchors = []
        for sizes, steps, shapes in zip(grid_sizes, strides, self.cell_anchors, strict=True):
            axes = [
                (torch.arange(size, dtype=torch.float32, device=shapes.device) + 0.5) * step
                for size, step in zip(sizes, steps, strict=True)
            ]
            centers = torch.stack(torch.meshgrid(axes, indexing="ij"), dim=-1).flatten(0, -2)
            anchors.append((centers.repeat(1, 2)[:, None] + shapes[None]).flatten(0, 1))
        return anchors


def flatten_maps(maps: Sequence[Tensor], num_anchors: int) -> Tensor:
    """Maps of a head as one row an anchor, level after level, as MONAI's RetinaNetDetector orders them.

    Args:
        maps: one a level; the channel of anchor ``a`` and number ``k`` is ``a * K + k``.
        num_anchors: number A of anchors at each place.

    Shape:
        - maps: each ``(B, A * K, h, w[, d])``
        - Output: ``(B, N, K)``, ``N`` the sum over the levels of ``h * w[ * d] * A``
    """
    return torch.cat(
        [each.unflatten(1, (num_anchors, -1)).flatten(3).permute(0, 3, 1, 2).flatten(1, 2) for each in maps], 1
    )
