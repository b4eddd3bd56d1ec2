from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from einops import rearrange
from monai.networks.layers.simplelayers import SkipConnection
from monai.networks.nets import (
    UNETR,
    AttentionUnet,
    BasicUNet,
    DynUNet,
    ResNet,
    ResNetFeatures,
    SegResNet,
    SegResNetVAE,
    SwinUNETR,
    UNet,
    ViT,
)
from monai.networks.nets.unet import CheckpointUNet
from torch import Tensor, nn

from monai_ssl.networks.encoder import (
    EncoderTaps,
    encode,
    encode_and_decode,
    encoder_keys,
    encoder_parameters,
    feature_shapes,
)
from monai_ssl.utils.errors import UserError
from tests.helpers import same

Walk = Callable[[Any, Tensor], Sequence[Tensor]]


def read_by(modules: Sequence[nn.Module], network: nn.Module, images: Tensor) -> list[tuple[Tensor, ...]]:
    """Return what the decoder's modules are given within a full pass."""
    given: dict[nn.Module, tuple[Tensor, ...]] = {}
    handles = [m.register_forward_pre_hook(lambda module, inputs: given.update({module: inputs})) for m in modules]
    network(images)
    for handle in handles:
        handle.remove()
    return [given[module] for module in modules]


def unet_walk(network: UNet, images: Tensor) -> list[Tensor]:
    found: list[tuple[Tensor, Tensor]] = []
    skips = [module for module in network.modules() if isinstance(module, SkipConnection)]
    handles = [s.register_forward_hook(lambda _, inputs, output: found.append((inputs[0], output))) for s in skips]
    network(images)
    for handle in handles:
        handle.remove()
    deepest, joined = found[0]  # the innermost ends first
    return [given for given, _ in reversed(found)] + [joined[:, deepest.shape[1] :]]


def basic_unet_walk(network: BasicUNet, images: Tensor) -> list[Tensor]:
    ups = [network.upcat_1, network.upcat_2, network.upcat_3, network.upcat_4]
    given = read_by(ups, network, images)
    return [skip for _, skip in given] + [given[-1][0]]


def dyn_unet_walk(network: DynUNet, images: Tensor) -> list[Tensor]:
    given = read_by(list(network.upsamples), network, images)
    return [skip for _, skip in reversed(given)] + [given[0][0]]


def swin_walk(network: SwinUNETR, images: Tensor) -> list[Tensor]:
    readers = [network.encoder2, network.encoder3, network.encoder4, network.decoder5, network.encoder10]
    given = read_by(readers, network, images)
    return [given[0][0], given[1][0], given[2][0], given[3][1], given[4][0]]


def unetr_walk(network: UNETR, images: Tensor) -> list[Tensor]:
    readers = [network.encoder2, network.encoder3, network.encoder4, network.decoder5]
    return [inputs[0] for inputs in read_by(readers, network, images)]


def vit_walk(network: ViT, images: Tensor) -> list[Tensor]:
    last, hidden = network(images)
    if network.classification:
        last = network.norm(hidden[-1])
        hidden, last = [tokens[:, 1:] for tokens in hidden], last[:, 1:]
    cut = {4: "b (h w) c -> b c h w", 5: "b (h w d) c -> b c h w d"}[images.ndim]
    # the tests' patches are two tokens high and three wide
    return [rearrange(tokens, cut, h=2, w=3) for tokens in [*hidden[:-1], last]]


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    walk: Walk
    patch: tuple[int, ...]
    channels: int = 1


