from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from monai.networks.nets import UNETR, AttentionUnet, BasicUNet, DynUNet, SegResNet, SegResNetVAE, UNet
from torch import Tensor, nn

from monai_ssl.networks.encoder import encode, encoder_keys, feature_shapes
from monai_ssl.networks.heads import ClassificationHead, NetworkOutput, ProjectionHead, ReconstructionHead
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.networks.teacher import make_teacher
from monai_ssl.networks.transfer import compare_keys
from monai_ssl.utils.errors import UserError
from tests.helpers import check_no_shared_storage, same

PATCH = (16, 16, 16)


def unet(out_channels: int = 1) -> UNet:
    return UNet(3, 1, out_channels, (4, 6, 8), (2, 2), num_res_units=1)


def dyn_unet(out_channels: int = 1) -> DynUNet:
    return DynUNet(
        3, 1, out_channels, (3, 3, 3, 3), (1, 2, 2, 2), (2, 2, 2), (4, 4, 4, 4), deep_supervision=True, deep_supr_num=2
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "UNet": unet,
    "DynUNet": dyn_unet,
    "SegResNet": lambda: SegResNet(out_channels=1, blocks_down=(1, 1), blocks_up=(1,)),
    "SegResNetVAE": lambda: SegResNetVAE(PATCH, out_channels=1, blocks_down=(1, 1), blocks_up=(1,)),
    "UNETR": lambda: UNETR(1, 1, (32, 16, 16), 4, 12, 16, 2),
}


def pretext(network: nn.Module, patch: tuple[int, ...] = PATCH, restore: bool = True) -> PretextNetwork:
    shapes = feature_shapes(network, 1, patch)
    heads: dict[str, nn.Module] = {
        "rotation": ClassificationHead(shapes, 10),
        "contrast": ProjectionHead(shapes, 16),
        "upsampled": ReconstructionHead(shapes, 1, patch),
    }
    return PretextNetwork(network, heads | ({"restored": NetworkOutput(1)} if restore else {}))


@pytest.mark.parametrize("name", NETWORKS)
def test_one_pass_serves_all_heads(name: str) -> None:
    patch = (32, 16, 16) if name == "UNETR" else PATCH
    network = NETWORKS[name]()
    model, images = pretext(network, patch).train(), torch.randn(2, 1, *patch)
    passes: list[str] = []
    deepest = {"UNet": "model.1.submodule.1.submodule", "DynUNet": "bottleneck", "UNETR": "vit"}.get(
        name, "down_layers"
    )
    counted = network.get_submodule(deepest)
    counted = counted[-1] if isinstance(counted, nn.ModuleList) else counted
    counted.register_forward_hook(lambda *_: passes.append("encoder"))
    network.register_forward_hook(lambda *_: passes.append("decoder"))
    outputs = model(images)
    assert {head: tuple(output.shape) for head, output in outputs.items()} == {
        "rotation": (2, 10),
        "contrast": (2, 16),
        "upsampled": (2, 1, *patch),
        "restored": (2, 1, *patch),
    }
    assert passes == ["encoder", "decoder"]
    passes.clear()
    some = model(images, ["contrast", "rotation"])
    assert passes in (["encoder"], [])  # UNETR's vit is left before it ends
    assert list(some) == ["contrast", "rotation"]
    assert same(some["rotation"], outputs["rotation"])


