from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_ssl.networks.voxel_readout import VoxelReadout, read_voxels


class Maps(nn.Module):
    def forward(self, images):
        pool = F.avg_pool3d if images.ndim == 5 else F.avg_pool2d
        return [images, pool(images, 2), pool(images, 4)]


def upsampled(maps, shape):
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return torch.cat([F.interpolate(values, shape, mode=mode, align_corners=False) for values in maps], dim=1)


@pytest.mark.parametrize("shape", [(8, 4, 12), (8, 12)])
def test_single_voxels_have_the_features_of_the_upsampled_maps(shape):
    images = torch.randn(1, 2, *shape)
    points = torch.cartesian_prod(*[torch.arange(side) for side in shape])
    maps = Maps()(images)
    wanted = upsampled(maps, shape)[0].flatten(1).T
    assert torch.allclose(read_voxels(maps, points, shape), wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 4, 12), (8, 12)])
def test_the_readout_is_a_linear_layer_on_the_upsampled_maps(shape):
    images, weight, bias = torch.randn(2, 2, *shape), torch.randn(3, 6), torch.randn(3)
    logits = VoxelReadout(Maps(), weight.double(), bias.double())(images)
    wanted = torch.einsum("kf,bf...->bk...", weight, upsampled(Maps()(images), shape))
    assert torch.allclose(logits, wanted + bias.reshape(1, 3, *[1] * len(shape)), atol=1e-5)