BATCH: dict[str, Any] = {"norm": "batch"}
VIT: dict[str, Any] = {"hidden_size": 12, "mlp_dim": 16, "num_layers": 3, "num_heads": 2}
CASES = {
    "UNet": Case(lambda: UNet(3, 1, 3, (4, 6, 8), (2, 2)), unet_walk, (12, 16, 20)),
    "UNet two levels": Case(lambda: UNet(3, 1, 3, (4, 6), (2,)), unet_walk, (8, 8, 8)),
    "UNet residual": Case(
        lambda: UNet(3, 2, 3, (4, 6, 8), ((2, 2, 1), 2), (3, 3, 1), (3, 3, 3), num_res_units=2, dropout=0.1, **BATCH),
        unet_walk,
        (8, 8, 6),
        channels=2,
    ),
    "UNet 2D": Case(lambda: UNet(2, 1, 3, (4, 6, 8), (2, 2), num_res_units=1), unet_walk, (16, 8)),
    "UNet checkpointed": Case(lambda: CheckpointUNet(3, 1, 3, (4, 6, 8), (2, 2)), unet_walk, (12, 12, 12)),
    "BasicUNet": Case(lambda: BasicUNet(features=(4, 4, 6, 6, 8, 4)), basic_unet_walk, (32, 32, 32)),
    "BasicUNet 2D": Case(lambda: BasicUNet(2, 1, 2, (4, 4, 6, 6, 8, 4), **BATCH), basic_unet_walk, (32, 32)),
    "DynUNet": Case(
        lambda: DynUNet(3, 1, 3, (3, 3, (3, 3, 1)), (1, 2, (2, 2, 1)), (2, (2, 2, 1)), filters=(4, 6, 8)),
        dyn_unet_walk,
        (12, 16, 6),
    ),
    "DynUNet residual, deep supervision": Case(
        lambda: DynUNet(
            3,
            1,
            3,
            (3, 3, 3, 3),
            (1, 2, 2, 2),
            (2, 2, 2),
            filters=(4, 4, 6, 8),
            norm_name="batch",
            deep_supervision=True,
            deep_supr_num=2,
            res_block=True,
        ),
        dyn_unet_walk,
        (16, 16, 16),
    ),
    "DynUNet 2D": Case(
        lambda: DynUNet(2, 1, 3, (3, 3, 3), (1, 2, 2), (2, 2), filters=(4, 6, 8)), dyn_unet_walk, (16, 8)
    ),
    "SegResNet": Case(
        lambda: SegResNet(blocks_down=(1, 2, 1), blocks_up=(1, 1), dropout_prob=0.1),
        lambda network, images: network.encode(images)[1],
        (16, 12, 12),
    ),
    "SegResNet 2D": Case(
        lambda: SegResNet(2, 4, 1, 3, norm="batch", blocks_down=(1, 1, 1), blocks_up=(1, 1), upsample_mode="deconv"),
        lambda network, images: network.encode(images)[1],
        (16, 8),
    ),
    "SegResNetVAE": Case(
        lambda: SegResNetVAE((16, 16, 16), blocks_down=(1, 1, 1), blocks_up=(1, 1)),
        lambda network, images: network.encode(images)[1],
        (16, 16, 16),
    ),
    "SwinUNETR": Case(
        lambda: SwinUNETR(1, 2, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), feature_size=12),
        swin_walk,
        (64, 64, 64),
    ),
    "SwinUNETR 2D, second version, not normalised": Case(
        lambda: SwinUNETR(
            1,
            2,
            depths=(2, 1, 1, 1),
            num_heads=(1, 1, 2, 2),
            feature_size=12,
            normalize=False,
            patch_norm=True,
            spatial_dims=2,
            downsample="mergingv2",
            use_v2=True,
            use_checkpoint=True,
        ),
        swin_walk,
        (64, 96),
    ),
    "UNETR": Case(
        lambda: UNETR(1, 2, (32, 48, 16), 4, 12, 16, 2, qkv_bias=True),
        unetr_walk,
        (32, 48, 16),
    ),
    "UNETR 2D": Case(
        lambda: UNETR(1, 2, (32, 48), 4, 12, 16, 2, spatial_dims=2, norm_name="batch"), unetr_walk, (32, 48)
    ),
    "ViT": Case(lambda: ViT(1, (8, 12, 8), (4, 4, 2), **VIT), vit_walk, (8, 12, 8)),
    "ViT perceptron": Case(
        lambda: ViT(1, (8, 24, 4), (4, 8, 2), proj_type="perceptron", **VIT),
        vit_walk,
        (8, 24, 4),
    ),
    "ViT 2D, class token": Case(
        lambda: ViT(1, (8, 12), 4, classification=True, spatial_dims=2, **VIT), vit_walk, (8, 12)
    ),
    "ResNet": Case(
        lambda: ResNet("basic", [1, 2, 1, 1], [4, 4, 6, 8], n_input_channels=1, num_classes=2),
        ResNetFeatures.forward,
        (24, 20, 16),
    ),
    "ResNet 2D, bottleneck": Case(
        lambda: ResNet(
            "bottleneck",
            [1, 1, 1, 1],
            [4, 4, 4, 4],
            spatial_dims=2,
            n_input_channels=2,
            no_max_pool=True,
            feed_forward=False,
            act="prelu",
        ),
        ResNetFeatures.forward,
        (32, 16),
        channels=2,
    ),
}
every_network = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def images_for(case: Case, batch: int = 2) -> Tensor:
    return torch.randn(batch, case.channels, *case.patch)


