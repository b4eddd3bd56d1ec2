from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import ResNet
from monai.networks.nets.unet import UNet

from monai_ssl.networks.encoder import encode, encoder_keys
from monai_ssl.networks.feature_pyramid import FeaturePyramid
from monai_ssl.networks.pretrained import load_pretrained
from monai_ssl.utils.errors import UserError


def res_net(stride: Any = 2, axes: int = 3, block: str = "basic", size: int = 3, pool: bool = False) -> ResNet:
    return ResNet(
        block,
        [1, 1, 1, 1],
        [4, 8, 16, 32],
        axes,
        1,
        conv1_t_size=size,
        conv1_t_stride=stride,
        no_max_pool=not pool,
        num_classes=2,
    )


@pytest.mark.parametrize(
    ("backbone", "levels", "patch", "strides"),
    [
        (lambda: res_net(), (1, 2, 3), (16, 8, 16), [(2, 2, 2), (4, 4, 4), (8, 8, 8)]),
        (lambda: res_net(1), (2,), (4, 4, 4), [(2, 2, 2)]),
        (lambda: res_net(1, pool=True), (1, 4), (16, 16, 16), [(2, 2, 2), (16, 16, 16)]),
        (lambda: res_net((2, 2, 1), size=7), (1, 2), (8, 8, 4), [(2, 2, 1), (4, 4, 2)]),
        (lambda: res_net(3), (1,), (9, 9, 9), [(3, 3, 3)]),
        (lambda: res_net(block="bottleneck"), (1, 2), (8, 8, 8), [(2, 2, 2), (4, 4, 4)]),
        (lambda: res_net(axes=2), (1, 2), (8, 12), [(2, 2), (4, 4)]),
    ],
)
def test_maps_have_the_strides_it_says(backbone: Any, levels: Any, patch: Any, strides: Any) -> None:
    pyramid = FeaturePyramid(backbone(), levels, 5)
    maps = pyramid(torch.rand(2, 1, *patch))
    assert list(pyramid.strides) == strides
    assert [tuple(each.shape) for each in maps] == [
        (2, 5, *(side // step for side, step in zip(patch, steps, strict=True))) for steps in strides
    ]
    assert pyramid.out_channels == 5


def test_maps_against_the_equation() -> None:
    pyramid = FeaturePyramid(res_net(), (1, 3), 5).eval()
    image = torch.rand(1, 1, 16, 16, 16)
    _, fine, _, coarse = encode(pyramid.encoder, image)[:4]
    layers: Any = pyramid.pyramid
    below, top = (
        torch.einsum("oi,bihwd->bohwd", layer.weight[..., 0, 0, 0], features) + layer.bias.view(5, 1, 1, 1)
        for layer, features in zip(layers.inner_blocks, (fine, coarse), strict=True)
    )
    spread = top.repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
    expected = [
        F.conv3d(features, layer.weight, layer.bias, padding=1)
        for layer, features in zip(layers.layer_blocks, (below + spread, top), strict=True)
    ]
    for got, one in zip(pyramid(image), expected, strict=True):
        assert torch.allclose(got, one, atol=1e-5)


def test_no_parameter_is_left_without_a_gradient() -> None:
    pyramid = FeaturePyramid(res_net(), (1, 2), 8)
    sum(each.square().mean() for each in pyramid(torch.rand(2, 1, 8, 8, 8))).backward()
    gradients: dict[str, Any] = {name: value.grad for name, value in pyramid.named_parameters()}
    assert [name for name, value in gradients.items() if value is None] == []
    # a bias before a norm has one of 0
    assert [name for name, value in gradients.items() if name.endswith("weight") and not value.any()] == []
    assert not any("layer3" in name or "fc" in name for name in pyramid.state_dict())


def test_encoder_takes_the_weights_of_a_pretraining_of_the_whole_network(tmp_path: Path) -> None:
    theirs = res_net()
    torch.save({name: value for name, value in theirs.state_dict().items() if "fc" not in name}, tmp_path / "model.pt")
    pyramid = FeaturePyramid(res_net(), (1, 2), 8)
    report = load_pretrained(pyramid.encoder, tmp_path / "model.pt")
    own = pyramid.encoder.state_dict()
    assert set(report.matched) == set(own)
    assert all(name.startswith(("layer3.", "layer4.")) for name in report.unexpected)
    assert report.unexpected
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in own.items())
    assert len(report.encoder) == report.encoder_size == len(own)
    assert not report.warnings


def test_it_says_where_its_encoder_is() -> None:
    pyramid = FeaturePyramid(res_net(), (1, 2), 8).eval()
    assert set(encoder_keys(pyramid)) == {f"encoder.{name}" for name in pyramid.encoder.state_dict()}
    image = torch.rand(1, 1, 8, 8, 8)
    for one, other in zip(encode(pyramid, image), encode(pyramid.encoder, image), strict=False):
        assert torch.equal(one, other)


def test_a_look_at_the_backbone_leaves_it_as_it_was() -> None:
    torch.manual_seed(0)
    backbone, state = res_net(), torch.get_rng_state()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    pyramid = FeaturePyramid(backbone, (1, 2, 3, 4), 8)
    assert not torch.equal(torch.get_rng_state(), state)  # the pyramid's own weights
    assert all(torch.equal(value, before[name]) for name, value in pyramid.encoder.state_dict().items())
    assert pyramid.training
    assert pyramid.encoder.training


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FeaturePyramid(res_net(), ()), ValueError, r"`levels` must be different stages.*got \[\]"),
        (lambda: FeaturePyramid(res_net(), (2, 1)), ValueError, r"ascending, got \[2, 1\]"),
        (lambda: FeaturePyramid(res_net(), (1, 5)), ValueError, r"out of 1, 2, 3, 4"),
        (
            lambda: FeaturePyramid(UNet(3, 1, 2, (2, 4), (2,)), (1,)),  # type: ignore[arg-type]
            UserError,
            "backbone must be a ResNet of MONAI, got UNet",
        ),
        (
            lambda: FeaturePyramid(res_net(size=4), (1,)),
            UserError,
            r"makes \[3, 3, 3\] voxels of \[4, 4, 4\].*\[2, 2, 2\].*an odd conv1_t_size",
        ),
    ],
)
def test_messages(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
