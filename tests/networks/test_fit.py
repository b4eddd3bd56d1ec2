from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from monai_ssl.networks.fit import check_patch_size, try_patch, undisturbed
from monai_ssl.utils.errors import UserError


def unet(out_channels: int = 3) -> nn.Module:
    return UNet(3, 1, out_channels, (4, 8, 16), (2, 2), norm="BATCH")


def test_a_patch_that_fits_leaves_the_network_as_it_was() -> None:
    network = unet().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    check_patch_size(network, [8, 12, 16], in_channels=1, out_channels=3)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_patch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match=r"patch_size \[8, 9, 16\] does not go through .*multiples of 8"):
        check_patch_size(unet(), [8, 9, 16], in_channels=1, out_channels=3)


@pytest.mark.parametrize(
    ("channels", "size", "told"),
    [
        (1, [8, 8, "x"], r"patch_size takes a whole number from 1 on for each axis, as .* got \[8, 8, 'x'\]"),
        (1, "abc", "patch_size takes a whole number from 1 on for each axis, as .* got 'abc'"),
        (1, (8, 8, 0), r"patch_size takes .* got \(8, 8, 0\)"),
        (1, [8, 8.5, 8], r"patch_size takes .* got \[8, 8.5, 8\]"),
        (1, 8, "patch_size takes .* got 8"),
        ("x", [8, 8, 8], "in_channels takes a whole number from 1 on, got 'x'"),
    ],
)
def test_what_is_no_size_is_refused(channels: Any, size: Any, told: str) -> None:
    network = nn.Conv3d(1, 1, 1)
    with pytest.raises(UserError, match=told):
        try_patch(network, network, channels, size)


def test_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match="does not go through"):
        check_patch_size(unet(), [8, 8, 8], in_channels=2, out_channels=3)


def test_an_answer_of_another_shape_is_refused() -> None:
    with pytest.raises(UserError, match=r"logits \(1, 3, 8, 8, 8\), got \(1, 2, 8, 8, 8\)"):
        check_patch_size(unet(2), [8, 8, 8], in_channels=1, out_channels=3)


def test_several_outputs_are_refused() -> None:
    class Several(nn.Conv3d):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
            return [super().forward(x)] * 2

    with pytest.raises(UserError, match="got list"):
        check_patch_size(Several(1, 3, 1), [8, 8, 8], in_channels=1, out_channels=3)


def test_a_look_leaves_no_trace_even_when_it_fails() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Dropout(0.5)).train()
    before = torch.random.get_rng_state()

    def fail() -> None:
        with undisturbed(network, torch.device("cpu")):
            torch.rand(3)
            assert not any(module.training for module in network.modules())
            assert not network(torch.ones(1, 1, 2, 2, 2)).requires_grad
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(module.training for module in network.modules())
    assert network(torch.ones(1, 1, 2, 2, 2)).requires_grad


def test_every_module_keeps_its_own_mode_and_the_random_state_stays() -> None:
    """A network of which a part is frozen in evaluation mode must not start to train there."""
    network = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Dropout(0.5), nn.Conv3d(2, 2, 1))
    network.train()
    network[1].eval()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert try_patch(network, network, 1, (4, 4, 4)).shape == (1, 2, 4, 4, 4)
    check_patch_size(network, (4, 4, 4), 1, 2)
    assert [module.training for module in network] == [True, False, True]
    assert network.training
    assert torch.equal(torch.random.get_rng_state(), before)