@every_network
def test_features_are_those_that_the_decoder_reads(case: Case) -> None:
    network, images = case.make().eval(), images_for(case, 1)
    with torch.no_grad():
        expected = list(case.walk(network, images))
        encoded = encode(network, images)
        answer, along = encode_and_decode(network, images)
        assert same(encoded, expected)
        assert same(along, expected)
        if not isinstance(network, SegResNetVAE):  # its answer is random
            assert same(answer, network(images))
    assert feature_shapes(network, case.channels, case.patch) == [tuple(feature.shape[1:]) for feature in expected]
    assert not any(module._forward_hooks for module in network.modules())


@every_network
def test_the_deepest_map_trains_the_encoders_parameters_and_no_other(case: Case) -> None:
    network = case.make().train()
    encode(network, images_for(case))[-1].square().sum().backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    mine = set(encoder_parameters(network))
    idle = {name for name in mine if ".norm_cross_attn." in name}  # of MONAI's transformer blocks; no pass uses it
    assert reached == mine - idle
    assert reached < {name for name, _ in network.named_parameters()} or isinstance(network, (ViT, ResNet))


@every_network
def test_the_encoders_keys_carry_its_features_over(case: Case) -> None:
    source, target, images = case.make(), case.make(), images_for(case, 1)
    with torch.no_grad():
        encode(source.train(), images)  # moves the running statistics
        wanted = encode(source.eval(), images)
        assert not same(encode(target.eval(), images), wanted)
        keys = encoder_keys(source)
        weights = {name: value for name, value in source.state_dict().items() if name in keys}
        assert len(weights) == len(keys)
        rest = {name: value.clone() for name, value in target.state_dict().items() if name not in keys}
        target.load_state_dict(weights, strict=False)
        assert same(encode(target, images), wanted)
    assert same({name: value for name, value in target.state_dict().items() if name not in keys}, rest)


def test_every_name_of_a_shared_entry_is_a_key() -> None:
    network = CASES["DynUNet"].make()
    entries = network.state_dict(keep_vars=True)
    values = {id(entries[name]) for name in encoder_keys(network)}
    assert {name for name, value in entries.items() if id(value) in values} == set(encoder_keys(network))
    assert {"input_block.conv1.conv.weight", "skip_layers.downsample.conv1.conv.weight"} < set(encoder_keys(network))


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("UNet", "model.2"),
        ("DynUNet", "upsamples.1"),
        ("SegResNet", "up_layers.0"),
        ("UNETR", "encoder1"),
        ("ResNet", "fc"),
    ],
)
def test_the_decoder_does_not_run(name: str, module: str) -> None:
    case = CASES[name]
    network, calls = case.make(), []
    network.get_submodule(module).register_forward_hook(lambda *_: calls.append(1))
    encode(network, images_for(case))
    assert not calls
    encode_and_decode(network, images_for(case))
    assert calls


# No axis of these maps is 2 voxels long: torch 2.13's gradient of a bfloat16 convolution is then wrong on a CPU.
@pytest.mark.parametrize("name", ["UNet", "UNet checkpointed", "DynUNet", "SegResNet"])
def test_mixed_precision(name: str) -> None:
    case = CASES[name]
    network, images = case.make().eval(), images_for(case)
    mine = [network.get_parameter(name) for name in encoder_parameters(network)]
    with torch.autocast("cpu", torch.bfloat16):
        features = encode(network, images)
    assert not torch.is_autocast_enabled("cpu")
    for low, full in zip(features, encode(network, images), strict=True):
        assert torch.allclose(low.float(), full, atol=0.1 * full.abs().max().item())
    gradients = torch.autograd.grad(features[-1].float().square().mean(), mine)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", ["UNet checkpointed", "SwinUNETR 2D, second version, not normalised"])
