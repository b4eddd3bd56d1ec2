"""Brightness and contrast: intensities are shifted, and spread or drawn together around their mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import (
    Params,
    RandBatchTransform,
    RandBatchTransformd,
    least_and_greatest,
    stacked,
)

__all__ = [
    "RandBrightnessContrast",
    "RandBrightnessContrastD",
    "RandBrightnessContrastDict",
    "RandBrightnessContrastd",
    "brightness_contrast",
]


def brightness_contrast(images: Tensor, shifts: Tensor, factors: Tensor, clip: bool = False) -> Tensor:
    r"""Change brightness and contrast of a batch.

    .. math:: y = \mu + c (x - \mu) + b \sigma

    with mean :math:`\mu` and standard deviation :math:`\sigma` of each volume and channel, so that the result has mean
    :math:`\mu + b \sigma` and deviation :math:`c \sigma`.

    Args:
        images: the batch; not changed.
        shifts: brightness :math:`b`, in standard deviations; 0 changes nothing.
        factors: contrast :math:`c`, from 0; 1 changes nothing.
        clip: clip to the least and greatest value that the volume and channel had.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - shifts, factors: ``(B,)``
        - Output: as ``images``
    """
    x = images.to(torch.promote_types(images.dtype, torch.float32))
    per_case = (-1, *[1] * (x.ndim - 1))
    shift, factor = (drawn.to(x.device, x.dtype).view(per_case) for drawn in (shifts, factors))
    deviation, mean = torch.std_mean(x, tuple(range(2, x.ndim)), correction=0, keepdim=True)
    out = torch.addcmul(mean * (1 - factor) + shift * deviation, x, factor)
    if clip:
        out = out.clamp(*least_and_greatest(x))
    return out.to(images.dtype)


class RandBrightnessContrast(RandBatchTransform):
    """Change brightness and contrast at random, those of all channels alike.

    Args:
        brightness: greatest shift either way, in standard deviations of the volume and channel, from 0; uniform.
        contrast: least and greatest factor around the mean, above 0; its logarithm is uniform between. 1 is the
            identity.
        clip: see :func:`brightness_contrast`; for images that end at fixed values, such as a CT window.
        prob: see :class:`RandBatchTransform`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range.

    Reference:
        F. Isensee et al.: nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation,
        Nature Methods 18, 2021, https://doi.org/10.1038/s41592-020-01008-z, in whose code (version 2) the contrast
        is 0.75 to 1.25, clipped, with a chance of 0.15. Its brightness multiplies all values; a shift is ours, since
        z-scored values lie around 0, where a factor is a contrast.
    """

    def __init__(
        self,
        brightness: float = 0.25,
        contrast: Sequence[float] = (0.75, 1.25),
        clip: bool = False,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        if not brightness >= 0.0:
            raise ValueError(f"`brightness` must be 0 at least, got {brightness}.")
        if len(contrast) != 2 or not 0.0 < contrast[0] <= contrast[1]:
            raise ValueError(f"`contrast` must be two numbers above 0, the least first, got {contrast}.")
        self.brightness, self.contrast, self.clip = brightness, (contrast[0], contrast[1]), clip

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw shift and factor."""
        low, high = self.contrast
        return {
            "shift": self.R.uniform(-self.brightness, self.brightness),
            "factor": math.exp(self.R.uniform(math.log(low), math.log(high))),
        }

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Change brightness and contrast."""
        return brightness_contrast(images, stacked(params, "shift"), stacked(params, "factor"), self.clip), {}


class RandBrightnessContrastd(RandBatchTransformd):
    """Dictionary twin of :class:`RandBrightnessContrast`.

    Args:
        keys: images that are changed, by the same shift and factor.
        brightness: see :class:`RandBrightnessContrast`.
        contrast: see :class:`RandBrightnessContrast`.
        clip: see :class:`RandBrightnessContrast`.
        prob: see :class:`RandBrightnessContrast`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        brightness: float = 0.25,
        contrast: Sequence[float] = (0.75, 1.25),
        clip: bool = False,
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandBrightnessContrast(brightness, contrast, clip, prob), None, allow_missing_keys)


RandBrightnessContrastD = RandBrightnessContrastDict = RandBrightnessContrastd
