"""Additive noise: every voxel gets a normal number of its own, which follows from its case's seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked

__all__ = [
    "RandAdditiveNoise",
    "RandAdditiveNoiseD",
    "RandAdditiveNoiseDict",
    "RandAdditiveNoised",
    "additive_noise",
]


def additive_noise(images: Tensor, deviations: Tensor, seeds: Tensor) -> Tensor:
    r"""Add normal noise to a batch.

    .. math:: y = x + \sigma \varepsilon, \quad \varepsilon \sim N(0, 1)

    independently for every voxel and channel. The noise is made on the device, in float32 at least, and follows from a
    case's seed whatever else is in the batch; another kind of device makes another noise of the same seed.

    Args:
        images: the batch; not changed.
        deviations: standard deviations :math:`\sigma` of the noise, in the unit of the images; 0 changes nothing.
        seeds: of every case's noise.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - deviations, seeds: ``(B,)``
        - Output: as ``images``
    """
    dtype = torch.promote_types(images.dtype, torch.float32)
    noise = torch.empty_like(images, dtype=dtype, memory_format=torch.contiguous_format)
    generator = torch.Generator(images.device)
    for case, seed in zip(noise, seeds.tolist(), strict=True):
        case.normal_(generator=generator.manual_seed(seed))
    scale = deviations.to(images.device, dtype).view(-1, *[1] * (images.ndim - 1))
    return torch.addcmul(images.to(dtype), noise, scale).to(images.dtype)


class RandAdditiveNoise(RandBatchTransform):
    """Add normal noise of random strength, independent from voxel to voxel and from channel to channel.

    Args:
        deviation: least and greatest standard deviation of the noise, in the unit of the images, from 0; uniform
            between. The default is for z-scored images; halve it for a CT window that is mapped to -1 to 1.
        prob: see :class:`RandBatchTransform`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range.

    Reference:
        F. Isensee et al.: nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation,
        Nature Methods 18, 2021, https://doi.org/10.1038/s41592-020-01008-z, in whose code (version 2) the chance is
        0.1. What is called a variance of 0 to 0.1 there is used as the deviation, as here.
    """

    def __init__(self, deviation: Sequence[float] = (0.0, 0.1), prob: float = 1.0) -> None:
        super().__init__(prob)
        if len(deviation) != 2 or not 0.0 <= deviation[0] <= deviation[1]:
            raise ValueError(f"`deviation` must be two numbers from 0, the least first, got {deviation}.")
        self.deviation = (deviation[0], deviation[1])

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the deviation, and a seed for the noise."""
        return {"deviation": self.R.uniform(*self.deviation), "seed": int(self.R.randint(2**31 - 1))}

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the noise."""
        return additive_noise(images, stacked(params, "deviation"), stacked(params, "seed")), {}


class RandAdditiveNoised(RandBatchTransformd):
    """Dictionary twin of :class:`RandAdditiveNoise`.

    Args:
        keys: images that get noise, the same in all.
        deviation: see :class:`RandAdditiveNoise`.
        prob: see :class:`RandAdditiveNoise`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        deviation: Sequence[float] = (0.0, 0.1),
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandAdditiveNoise(deviation, prob), None, allow_missing_keys)


RandAdditiveNoiseD = RandAdditiveNoiseDict = RandAdditiveNoised
