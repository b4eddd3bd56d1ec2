from __future__ import annotations

import logging

import pytest
import torch
from monai.networks.nets import UNet

from monai_ssl.networks.encoder import feature_shapes
from monai_ssl.networks.heads import NetworkOutput, ProjectionHead
from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.networks.restoration import MaskedRestoration, load_restoration
from monai_ssl.transforms import RandBlockMaskd
from monai_ssl.utils.errors import UserError
from tests.helpers import same


def unet():
    return UNet(3, 1, 1, [4, 6], [2], norm="INSTANCE", dropout=0.5)


def heads():
    return {"reconstruction": NetworkOutput(1)}


def test_the_masked_input_comes_before_what_the_network_makes_of_it():
    network = PretextNetwork(unet(), heads())
    restoration = MaskedRestoration(network, [RandBlockMaskd("masked", ratio=0.5, block=4)])
    windows = torch.randn(3, 1, 8, 8, 8)
    before = windows.clone()
    out = restoration.train()(windows)
    assert torch.equal(windows, before)
    masked, restored = out.split(1, dim=1)
    hidden = masked == 0
    assert hidden.float().mean() == 0.5
    assert torch.equal(masked[~hidden], windows[~hidden])
    assert torch.equal(restored, network(masked)["reconstruction"])  # in evaluation mode: no dropout
    assert torch.equal(restoration(windows), out)
    assert not torch.equal(MaskedRestoration(network, restoration.masking, seed=1)(windows), out)


def test_without_masking_the_network_sees_the_window():
    windows = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(MaskedRestoration(PretextNetwork(unet(), heads()))(windows)[:, :1], windows)


def test_a_single_window_lends_from_its_mirror_image():
    masking = [RandBlockMaskd("masked", ratio=0.5, block=4, fill="other")]
    window = torch.randn(1, 1, 8, 8, 8)
    masked = MaskedRestoration(PretextNetwork(unet(), heads()), masking)(window)[:, :1]
    lent = masked != window
    assert lent.float().mean() == 0.5
    assert torch.equal(masked[lent], window.flip(2)[lent])


def test_a_network_without_the_head_is_refused():
    network = unet()
    projection = {"projection": ProjectionHead(feature_shapes(network, 1, (8, 8, 8)), 3)}
    with pytest.raises(ValueError, match="must have a head 'reconstruction', got projection"):
        MaskedRestoration(PretextNetwork(network, projection))


def test_loaded_from_beside_the_weights(tmp_path, caplog):
    source = PretextNetwork(unet(), heads())
    torch.save(source.state_dict(), tmp_path / "pretext.pt")
    windows = torch.randn(2, 1, 8, 8, 8)
    bare = unet()
    before = {name: value.clone() for name, value in bare.state_dict().items()}
    loaded = load_restoration(bare, heads(), tmp_path / "model.pt")
    assert same(dict(bare.state_dict()), before)
    assert torch.equal(loaded(windows), MaskedRestoration(source)(windows))
    with pytest.raises(UserError, match=r"pretext\.pt: does not fit"):
        load_restoration(UNet(3, 1, 1, [4, 8], [2]), heads(), tmp_path / "model.pt")
    caplog.set_level(logging.INFO)
    assert load_restoration(unet(), {}, tmp_path / "model.pt") is None
    assert "no head 'reconstruction'" in caplog.text
    assert load_restoration(unet(), heads(), tmp_path / "other" / "model.pt") is None
    assert "is not there" in caplog.text
