"""Small networks of MONAI."""

from __future__ import annotations

from typing import Any

from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from monai.networks.nets.unetr import UNETR
from torch import nn


def unet(channels: tuple[int, ...] = (2, 4, 8), inputs: int = 1, outputs: int = 2, norm: str = "INSTANCE") -> UNet:
    return UNet(3, inputs, outputs, channels, (2, 2), num_res_units=1, norm=norm)


def swin(inputs: int = 1, size: int = 12) -> SwinUNETR:
    # with instance norm it would need volumes of 64 voxels a side
    return SwinUNETR(inputs, 2, feature_size=size, depths=(1, 1, 1, 1), num_heads=(2, 2, 2, 2), norm_name="batch")


def unetr(image: int | tuple[int, ...] = 32, inputs: int = 1) -> UNETR:
    return UNETR(inputs, 2, image, feature_size=4, hidden_size=12, mlp_dim=16, num_heads=2, norm_name="instance")


def dyn_unet(trans_bias: bool = False) -> DynUNet:
    return DynUNet(3, 1, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[2, 4, 6], trans_bias=trans_bias)


def every_key_once(network: nn.Module, report: Any) -> None:
    told = [*report.matched, *report.adapted, *report.missing, *report.mismatched]
    assert sorted(told) == sorted(network.state_dict())