def test_checkpointed_gradients_are_those_of_a_full_pass(name: str) -> None:
    case = CASES[name]
    network, images = case.make().train(), images_for(case)
    mine = [network.get_parameter(name) for name in encoder_parameters(network)]
    torch.manual_seed(0)
    short = torch.autograd.grad(encode(network, images)[-1].square().sum(), mine)
    torch.manual_seed(0)
    whole = torch.autograd.grad(encode_and_decode(network, images)[1][-1].square().sum(), mine)
    assert all(torch.allclose(one, other) for one, other in zip(short, whole, strict=True))


@pytest.mark.parametrize("patch", [(16, 16, 16), (8, 12, 32), (32, 8, 8)])
def test_shapes(patch: tuple[int, ...]) -> None:
    h, w, d = patch
    network = UNet(3, 1, 3, (4, 6, 8), (2, 2))
    expected = [(4, h // 2, w // 2, d // 2), (6, h // 4, w // 4, d // 4), (8, h // 4, w // 4, d // 4)]
    assert feature_shapes(network, 1, patch) == expected


def test_asking_for_shapes_leaves_everything_as_it_was() -> None:
    network: Any = CASES["UNet residual"].make().train()
    network.model[0].eval()  # frozen, say
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    feature_shapes(network, 2, (8, 8, 6))
    assert [module.training for module in network.modules()] == modes
    assert same(dict(network.state_dict()), before)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("name", "channels", "patch"), [("SwinUNETR", 1, (48, 64, 64)), ("UNet", 2, (8, 8, 8)), ("UNETR", 1, (32, 32, 32))]
)
def test_a_patch_that_does_not_go_through_is_refused(name: str, channels: int, patch: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"patch_size \[\d+, \d+, \d+\] does not go through this network"):
        feature_shapes(CASES[name].make(), channels, patch)


def test_an_unknown_network_is_told_what_to_do() -> None:
    network = AttentionUnet(2, 1, 2, (4, 8), (2,))
    message = r"no encoder is known in AttentionUnet; it is known in UNet, BasicUNet, .*ResNet\..*encoder_taps\(\)"
    for ask in (encoder_parameters, encoder_keys, lambda n: encode(n, torch.zeros(1, 1, 8, 8))):
        with pytest.raises(UserError, match=message):
            ask(network)
    with pytest.raises(UserError, match=message):
        feature_shapes(network, 1, (8, 8))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stage = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 4, 2, 2)
        self.scale, self.last, self.idle = nn.Parameter(torch.ones(1)), nn.Conv2d(4, 1, 1), nn.Identity()
        self.taps = EncoderTaps([self.stem, self.stage], parts=[self.scale])

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.stage(self.stem(images) * self.scale))  # type: ignore[no-any-return]

    def encoder_taps(self) -> EncoderTaps:
        return self.taps


def test_a_network_can_say_itself_where_its_encoder_is() -> None:
    network, images = Own(), torch.randn(1, 1, 4, 4)
    stem = network.stem(images)
    assert same(encode(network, images), [stem, network.stage(stem * network.scale)])
    assert encoder_parameters(network) == ("scale", "stem.weight", "stem.bias", "stage.weight", "stage.bias")


@pytest.mark.parametrize("ask", [encode, encode_and_decode])
def test_a_tap_that_never_runs_is_told(ask: Callable[[nn.Module, Tensor], Any]) -> None:
    network = Own()
    network.taps = EncoderTaps([network.stem, network.idle])
    with pytest.raises(UserError, match=r"Own does not run module 1 of its encoder_taps\(\)\.maps"):
        ask(network, torch.randn(1, 1, 4, 4))
    assert not network.stem._forward_hooks


def test_an_error_of_the_network_is_its_own_and_leaves_no_hook() -> None:
    network = CASES["UNet"].make()
    with pytest.raises(RuntimeError, match="channels"):
        encode(network, torch.zeros(1, 2, 8, 8, 8))
    assert not any(module._forward_hooks for module in network.modules())