def test_every_head_reads_what_it_should() -> None:
    network = unet()
    model, images = pretext(network).eval(), torch.randn(2, 1, *PATCH)
    features = encode(network, images)
    expected = {name: head(features) for name, head in model.heads.items() if name != "restored"}
    expected["restored"] = network(images)
    assert same(model(images), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_keeps_its_parameters_names(name: str) -> None:
    fresh, network = NETWORKS[name](), NETWORKS[name]()
    model = pretext(network, (32, 16, 16) if name == "UNETR" else PATCH)
    assert model.deployed is network
    assert list(network.state_dict()) == list(fresh.state_dict())
    fresh.load_state_dict(model.deployed.state_dict())
    weights = model.state_dict()
    assert same(
        {k.removeprefix("network."): v for k, v in weights.items() if k.startswith("network.")},
        dict(fresh.state_dict()),
    )
    assert all(key.startswith(("network.", "heads.")) for key in weights)


def test_restoring_pretrains_all_but_the_last_layer() -> None:
    pretrained, downstream = pretext(unet(1)), unet(3)
    report = compare_keys(pretrained.deployed.state_dict(), downstream)
    assert not report.missing
    assert not report.unexpected
    assert report.mismatched
    assert all(name.startswith("model.2.") for name in report.mismatched)  # UNet's upper block has its classes' width
    assert set(encoder_keys(downstream)) < set(report.matched)


def test_the_pretrained_keys_are_those_that_learn() -> None:
    images = torch.randn(2, 1, *PATCH)
    for restore in (False, True):
        network = unet()
        model = pretext(network, restore=restore)
        torch.stack([output.square().mean() for output in model(images).values()]).sum().backward()
        learnt = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
        assert learnt == set(model.pretrained_keys)
        assert restore == (learnt == set(network.state_dict()))
        assert all(parameter.grad is not None for parameter in model.heads.parameters())


def test_every_head_trains_the_encoder() -> None:
    model, images = pretext(unet()), torch.randn(2, 1, *PATCH)
    for name, output in model(images).items():
        reached = torch.autograd.grad(
            output.square().mean(), list(model.parameters()), allow_unused=True, retain_graph=True
        )
        named = dict(zip((n for n, _ in model.named_parameters()), reached, strict=True))
        assert named["network.model.0.conv.unit0.conv.weight"].any()
        others = {n for n, g in named.items() if g is not None and n.startswith("heads.")}
        assert all(n.startswith(f"heads.{name}.") for n in others)


def test_deep_supervision_hands_on_the_finest_map() -> None:
    network, images = dyn_unet(), torch.randn(1, 1, *PATCH)
    model = PretextNetwork(network, {"restored": NetworkOutput(1)}).train()
    assert same(model(images)["restored"], network(images)[:, 0])
    assert same(model.eval()(images)["restored"], network(images))


def test_a_copy_shares_nothing_and_answers_alike() -> None:
    model, images = pretext(unet()).eval(), torch.randn(1, 1, *PATCH)
    model(images)
    teacher = make_teacher(model)
    check_no_shared_storage(model, teacher)
    assert same(teacher(images), {name: output.detach() for name, output in model(images).items()})
    assert same(copy.deepcopy(model.state_dict()), teacher.state_dict())


def test_mixed_precision() -> None:
    model, images = pretext(unet()), torch.randn(2, 1, *PATCH)
    full = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(images)
    for name, output in low.items():
        assert torch.allclose(output.float(), full[name], atol=0.2)


def test_a_patch_must_go_through_what_is_pretrained() -> None:
    network = PretextNetwork(unet(), {"restored": NetworkOutput(1)})
    network.check_patch_size((16, 16, 16), 1)
    with pytest.raises(UserError, match=r"patch_size \[15, 16, 16\] comes out of this network as \[16, 16, 16\]"):
        network.check_patch_size((15, 16, 16), 1)
    with pytest.raises(UserError, match=r"patch_size \[18, 16, 16\] does not go through"):
        PretextNetwork(dyn_unet(), {"restored": NetworkOutput(1)}).check_patch_size((18, 16, 16), 1)
    with pytest.raises(UserError, match=r"patch_size \[16, 16, 16\] does not go through.*in_channels"):
        network.check_patch_size((16, 16, 16), 2)
    # an encoder alone takes it, and nothing else is pretrained
    PretextNetwork(unet(), {"class": ClassificationHead([(8, 4, 4, 4)], 3)}).check_patch_size((15, 16, 16), 1)


def test_views_and_tiles_go_through_as_a_longer_batch() -> None:
    network = BasicUNet(2, 1, 1, (4, 4, 4, 4, 4, 4))
    head = ClassificationHead(feature_shapes(network, 1, (32, 32)), 8, tiles=3)
    tiles = torch.randn(2, 3, 1, 32, 32)
    assert PretextNetwork(network, {"jigsaw": head})(tiles.flatten(0, 1))["jigsaw"].shape == (2, 8)


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="no encoder is known in AttentionUnet"):
        PretextNetwork(AttentionUnet(2, 1, 2, (4, 8), (2,)), {})
    model = pretext(unet(3))
    images: Tensor = torch.randn(1, 1, *PATCH)
    with pytest.raises(ValueError, match=r"no head 'rotate'; there are rotation, contrast, upsampled, restored\."):
        model(images, ["rotate"])
    with pytest.raises(UserError, match=r"Set network_def#out_channels to 1 for pretraining"):
        model(images)


@pytest.mark.parametrize("restore", [True, False])
def test_the_pretrained_state_is_what_was_trained(restore: bool) -> None:
    bare = unet()
    state = pretext(bare, restore=restore).pretrained_state()
    assert set(state) == set(bare.state_dict() if restore else encoder_keys(bare))
    assert all(same(value, bare.state_dict()[name]) for name, value in state.items())
