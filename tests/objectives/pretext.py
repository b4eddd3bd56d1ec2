"""A tiny network with heads for tests of pretext tasks."""

from __future__ import annotations

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_ssl.networks.heads import NetworkOutput
from monai_ssl.networks.pretext_network import PretextNetwork


def network(**heads: nn.Module) -> PretextNetwork:
    """Deepest map of 8 channels at half the size; without heads, the network's own output as `output`."""
    torch.manual_seed(0)
    bare = UNet(3, 1, 1, channels=[4, 8], strides=[2], norm=("instance", {"affine": True}))
    return PretextNetwork(bare, heads or {"output": NetworkOutput(1)})


def images(count: int = 4, *extra: int) -> Tensor:
    """Different smooth volumes of 8 voxels a side, with detail enough to tell a rotation."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(count * max(1, extra[0] if extra else 1), 1, 4, 4, 4, generator=generator)
    fine = nn.functional.interpolate(coarse, size=(8, 8, 8), mode="trilinear")
    return fine.unflatten(0, (count, *extra)) if extra else fine
