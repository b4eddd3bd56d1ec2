from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_ssl.networks.encoder import EncoderTaps, encoder_keys
from monai_ssl.networks.key_maps import KEY_MAPS, PLAIN, KeyMap, bare_keys
from monai_ssl.networks.key_matching import Meeting, Target, meet
from monai_ssl.networks.transfer import TransferReport
from tests.helpers import same
from tests.networks.helpers import dyn_unet, every_key_once, swin, unet, unetr

Sizes = tuple[Any, Any]


def met(
    network: nn.Module, weights: Mapping[str, Tensor], form: KeyMap = PLAIN, sizes: Sizes = (None, None)
) -> Meeting:
    target = Target.of(network)
    return meet(target, weights, bare_keys(weights, target.own), form, sizes)


def transferred(network: nn.Module, weights: Mapping[str, Tensor], sizes: Sizes = (None, None)) -> TransferReport:
    """Load what a meeting found, as it is."""
    meeting = met(network, weights, sizes=sizes)
    report = meeting.report(Target.of(network), weights, file="model.pt", sha256="")
    network.load_state_dict({**network.state_dict(), **meeting.values})
    every_key_once(network, report)
    return report


def test_a_target_knows_encoder_tokens_and_image_convolutions() -> None:
    network = unetr(inputs=3)
    target = Target.of(network)
    assert target.kind == "UNETR"
    assert target.encoder == {*encoder_keys(network)}
    assert target.token_size == (16, 16, 16)
    assert target.axes == 3
    assert target.image_convolutions[0] == "vit.patch_embedding.patch_embeddings.weight"
    seeing = {name for name, value in network.state_dict().items() if value.ndim == 5 and value.shape[1] == 3}
    assert {*target.image_convolutions} == seeing


