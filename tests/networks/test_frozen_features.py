from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from monai_ssl.networks.encoder import encode, encoder_keys
from monai_ssl.networks.frozen_features import (
    FrozenEncoder,
    Neighbourhood,
    TiledVector,
    load_encoder,
    random_network,
    tiles_of,
)
from monai_ssl.utils.errors import UserError
from tests.helpers import same

DEFINITION = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 6, 8],
    "strides": [2, 2],
    "norm": "INSTANCE",
    "dropout": 0.5,
}


def unet(**changed):
    arguments = {name: value for name, value in {**DEFINITION, **changed}.items() if name != "_target_"}
    return UNet(**arguments)


def test_an_encoders_entries_are_loaded_and_the_decoder_stays(tmp_path):
    source, network = unet(), unet()
    keys = encoder_keys(source)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.save({name: source.state_dict()[name] for name in keys}, tmp_path / "model.pt")
    assert load_encoder(network, tmp_path / "model.pt") is network
    for name, value in network.state_dict().items():
        assert torch.equal(value, (source.state_dict() if name in keys else before)[name]), name
    torch.save(source.state_dict(), tmp_path / "model.pt")
    assert same(dict(load_encoder(unet(), tmp_path / "model.pt").state_dict()), dict(source.state_dict()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights, keys: weights.pop(keys[-1]), r"1 missing.*of the encoder's entries 1 are missing \("),
        (lambda weights, keys: weights.update(other=torch.zeros(1)), r"1 unexpected \(other\)"),
        (lambda weights, keys: weights.update({keys[0]: torch.zeros(7)}), "1 mismatched"),
    ],
)
def test_anything_else_is_refused_and_changes_nothing(tmp_path, change, message):
    network, weights = unet(), unet().state_dict()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    change(weights, encoder_keys(network))
    torch.save(weights, tmp_path / "model.pt")
    with pytest.raises(UserError, match=rf"model\.pt: does not fit this network.*{message}"):
        load_encoder(network, tmp_path / "model.pt")
    assert same(dict(network.state_dict()), before)


def test_random_weights_are_a_function_of_the_seed_and_leave_the_random_state():
    before = torch.get_rng_state()
    one, same_one, other = (dict(random_network(DEFINITION, seed).state_dict()) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(one, same_one)
    assert not same(one, other)


def test_a_frozen_encoder_neither_trains_nor_drops_out():
    network = unet()
    encoder = FrozenEncoder(network, "all").train()
    images = torch.randn(2, 1, 8, 8, 8)
    maps = encoder(images)
    assert same(maps, encoder(images))
    assert same(maps, [values.detach() for values in encode(network.eval(), images)])
    assert not any(values.requires_grad for values in maps)
    assert same(FrozenEncoder(network)(images), maps[-1:])
    with pytest.raises(UserError, match="levels must be deepest or all, got 'some'"):
        FrozenEncoder(network, "some")


def test_a_neighbourhood_holds_every_voxel_around():
    images = torch.randn(1, 2, 4, 5, 3)
    (values,) = Neighbourhood()(images)
    assert values.shape == (1, 2 * 27, 4, 5, 3)
    for place in ((1, 2, 1), (3, 4, 2), (0, 0, 0)):
        wanted = []
        for shift in torch.cartesian_prod(*[torch.arange(-1, 2)] * 3).tolist():
            voxel = [min(max(p + s, 0), side - 1) for p, s, side in zip(place, shift, (4, 5, 3), strict=True)]
            wanted.append(images[(0, slice(None), *voxel)])
        assert torch.equal(values[(0, slice(None), *place)], torch.cat(wanted))


def test_tiles_cover_a_scan_and_lie_where_they_say():
    scan = torch.randn(1, 1, 9, 4, 8)
    covered = torch.zeros(9, 4, 8)
    for place, tile in tiles_of(scan, (4, 6, 8)):
        assert tile.shape == (1, 1, 4, 6, 8)
        x, y, z = place
        assert torch.equal(tile[:, :, :, :4], scan[:, :, x, :, z])  # two of six voxels are padding
        assert not tile[:, :, :, 4:].any()
        covered[x, : y.stop, z] += 1
    assert covered.min() == 1


class Own(nn.Module):
    """The image, twice and once, as maps."""

    def forward(self, images):
        return [torch.cat([images, 2 * images], dim=1), images[:, :, ::2]]


def test_a_vector_is_the_mean_over_tiles_and_space():
    scan = torch.randn(1, 1, 8, 8, 4)
    vector = TiledVector(Own(), (4, 4, 4), tiles_at_once=3)(scan)
    assert torch.allclose(vector, torch.stack([scan.mean(), 2 * scan.mean(), scan[:, :, ::2].mean()])[None], atol=1e-6)
    both = TiledVector(Own(), (4, 4, 4), "mean_max")(scan)
    assert torch.allclose(both[:, :3], vector, atol=1e-6)
    assert torch.equal(both[0, 3:], torch.stack([scan.max(), 2 * scan.max(), scan[:, :, ::2].max()]))
    with pytest.raises(UserError, match="pooling must be mean or mean_max, got 'sum'"):
        TiledVector(Own(), (4, 4, 4), "sum")


def test_a_vector_does_not_depend_on_how_many_tiles_go_at_once():
    encoder, scan = FrozenEncoder(unet(), "all"), torch.randn(1, 1, 20, 8, 17)
    one, many = (TiledVector(encoder, (8, 8, 8), "mean_max", count)(scan) for count in (1, 7))
    assert torch.allclose(one, many, atol=1e-5)
