from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_ssl.networks.probability_average import ProbabilityAverage


def test_softmax_gives_the_mean_probabilities_back() -> None:
    networks = [nn.Conv3d(1, 3, 1) for _ in range(3)]
    images = torch.randn(2, 1, 4, 5, 6)
    expected = sum(torch.softmax(network(images), dim=1) for network in networks) / 3
    answer = ProbabilityAverage(networks)(images)
    assert torch.allclose(torch.softmax(answer, dim=1), expected, atol=1e-6)
    assert torch.allclose(answer.exp(), expected, atol=1e-6)


def test_a_probability_of_zero_stays_finite() -> None:
    class Sure(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x * 0 + 1e9, x * 0], dim=1)

    assert ProbabilityAverage([Sure(), Sure()])(torch.randn(1, 1, 3)).isfinite().all()


def test_modes_reach_all_networks_and_none_is_refused() -> None:
    average = ProbabilityAverage([nn.Dropout(), nn.Dropout()]).eval()
    assert not any(network.training for network in average.networks)
    with pytest.raises(ValueError, match="`networks` must be one at least"):
        ProbabilityAverage([])
