"""Several networks as one: the mean of their class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["ProbabilityAverage"]


class ProbabilityAverage(nn.Module):
    r"""Average the class probabilities of several networks, such as a student and its teacher.

    .. math:: \log \frac{1}{M} \sum_m \mathrm{softmax}(f_m(x))

    The output is a logarithm, so that softmax gives the mean probabilities back wherever logits would have stood.

    Args:
        networks: each maps an image to logits; one at least.

    Shape:
        - Input: ``(B, C, H, W[, D])``
        - Output: ``(B, K, H, W[, D])``, log-probabilities, float32

    Raises:
        ValueError: when there is no network.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("`networks` must be one at least, got none.")
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Log of the mean probabilities."""
        total = torch.stack([torch.softmax(network(images).float(), dim=1) for network in self.networks]).mean(0)
        return torch.log(total.clamp_min(torch.finfo(torch.float32).tiny))
