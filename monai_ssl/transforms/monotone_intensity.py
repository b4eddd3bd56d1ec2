"""Monotone intensity change: a random curve brightens, darkens or inverts a volume, and values keep their order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import (
    Params,
    RandBatchTransform,
    RandBatchTransformd,
    checked_range,
    least_and_greatest,
    stacked,
)

__all__ = [
    "RandMonotoneIntensity",
    "RandMonotoneIntensityD",
    "RandMonotoneIntensityDict",
    "RandMonotoneIntensityd",
    "bezier_table",
    "monotone_intensity",
]


def bezier_table(points: Tensor, size: int) -> Tensor:
    r"""Tabulate cubic Bezier curves from (0, 0) to (1, 1) as functions of their first coordinate.

    .. math:: B(t) = 3 (1-t)^2 t P_1 + 3 (1-t) t^2 P_2 + t^3 (1, 1)

    With both inner points in the unit square both coordinates grow with :math:`t`, so the curve is a strictly growing
    function. It is the identity where both inner points lie on the diagonal.

    Args:
        points: the inner points :math:`P_1, P_2`, coordinates in [0, 1].
        size: number of values, for arguments at equal steps from 0 to 1.

    Shape:
        - points: ``(B, 2, 2)``: point, coordinate
        - Output: ``(B, size)``, float64
    """
    t = torch.linspace(0, 1, size, dtype=torch.float64, device=points.device)
    powers = torch.stack([3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2])
    x, y = (points.double().transpose(1, 2) @ powers + t**3).unbind(1)
    x, y = x.contiguous(), y.contiguous()
    at = torch.linspace(0, 1, size, dtype=torch.float64, device=points.device).repeat(len(points), 1)
    right = torch.searchsorted(x, at, right=True).clamp(1, size - 1)
    x0, x1, y0, y1 = x.gather(1, right - 1), x.gather(1, right), y.gather(1, right - 1), y.gather(1, right)
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0).clamp(min=torch.finfo(x.dtype).tiny)


def monotone_intensity(
    images: Tensor, points: Tensor, inverted: Tensor, range: Sequence[float] | None = (0.0, 1.0), size: int = 1024
) -> Tensor:
    r"""Send a batch's intensities through Bezier curves.

    With :math:`u = (x - l) / (h - l)` and the curve :math:`f` the result is :math:`l + f(u) (h - l)`, or where inverted
    :math:`h - f(u) (h - l)`. The order of values is never turned round (inverted: always), the ends are kept (swapped),
    up to rounding. Values outside the range go on with slope 1, so that order and contrast stay there too.

    Args:
        images: the batch; not changed.
        points: inner points of the curves; see :func:`bezier_table`.
        inverted: where high becomes low.
        range: intensities :math:`l, h` between which the curve acts; None: least and greatest of each volume and
            channel, as for z-scored ones. A constant volume then stays as it is.
        size: of the table, between whose values the curve is straight.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - points: ``(B, 2, 2)``, on any device
        - inverted: ``(B,)``, bool
        - Output: as ``images``
    """
    x = images.to(torch.promote_types(images.dtype, torch.float32))
    per_case = (-1, *[1] * (x.ndim - 1))
    table = bezier_table(points, size).to(x.device, x.dtype)
    if range is None:
        low, high = least_and_greatest(x)
    else:
        low, high = (torch.full_like(table[:, 0], end).view(per_case) for end in range)
    span = high - low
    u = (x - low) / torch.where(span > 0, span, 1)
    inside = u.clamp(0, 1)
    position = inside * (size - 1)
    left = position.long().clamp_(0, size - 2)
    lower, upper = (table.gather(1, at.flatten(1)).view(x.shape) for at in (left, left + 1))
    # Rounding may lift the straight line above its upper end, and so turn two values round: hence the minimum.
    curve = torch.minimum(lower + (position - left) * (upper - lower), upper) + (u - inside)
    turned = inverted.to(x.device).view(per_case)
    return (torch.where(turned, high, low) + curve * torch.where(turned, -span, span)).to(images.dtype)


class RandMonotoneIntensity(RandBatchTransform):
    """Send intensities through a random monotone curve, a cubic Bezier curve with inner points uniform in the square.

    Args:
        inversion: chance that high becomes low, in [0, 1]; the paper's half.
        range: intensities between which the curve acts, low and high; the paper's 0 to 1. None: from the least to the
            greatest of each volume and channel, for z-scored ones. Values outside go on with slope 1.
        size: of the table that holds the curve, 2 at least. With 1,024 the greatest error of a curve is 2e-6 of the
            range at the median and 0.006 for one in a hundred, those that start or end almost upright.
        prob: see :class:`RandBatchTransform`; the paper's 0.9.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range.

    Reference:
        Z. Zhou et al.: Models Genesis, Medical Image Analysis 67, 2021, https://arxiv.org/abs/2004.07882; first as
        Models Genesis: Generic Autodidactic Models for 3D Medical Image Analysis, MICCAI 2019,
        https://arxiv.org/abs/1908.06912. There the input lies in [0, 1]; ranges are ours.
    """

    def __init__(
        self,
        inversion: float = 0.5,
        range: Sequence[float] | None = (0.0, 1.0),
        size: int = 1024,
        prob: float = 0.9,
    ) -> None:
        super().__init__(prob)
        if not 0.0 <= inversion <= 1.0:
            raise ValueError(f"`inversion` must be in [0, 1], got {inversion}.")
        if size < 2:
            raise ValueError(f"`size` must be 2 at least, got {size}.")
        self.inversion, self.range, self.size = inversion, checked_range(range), size

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the curve."""
        return {
            "points": self.R.random_sample((2, 2)),
            "inverted": bool(self.R.random_sample() < self.inversion),
        }

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Send the intensities through the curves."""
        points, inverted = stacked(params, "points"), stacked(params, "inverted")
        return monotone_intensity(images, points, inverted, self.range, self.size), {}


class RandMonotoneIntensityd(RandBatchTransformd):
    """Dictionary twin of :class:`RandMonotoneIntensity`.

    Args:
        keys: images that are changed, by the same curve.
        inversion: see :class:`RandMonotoneIntensity`.
        range: see :class:`RandMonotoneIntensity`.
        size: see :class:`RandMonotoneIntensity`.
        prob: see :class:`RandMonotoneIntensity`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        inversion: float = 0.5,
        range: Sequence[float] | None = (0.0, 1.0),
        size: int = 1024,
        prob: float = 0.9,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandMonotoneIntensity(inversion, range, size, prob), None, allow_missing_keys)


RandMonotoneIntensityD = RandMonotoneIntensityDict = RandMonotoneIntensityd
