"""Gamma: a power curve over a volume's own range darkens or brightens what lies between; values keep their order."""

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

__all__ = ["RandGamma", "RandGammaD", "RandGammaDict", "RandGammad", "change_gamma"]


def change_gamma(images: Tensor, gammas: Tensor, inverted: Tensor, keep_moments: bool = False) -> Tensor:
    r"""Send a batch's intensities through power curves.

    With :math:`l, h` the least and greatest value of a volume and channel and :math:`u = (x - l) / (h - l)` the result
    is :math:`l + (h - l) u^\gamma`, or where inverted :math:`h - (h - l) (1 - u)^\gamma`: the curve of the negative,
    turned back. Both keep the order of values and the two ends. A constant volume stays as it is.

    Args:
        images: the batch; not changed.
        gammas: exponents :math:`\gamma`, above 0. Above 1 darkens, or brightens where inverted.
        inverted: where the curve is that of the negative.
        keep_moments: shift and scale the result to the mean and standard deviation that the volume and channel had.
            The ends move then.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - gammas: ``(B,)``
        - inverted: ``(B,)``, bool
        - Output: as ``images``
    """
    x = images.to(torch.promote_types(images.dtype, torch.float32))
    per_case, axes = (-1, *[1] * (x.ndim - 1)), tuple(range(2, x.ndim))
    low, high = least_and_greatest(x)
    turned = inverted.to(x.device).view(per_case)
    start, end = torch.where(turned, high, low), torch.where(turned, low, high)
    span = end - start
    u = (x - start) / torch.where(span != 0, span, 1)
    out = torch.addcmul(start, u.pow(gammas.to(x.device, x.dtype).view(per_case)), span)
    if keep_moments:
        deviation, mean = torch.std_mean(x, axes, correction=0, keepdim=True)
        new_deviation, new_mean = torch.std_mean(out, axes, correction=0, keepdim=True)
        factor = torch.where(span != 0, deviation / new_deviation.clamp(min=torch.finfo(x.dtype).tiny), 1)
        out = torch.addcmul(torch.where(span != 0, mean - factor * new_mean, 0), out, factor)
    return out.to(images.dtype)


class RandGamma(RandBatchTransform):
    r"""Send intensities through a random power curve, all channels through the same.

    Args:
        gamma: least and greatest exponent, above 0; its logarithm is uniform between, so that with 0.5 to 2 a volume is
            as often darkened as brightened. 1 is the identity.
        inversion: chance that the curve is that of the negative, in [0, 1]; see :func:`change_gamma`.
        keep_moments: see :func:`change_gamma`; true where scans are z-scored, as those that come later will be too.
        prob: see :class:`RandBatchTransform`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range.

    Reference:
        F. Isensee et al.: nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation,
        Nature Methods 18, 2021, https://doi.org/10.1038/s41592-020-01008-z, in whose code (version 2) it is 0.7 to
        1.5, moments kept, with a chance of 0.3, and once more on the negative with a chance of 0.1. Here one draw
        decides for one of the two, all channels are changed alike, and the logarithm of the exponent is uniform.
    """

    def __init__(
        self,
        gamma: Sequence[float] = (0.7, 1.5),
        inversion: float = 0.25,
        keep_moments: bool = True,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        if len(gamma) != 2 or not 0.0 < gamma[0] <= gamma[1]:
            raise ValueError(f"`gamma` must be two numbers above 0, the least first, got {gamma}.")
        if not 0.0 <= inversion <= 1.0:
            raise ValueError(f"`inversion` must be in [0, 1], got {inversion}.")
        self.gamma, self.inversion, self.keep_moments = (gamma[0], gamma[1]), inversion, keep_moments

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the exponent."""
        low, high = self.gamma
        return {
            "gamma": math.exp(self.R.uniform(math.log(low), math.log(high))),
            "inverted": bool(self.R.random_sample() < self.inversion),
        }

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Send the intensities through the curves."""
        return change_gamma(images, stacked(params, "gamma"), stacked(params, "inverted"), self.keep_moments), {}


class RandGammad(RandBatchTransformd):
    """Dictionary twin of :class:`RandGamma`.

    Args:
        keys: images that are changed, by the same curve.
        gamma: see :class:`RandGamma`.
        inversion: see :class:`RandGamma`.
        keep_moments: see :class:`RandGamma`.
        prob: see :class:`RandGamma`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        gamma: Sequence[float] = (0.7, 1.5),
        inversion: float = 0.25,
        keep_moments: bool = True,
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandGamma(gamma, inversion, keep_moments, prob), None, allow_missing_keys)


RandGammaD = RandGammaDict = RandGammad
