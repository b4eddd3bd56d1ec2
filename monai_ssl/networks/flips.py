"""Test-time augmentation by flips: the average prediction of a network over mirror images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations

import torch
from torch import Tensor, nn

from monai_ssl.utils.errors import UserError

__all__ = ["FlipAverage", "average_flips"]


class FlipAverage(nn.Module):
    r"""Average the class probabilities of a network over all flips along some axes.

    .. math:: \log \frac{1}{2^{|A|}} \sum_{a \subseteq A} F_a \, \mathrm{softmax}(f(F_a x))

    with :math:`F_a` the flip along the axes :math:`a`. The output is a logarithm, so that softmax gives the mean
    probabilities back wherever a network's logits would have stood. The images go through one after the other: the
    memory is that of a single pass.

    Args:
        network: maps an image to logits.
        axes: spatial axes, 0 the first after the channels.

    Shape:
        - Input: ``(B, C, H, W[, D])``
        - Output: ``(B, K, H, W[, D])``, log-probabilities, float32

    Raises:
        UserError: when an axis is named twice, or is none of 0, 1, 2.
    """

    def __init__(self, network: nn.Module, axes: Sequence[int]) -> None:
        super().__init__()
        if len(set(axes)) < len(axes) or not set(axes) <= {0, 1, 2}:
            raise UserError(f"`flip_axes` must be different axes out of 0, 1, 2, got {list(axes)}.")
        self.network = network
        self.axes = tuple(axes)

    def forward(self, images: Tensor) -> Tensor:
        """Log of the mean probabilities."""
        subsets = list(chain.from_iterable(combinations(self.axes, count) for count in range(len(self.axes) + 1)))
        total = torch.zeros(())
        for subset in subsets:
            dims = [axis + 2 for axis in subset]
            total = total + torch.softmax(self.network(images.flip(dims)).float(), dim=1).flip(dims)
        return torch.log((total / len(subsets)).clamp_min(torch.finfo(torch.float32).tiny))


def average_flips(network: nn.Module, axes: Sequence[int]) -> nn.Module:
    """The network itself where there is no axis, else its :class:`FlipAverage`.

    Args:
        network: maps an image to logits.
        axes: see :class:`FlipAverage`.
    """
    return FlipAverage(network, axes) if axes else network
