from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_ssl.networks.heads import ClassificationHead, NetworkOutput, ProjectionHead, ReconstructionHead
from monai_ssl.utils.errors import UserError
from tests.helpers import same

SHAPES = [(4, 8, 8, 4), (6, 4, 4, 2)]


def maps(batch: int, shapes: list[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    return [torch.randn(batch, *shape) for shape in shapes]


def test_a_class_is_read_from_the_mean_of_the_deepest_map() -> None:
    head, features = ClassificationHead(SHAPES, 4), maps(3)
    weight, bias = head.layers[0].weight, head.layers[0].bias
    mean = torch.stack([torch.stack([channel.mean() for channel in case]) for case in features[-1]])
    logits = head(features)
    assert logits.shape == (3, 4)
    assert torch.allclose(logits, mean @ weight.T + bias, atol=1e-6)
    assert same(head([torch.full_like(features[0], torch.nan), features[1]]), logits)


def test_tiles_of_a_case_are_concatenated_in_order() -> None:
    head, tiles = ClassificationHead(SHAPES, 5, tiles=3, hidden=7), torch.randn(2, 3, 6, 4, 4, 2)
    vector = torch.cat([tiles[:, v].mean(dim=(2, 3, 4)) for v in range(3)], dim=1)
    first, _, last = head.layers
    assert torch.allclose(head([tiles.flatten(0, 1)]), last(torch.relu(first(vector))), atol=1e-6)
    assert not torch.allclose(head([tiles.flip(1).flatten(0, 1)]), head([tiles.flatten(0, 1)]))
    with pytest.raises(ValueError, match="cases of 3 tiles, and 4 is no multiple"):
        head(maps(4))


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("hidden", [0, 9])
def test_a_projection_is_linear_or_has_one_hidden_layer(norm: Any, hidden: int) -> None:
    if norm and not hidden:
        with pytest.raises(ValueError, match=r"`norm` .* comes behind a hidden layer: set `hidden`"):
            ProjectionHead(SHAPES, norm=norm)
        return
    head, features = ProjectionHead(SHAPES, hidden=hidden, norm=norm), maps(3)
    kinds = [nn.Linear]
    if hidden:
        kinds = [nn.Linear, *({"batch": [nn.BatchNorm1d], "layer": [nn.LayerNorm]}.get(norm, [])), nn.ReLU, nn.Linear]
    assert [type(layer) for layer in head.layers] == kinds
    assert head(features).shape == (3, 512)
    # a head without batch norm sees each case alone
    alone = torch.cat([head([f[i : i + 1] for f in features]) for i in range(3)]) if norm != "batch" else head(features)
    assert torch.allclose(head(features), alone, atol=1e-6)


@pytest.mark.parametrize("upsample", ["interpolate", "transposed"])
@pytest.mark.parametrize(
    ("deepest", "patch"),
    [
        ((16, 1, 1, 1), (16, 16, 16)),  # one voxel, that has no variance
        ((12, 2, 4, 2), (32, 32, 32)),
        ((5, 3, 4, 4), (10, 4, 12)),  # not a power of 2; an axis that is there already
        ((4, 8, 8, 8), (8, 8, 8)),
        ((32, 2, 3), (16, 24)),
    ],
)
def test_an_image_is_restored_at_the_patchs_size(
    deepest: tuple[int, ...], patch: tuple[int, ...], upsample: Any
) -> None:
    head = ReconstructionHead([(1, 1, 1), deepest], 2, patch, upsample)
    image = head([torch.zeros(0), torch.randn(3, *deepest)])
    assert image.shape == (3, 2, *patch)
    image.square().mean().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    with pytest.raises(ValueError, match="built for a deepest map"):
        head([torch.randn(1, *(2 * size for size in deepest))])


def test_a_reconstruction_narrows_by_half_a_stage() -> None:
    head = ReconstructionHead([(64, 2, 2, 2)], 1, (64, 64, 64))
    widths = [layer.out_channels for layer in head.layers if isinstance(layer, nn.Conv3d)]
    assert widths == [32, 16, 8, 8, 8, 1]


def test_a_reconstruction_learns_a_position() -> None:
    torch.manual_seed(0)
    head = ReconstructionHead([(8, 2, 2)], 1, (8, 8))
    position = torch.eye(4).reshape(4, 1, 2, 2)
    features = [position.expand(4, 8, 2, 2)]
    wanted = nn.functional.interpolate(position, size=(8, 8))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = (head(features) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * wanted.var().item()


def test_the_networks_output_is_handed_through() -> None:
    output = torch.randn(2, 3, 4, 4)
    assert NetworkOutput(3)(output) is output
    assert not list(NetworkOutput(3).parameters())
    with pytest.raises(UserError, match=r"output of 1 channels, got 3\. Set network_def#out_channels to 1"):
        NetworkOutput(1)(output)
    with pytest.raises(UserError, match=r"needs a decoder, and the network answers with \(2, 128\) "):
        NetworkOutput(1)(torch.randn(2, 128))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClassificationHead(SHAPES, 4, hidden=8),
        lambda: ProjectionHead(SHAPES, 16, hidden=8, norm="layer"),
        lambda: ReconstructionHead(SHAPES, 1, (16, 16, 8)),
    ],
)
def test_heads_can_be_copied_and_run_in_mixed_precision(make: Callable[[], nn.Module]) -> None:
    head, features = make(), maps(2)
    copied, fresh = copy.deepcopy(head), make()
    fresh.load_state_dict(head.state_dict())
    assert same(copied(features), head(features))
    assert same(fresh(features), head(features))
    with torch.autocast("cpu", torch.bfloat16):
        low = head([feature.bfloat16() for feature in features])
    assert torch.allclose(low.float(), head(features), atol=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClassificationHead(SHAPES, 1), r"`classes` must be 2 or more, got 1"),
        (lambda: ClassificationHead(SHAPES, 2, tiles=0), r"`tiles` must be 1 or more, got 0"),
        (lambda: ClassificationHead(SHAPES, 2, hidden=-1), r"`hidden` must be 0 or more, got -1"),
        (lambda: ProjectionHead(SHAPES, 0), r"`channels` must be 1 or more, got 0"),
        (lambda: ProjectionHead(SHAPES, hidden=4, norm="group"), r"`norm` must be None, 'batch' or 'layer', got 'gr"),
        (lambda: ReconstructionHead(SHAPES, 1, (8, 8, 4), "deconv"), r"`upsample` must be .*, got 'deconv'"),
        (lambda: ReconstructionHead(SHAPES, 1, (8, 8, 1)), r"`patch_size` must not be below the deepest map"),
        (lambda: ReconstructionHead(SHAPES, 1, (8, 8)), r"`patch_size` must have the map.s 3 axes"),
    ],
)
def test_wrong_values_are_named(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
