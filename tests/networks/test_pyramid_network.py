from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import (
    UNETR,
    AttentionUnet,
    BasicUNet,
    DynUNet,
    SegResNet,
    SegResNetVAE,
    SwinUNETR,
    UNet,
)
from monai.networks.nets.unet import CheckpointUNet
from torch import Tensor, nn

from monai_ssl.networks.pyramid_network import DecoderTaps, PyramidNetwork
from monai_ssl.utils.errors import UserError
from tests.helpers import same


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    patch: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...]  # of the coarser scales' feature maps
    widths: tuple[int, ...]


CASES = {
    "UNet": Case(
        lambda: UNet(3, 1, 3, (4, 5, 6, 7), (2, 2, 2), num_res_units=1),
        (16, 16, 24),
        ((8, 8, 12), (4, 4, 6), (2, 2, 3)),
        (4, 5, 7),
    ),
    "UNet anisotropic": Case(
        lambda: UNet(3, 1, 3, (4, 6, 8), ((2, 2, 1), 2)), (8, 8, 4), ((4, 4, 4), (2, 2, 2)), (4, 8)
    ),
    "UNet two levels": Case(lambda: UNet(3, 1, 3, (4, 6), (2,)), (8, 8, 8), ((4, 4, 4),), (6,)),
    "UNet 2D": Case(lambda: UNet(2, 1, 3, (4, 5, 6), (2, 2)), (16, 8), ((8, 4), (4, 2)), (4, 6)),
    "UNet checkpointed": Case(
        lambda: CheckpointUNet(3, 1, 3, (4, 5, 6), (2, 2)), (8, 8, 8), ((4, 4, 4), (2, 2, 2)), (4, 6)
    ),
    "BasicUNet": Case(
        lambda: BasicUNet(3, 1, 3, (4, 5, 6, 7, 8, 4)),
        (32, 32, 32),
        ((16,) * 3, (8,) * 3, (4,) * 3, (2,) * 3),
        (5, 6, 7, 8),
    ),
    "DynUNet": Case(
        lambda: DynUNet(3, 1, 3, (3,) * 4, (1, 2, (2, 2, 1), 2), (2, (2, 2, 1), 2), filters=(4, 5, 6, 7)),
        (16, 16, 8),
        ((8, 8, 4), (4, 4, 4), (2, 2, 2)),
        (5, 6, 7),
    ),
    "DynUNet, deep supervision": Case(
        lambda: DynUNet(
            3, 1, 3, (3,) * 4, (1, 2, 2, 2), (2,) * 3, filters=(4, 5, 6, 7), deep_supervision=True, deep_supr_num=2
        ),
        (16, 16, 16),
        ((8,) * 3, (4,) * 3, (2,) * 3),
        (5, 6, 7),
    ),
    "SegResNet": Case(
        lambda: SegResNet(out_channels=3, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
        (8, 8, 8),
        ((4, 4, 4), (2, 2, 2)),
        (16, 32),
    ),
    "SegResNetVAE": Case(
        lambda: SegResNetVAE((16,) * 3, out_channels=3, blocks_down=(1, 1), blocks_up=(1,)),
        (16,) * 3,
        ((8,) * 3,),
        (16,),
    ),
    "UNETR": Case(
        lambda: UNETR(1, 3, (32, 16, 16), 4, 12, 16, 2),
        (32, 16, 16),
        ((16, 8, 8), (8, 4, 4), (4, 2, 2)),
        (8, 16, 32),
    ),
    "SwinUNETR 2D": Case(
        lambda: SwinUNETR(
            1, 3, feature_size=12, depths=(1,) * 4, num_heads=(2,) * 4, norm_name="batch", spatial_dims=2
        ),
        (32, 32),
        ((16,) * 2, (8,) * 2, (4,) * 2, (2,) * 2),
        (12, 24, 48, 96),
    ),
}
every_network = pytest.mark.parametrize("name", CASES)


def build(name: str, rate: float = 0.0) -> tuple[PyramidNetwork, nn.Module, Tensor]:
    case = CASES[name]
    bare = case.make()
    model = PyramidNetwork(bare, 1, case.patch, (rate,) * (1 + len(case.sizes)))
    return model, bare, torch.randn(2, 1, *case.patch)


def finest(answer: Any, images: Tensor) -> Tensor:
    answer = answer[0] if isinstance(answer, tuple) else answer
    return answer[:, 0] if answer.ndim > images.ndim else answer


@every_network
def test_every_scale_is_a_head_on_its_stage(name: str) -> None:
    """What the heads are given is seen from outside; each answer is theirs, upsampled by hand."""
    model, bare, images = build(name)
    model.eval()
    own = list(getattr(bare, "deep_supervision_heads", []))
    heads: list[Any] = own + list(model.heads)
    given: dict[nn.Module, Tensor] = {}
    handles = [h.register_forward_pre_hook(lambda h, inputs: given.update({h: inputs[0]})) for h in heads]
    scales = model(images)
    for handle in handles:
        handle.remove()
    case = CASES[name]
    assert [tuple(given[head].shape[2:]) for head in heads] == list(case.sizes)
    assert [given[head].shape[1] for head in heads] == list(case.widths)
    assert [tuple(scale.shape) for scale in scales] == [(2, 3, *case.patch)] * len(scales)
    with torch.no_grad():
        assert same(scales[0].detach(), finest(bare(images), images))
        for scale, head in zip(scales[1:], heads, strict=True):
            mode = "trilinear" if images.ndim == 5 else "bilinear"
            assert same(scale.detach(), F.interpolate(head(given[head]), case.patch, mode=mode))


@every_network
def test_the_network_keeps_its_names_and_its_answer(name: str) -> None:
    model, bare, images = build(name)
    assert model.deployed is bare
    fresh = CASES[name].make()
    assert list(bare.state_dict()) == list(fresh.state_dict())
    fresh.load_state_dict(model.deployed.state_dict())
    assert same(finest(fresh.eval()(images), images), model.eval()(images)[0])
    assert all(key.startswith(("network.", "heads.")) for key in model.state_dict())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@every_network
def test_each_scale_trains_its_head_and_what_lies_before_it(name: str) -> None:
    model, bare, images = build(name)
    heads: list[Any] = [*getattr(bare, "deep_supervision_heads", []), *model.heads]
    everything = list(model.parameters())
    reached = []
    for scale in model(images):
        gradients = torch.autograd.grad(scale.square().sum(), everything, retain_graph=True, allow_unused=True)
        reached.append({id(p) for p, g in zip(everything, gradients, strict=True) if g is not None and g.any()})
    first = next(bare.parameters())
    for index, ids in enumerate(reached):
        assert id(first) in ids or isinstance(bare, UNETR)  # whose parts do not come in the order of running
        mine = {id(p) for head in heads[index - 1 : index] for p in head.parameters()} if index else set()
        others = {id(p) for head in heads for p in head.parameters()} - mine
        assert mine <= ids
        assert not others & ids
    for finer, coarser in itertools.pairwise(reached[1:]):  # a coarser one lies deeper
        assert len(coarser) < len(finer) or isinstance(bare, UNETR)


def test_checkpointing_gives_the_same_gradients() -> None:
    plain = UNet(3, 1, 3, (4, 5, 6), (2, 2))
    spared = CheckpointUNet(3, 1, 3, (4, 5, 6), (2, 2))
    for mine, theirs in zip(spared.parameters(), plain.parameters(), strict=True):
        mine.data.copy_(theirs)
    first, second = (PyramidNetwork(network, 1, (8, 8, 8), (0.0, 0.0, 0.0)) for network in (plain, spared))
    second.heads.load_state_dict(first.heads.state_dict())
    images = torch.randn(2, 1, 8, 8, 8)
    for model in (first, second):
        torch.stack([scale.square().mean() for scale in model(images)]).sum().backward()
    for mine, theirs in zip(second.parameters(), first.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-6)


def test_a_head_of_ones_hands_its_stage_through() -> None:
    """A map that is known at every scale must arrive at every scale, in its place."""
    model, bare, images = build("UNet")
    for head in model.heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        head.weight.data[0, 1] = 2.0  # class 0 is twice channel 1
    block: Any = bare.model
    stages = [block[1].submodule[2], block[1].submodule[1].submodule[2], block[1].submodule[1].submodule[1].submodule]
    seen: list[Tensor] = []
    handles = [stage.register_forward_hook(lambda _, inputs, output: seen.append(output)) for stage in stages]
    scales = model(images)
    for handle in handles:
        handle.remove()
    for scale, stage in zip(scales[1:], reversed(seen), strict=True):  # the deepest is run first
        expected = F.interpolate(2 * stage[:, 1:2], images.shape[2:], mode="trilinear")
        assert torch.allclose(scale[:, :1], expected, atol=1e-5)
        assert not scale[:, 1:].any()


class Wide(nn.Module):
    """Feature maps of ones, so that dropout is seen in the logits."""

    def __init__(self, width: int = 4000) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, width, 1)
        self.coarse = nn.Conv2d(1, width, 2, stride=2)
        self.out = nn.Conv2d(width, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        coarse = self.coarse(images)
        return self.out(self.fine(images) + 0 * coarse.mean())

    def decoder_taps(self) -> DecoderTaps:
        return DecoderTaps(self.out, [self.coarse])


def test_whole_channels_are_dropped_in_training_alone_and_the_finest_scale_first() -> None:
    bare = Wide()
    model = PyramidNetwork(bare, 1, (4, 4), (0.1, 0.5))
    for module in (bare.fine, bare.coarse):
        nn.init.zeros_(module.weight)
        nn.init.ones_(module.bias)
    given: dict[str, Tensor] = {}
    bare.out.register_forward_hook(lambda _, inputs, output: given.update(finest=inputs[0]))
    head: Any = model.heads[0]
    head.register_forward_hook(lambda _, inputs, output: given.update(coarse=inputs[0]))
    images = torch.randn(3, 1, 4, 4)
    model.train()(images)
    for name, rate in (("finest", 0.1), ("coarse", 0.5)):
        kept = given[name].flatten(2)
        assert torch.equal(kept, kept[..., :1].expand_as(kept))  # a channel is kept or dropped everywhere
        assert kept.unique().tolist() == pytest.approx([0, 1 / (1 - rate)])
        assert (kept == 0).float().mean().item() == pytest.approx(rate, abs=0.03)
    model.eval()(images)
    assert all((value == 1).all() for value in given.values())


def test_fewer_scales_are_the_finest_ones() -> None:
    bare = CASES["UNet"].make()
    model = PyramidNetwork(bare, 1, (16, 16, 24), (0.0, 0.0))
    assert len(model(torch.randn(1, 1, 16, 16, 24))) == 2
    assert [head.weight.shape[1] for head in model.heads] == [4]
    bare = CASES["DynUNet, deep supervision"].make()
    model = PyramidNetwork(bare, 1, (16, 16, 16), (0.0, 0.0))
    assert len(model.heads) == 0
    assert len(model(torch.randn(1, 1, 16, 16, 16))) == 2


def test_building_heads_leaves_network_and_random_state_as_they_were() -> None:
    bare = UNet(3, 1, 2, (4, 6), (2,), norm="batch", dropout=0.5)
    before, mode = copy.deepcopy(bare.state_dict()), bare.training
    torch.manual_seed(1)
    heads = PyramidNetwork(bare, 1, (8, 8, 8), (0.1, 0.2)).heads.state_dict()
    torch.manual_seed(1)
    again = nn.Conv3d(6, 2, 1).state_dict()  # the first draw is the head's
    assert same({f"0.{key}": value for key, value in again.items()}, dict(heads))
    assert same(bare.state_dict(), before)
    assert bare.training is mode


def test_heads_are_of_the_networks_type_and_mixed_precision_goes_through() -> None:
    model = PyramidNetwork(UNet(3, 1, 2, (4, 6), (2,)).double(), 1, (8, 8, 8), (0.0, 0.0))
    images = torch.randn(1, 1, 8, 8, 8)
    assert [scale.dtype for scale in model(images.double())] == [torch.float64] * 2
    full = model.float()(images)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(images)
    for mine, theirs in zip(low, full, strict=True):
        assert torch.allclose(mine.float(), theirs, atol=0.2)


class Idle(Wide):
    def decoder_taps(self) -> DecoderTaps:
        return DecoderTaps(self.out, [nn.Identity()])


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match=r"no decoder is known in AttentionUnet; it is known in UNet, .* decoder_taps"):
        PyramidNetwork(AttentionUnet(2, 1, 2, (4, 8), (2,)), 1, (8, 8))
    with pytest.raises(UserError, match=r"4 scales are asked for and this UNet has 3\. Give it more levels, or"):
        PyramidNetwork(UNet(2, 1, 2, (4, 6, 8), (2, 2)), 1, (8, 8))
    with pytest.raises(UserError, match=r"patch_size \[9, 8\] does not go through this network"):
        PyramidNetwork(UNet(2, 1, 2, (4, 6, 8), (2, 2)), 1, (9, 8), (0.0, 0.0))
    with pytest.raises(UserError, match=r"Idle does not run its decoder_taps\(\)\.stages\[0\]"):
        PyramidNetwork(Idle(4), 1, (4, 4), (0.0, 0.0))
    for wrong in ((0.1,), (0.1, 1.0), (-0.1, 0.2)):
        with pytest.raises(ValueError, match=r"`dropout` must be numbers in \[0, 1\) for 2 scales or more, got \["):
            PyramidNetwork(Wide(4), 1, (4, 4), wrong)
