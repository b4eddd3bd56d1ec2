"""A linear layer on frozen feature maps: read at single voxels to be fitted, and at every voxel to segment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["VoxelReadout", "read_voxels"]

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def read_voxels(maps: Sequence[Tensor], points: Tensor, shape: Sequence[int]) -> Tensor:
    r"""Features of single voxels, every map interpolated linearly at the voxel's place.

    A voxel :math:`i` of an axis of :math:`n` voxels lies at :math:`(i + 1/2)/n`; so the values are those of the maps
    after ``F.interpolate(.., align_corners=False)`` to the image's shape, without making these large maps.

    Args:
        maps: of one image.
        points: indices of the voxels.
        shape: of the image.

    Shape:
        - maps: each ``(1, F, h, w, d)`` or ``(1, F, h, w)``
        - points: ``(N, axes)``
        - Output: ``(N, F)``, F the channels of all maps
    """
    axes = points.shape[1]
    places = (2 * points.float() + 1) / torch.tensor(shape, device=points.device) - 1
    grid = places.flip(1).reshape(1, len(points), *[1] * (axes - 1), axes)  # grid_sample counts axes from the last
    found = [F.grid_sample(m.float(), grid, "bilinear", "border", align_corners=False) for m in maps]
    return torch.cat([values.flatten(2)[0].T for values in found], dim=1)


class VoxelReadout(nn.Module):
    r"""Logits of every voxel, linear in the upsampled feature maps.

    .. math:: \sum_l \mathrm{up}(W_l F_l) + b

    which is :math:`W [\mathrm{up}(F_1), \dots, \mathrm{up}(F_L)] + b`, since upsampling and a 1 x 1 x 1 convolution can
    change places; so only maps of as many channels as classes are made large.

    Args:
        maps: images to a list of maps, such as :class:`~monai_ssl.networks.frozen_features.FrozenEncoder`.
        weight: of all maps' channels, in the order of :func:`read_voxels`.
        bias: by class.

    Shape:
        - weight: ``(K, F)``
        - bias: ``(K,)``
        - Input: ``(B, C, H, W[, D])``
        - Output: ``(B, K, H, W[, D])``
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, maps: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.maps = maps
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        axes = images.ndim - 2
        maps = self.maps(images)
        parts = self.weight.split([values.shape[1] for values in maps], dim=1)
        logits = self.bias.reshape(1, -1, *[1] * axes)
        for values, weight in zip(maps, parts, strict=True):
            small = torch.einsum("kf,bf...->bk...", weight, values.float())
            logits = logits + F.interpolate(small, images.shape[2:], mode=_LINEAR[axes], align_corners=False)
        return logits