class SkipFirst(nn.Module):
    """Convolves the image in a skip connection, which is built before the encoder is."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.skip = nn.Conv3d(inputs, 2, 1)
        self.encoder = nn.Conv3d(inputs, 4, 3)

    def encoder_taps(self) -> EncoderTaps:
        return EncoderTaps([self.encoder])


def test_the_convolution_of_the_encoder_comes_first() -> None:
    assert Target.of(SkipFirst(2)).image_convolutions == ("encoder.weight", "skip.weight")
    # it tells the file's channels; the skip connection of another width is left out
    weights = {name: value for name, value in SkipFirst(1).state_dict().items() if "bias" not in name}
    weights["skip.weight"] = torch.ones(3, 1, 1, 1, 1)
    meeting = met(SkipFirst(2), weights)
    assert list(meeting.adapted) == ["encoder.weight"]
    assert list(meeting.mismatched) == ["skip.weight"]


def test_transposed_and_grouped_convolutions_do_not_see_the_image() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(2, 2, 3), nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3, groups=2))
    target = Target.of(network)
    assert target.image_convolutions == ("1.weight",)
    assert target.encoder == frozenset()
    assert target.token_size is None
    assert target.axes == 2


def test_a_meeting_changes_neither_side() -> None:
    source, target = unet().state_dict(), unet(inputs=2)
    before = copy.deepcopy([source, target.state_dict()])
    meeting = met(target, source)
    assert meeting.adapted
    assert same([source, target.state_dict()], before)


def test_a_score_counts_weights_of_the_encoder_then_all_then_names() -> None:
    network = unet(norm="BATCH")
    state = network.state_dict()
    weights = {name for name, value in state.items() if value.is_floating_point()}
    encoder = weights & {*encoder_keys(network)}
    assert len(encoder) < len(weights) < len(state)
    assert met(network, state).score == (len(encoder), len(weights), len(state))
    counters = {name: value for name, value in state.items() if name not in weights}
    assert met(network, counters).score == (0, 0, len(counters))


def test_every_name_of_one_entry_is_filled_from_any_of_them() -> None:
    source, network = dyn_unet(), dyn_unet()
    target = Target.of(network)
    assert sorted(name for names in target.aliases for name in names) == sorted(network.state_dict())
    aliased = next(names for names in target.aliases if len(names) > 1)
    for name in aliased:
        meeting = met(network, {name: source.state_dict()[name]})
        assert {*meeting.values} == {*aliased}
        assert meeting.score[1:] == (1, 1)


def test_a_form_is_met_under_its_own_names_alone() -> None:
    (form,) = (form for form in KEY_MAPS if form.name.startswith("pretext.pt"))
    source, target = unet(), unet()
    weights = {f"network.{name}": value for name, value in source.state_dict().items()}
    weights["heads.a.weight"] = torch.ones(2)
    assert met(target, weights).score == (0, 0, 0)
    meeting = met(target, weights, form)
    assert same(dict(meeting.values), dict(source.state_dict()))
    report = meeting.report(Target.of(target), weights, file="a.pt", sha256="1f", warnings=["w"])
    assert (report.file, report.sha256, report.key_map, report.warnings) == ("a.pt", "1f", form.name, ("w",))
    assert report.unexpected == ("heads.a.weight",)


@pytest.mark.parametrize("inputs", [2, 3])
@pytest.mark.parametrize(
    ("make", "adapted"),
    [
        (lambda inputs: unet(inputs=inputs), {"model.0.conv.unit0.conv.weight", "model.0.residual.weight"}),
        (
            lambda inputs: swin(inputs=inputs),
            {"swinViT.patch_embed.proj.weight", "encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight"},
        ),
        (
            lambda inputs: unetr(inputs=inputs),
            {
                "vit.patch_embedding.patch_embeddings.weight",
                "encoder1.layer.conv1.conv.weight",
                "encoder1.layer.conv3.conv.weight",
            },
        ),
    ],
)
def test_equal_channels_are_answered_as_the_pretrained_network_did(
    make: Callable[[int], nn.Module], adapted: set[str], inputs: int
) -> None:
    source, target = make(1).eval(), make(inputs).eval()
    report = transferred(target, source.state_dict())
    assert set(report.adapted) == adapted
    assert set(report.loaded) == set(target.state_dict())
    volume = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        answer, before = target(volume.repeat(1, inputs, 1, 1, 1)), source(volume)
    torch.testing.assert_close(answer, before, rtol=1e-3, atol=1e-4)


def test_fewer_channels_are_answered_alike() -> None:
    source, target = unet(inputs=4), unet(inputs=2)
    transferred(target, source.state_dict())
    volume = torch.randn(1, 1, 8, 8, 8)
    torch.testing.assert_close(target(volume.repeat(1, 2, 1, 1, 1)), source(volume.repeat(1, 4, 1, 1, 1)))


def test_inner_convolutions_are_never_adapted() -> None:
    # here an inner convolution has the channels of the image, and the first one differs in more than its input
    source, target = unet((8, 4, 8), inputs=8), unet((4, 4, 8), inputs=4)
    report = transferred(target, source.state_dict())
    assert not report.adapted
    assert report.mismatched["model.1.submodule.0.conv.unit0.conv.weight"] == (
        "4 x 8 x 3 x 3 x 3 in the file, 4 x 4 x 3 x 3 x 3 in the network"
    )


def test_positions_of_another_cube_are_interpolated() -> None:
    source, target = unetr(32), unetr(48)
    name = "vit.patch_embedding.position_embeddings"
    source.state_dict()[name].fill_(0.25)
    report = transferred(target, source.state_dict())
    assert report.adapted == {name: "tokens interpolated from 2 x 2 x 2 to 3 x 3 x 3"}
    assert name in report.encoder
    torch.testing.assert_close(target.state_dict()[name], torch.full((1, 27, 12), 0.25))


@pytest.mark.parametrize(("old", "new"), [((32, 48, 16), (48, 32, 32)), ((32, 48, 16), (16, 32, 48))])
def test_positions_of_other_boxes_are_interpolated_where_both_are_known(
    old: tuple[int, ...], new: tuple[int, ...]
) -> None:
    source, target = unetr(old), unetr(new)
    name = "vit.patch_embedding.position_embeddings"
    with torch.no_grad():  # the first feature is the token's place along the first axis
        places = torch.arange(2.0).repeat_interleave(3)
        source.state_dict()[name][0, :, 0] = places
    report = transferred(target, source.state_dict(), (old, list(new)))
    assert list(report.adapted) == [name]
    grid = [size // 16 for size in new]
    ends = target.state_dict()[name][0, :, 0].reshape(grid)[[0, -1]]
    expected = torch.tensor([0.5, 0.5]) if grid[0] == 1 else torch.tensor([0.0, 1.0])
    torch.testing.assert_close(ends, expected.reshape(2, 1, 1).expand_as(ends))


class Tokens(nn.Module):
    """Any transformer with a class token among its positions."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.embed = nn.Conv3d(1, 4, 2, 2)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + tokens, 4))


def test_a_class_token_is_kept() -> None:
    source, target = Tokens(8), Tokens(64)
    report = transferred(target, source.state_dict())
    assert report.adapted == {"pos_embed": "tokens interpolated from 2 x 2 x 2 to 4 x 4 x 4"}
    assert torch.equal(target.pos_embed[:, 0], source.pos_embed[:, 0])
    corners = target.pos_embed[0, 1:].reshape(4, 4, 4, 4)[::3, ::3, ::3].reshape(8, 4)
    torch.testing.assert_close(corners, source.pos_embed[0, 1:])


def test_a_class_token_is_not_invented() -> None:
    target = Tokens(64)
    content = {"embed.weight": target.embed.weight.detach(), "pos_embed": torch.ones(1, 8, 4)}
    report = transferred(target, content)
    assert report.mismatched == {"pos_embed": "1 x 8 x 4 in the file, 1 x 65 x 4 in the network"}


def test_positions_of_unknown_boxes_are_left_out() -> None:
    source, target = unetr((32, 48, 16)), unetr((48, 32, 32))
    before = copy.deepcopy(target.state_dict())
    report = transferred(target, source.state_dict())
    name = "vit.patch_embedding.position_embeddings"
    assert report.mismatched == {name: "1 x 6 x 12 in the file, 1 x 12 x 12 in the network"}
    assert torch.equal(target.state_dict()[name], before[name])


def test_a_counter_is_no_weight() -> None:
    state = unet().state_dict()
    name = "model.0.conv.unit0.conv.bias"
    report = transferred(unet(), {**state, name: torch.ones(2, dtype=torch.int64)})
    assert list(report.mismatched) == [name]
