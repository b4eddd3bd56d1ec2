from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from monai_ssl.networks.flips import FlipAverage, average_flips
from monai_ssl.utils.errors import UserError


class Ramp(nn.Module):
    """Logits that depend on where a voxel is, and a count of passes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 3, 3, padding=1)
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        steps = torch.arange(float(images[0, 0].numel())).view_as(images[0, 0])
        return self.convolution(images + 0.01 * steps)


def images() -> Tensor:
    return torch.randn(2, 1, 4, 5, 6, generator=torch.Generator().manual_seed(0))


def test_the_mean_of_the_undone_predictions_one_by_one() -> None:
    network, batch = Ramp(), images()
    ways: list[list[int]] = [[], [2], [4], [2, 4]]
    expected = torch.stack([network(batch.flip(way)).softmax(1).flip(way) for way in ways]).mean(0)
    found = FlipAverage(network, [0, 2])(batch)
    assert torch.allclose(found.softmax(1), expected, atol=1e-6)
    assert torch.allclose(found.exp().sum(1), torch.ones(2, 4, 5, 6), atol=1e-5)


def test_the_prediction_of_a_mirror_image_is_the_mirrored_prediction() -> None:
    network, batch = FlipAverage(Ramp(), [1]), images()
    assert torch.allclose(network(batch.flip(3)).flip(3), network(batch), atol=1e-6)


@pytest.mark.parametrize(("axes", "passes"), [([0], 2), ([0, 1, 2], 8)])
def test_a_pass_for_each_flip_and_the_input_untouched(axes: list[int], passes: int) -> None:
    network, batch = Ramp(), images()
    before = batch.clone()
    FlipAverage(network, axes)(batch)
    assert network.passes == passes
    assert torch.equal(batch, before)


def test_without_axes_it_is_the_network() -> None:
    network = Ramp()
    assert average_flips(network, []) is network


def test_a_certain_network_gives_finite_logarithms() -> None:
    certain = FlipAverage(nn.Conv3d(1, 2, 1, bias=False), [0])
    nn.init.constant_(certain.network.weight, 1e6)
    certain.network.weight.data[1] *= -1
    assert torch.isfinite(certain(torch.ones(1, 1, 2, 2, 2))).all()


@pytest.mark.parametrize("axes", [[0, 0], [3], [-1]])
def test_axes_that_are_none(axes: list[int]) -> None:
    with pytest.raises(UserError, match="`flip_axes` must be different axes out of 0, 1, 2, got"):
        average_flips(nn.Identity(), axes)
