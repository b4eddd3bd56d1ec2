"""Monotone intensity change: a random curve brightens, darkens or inverts a volume, and values keep their order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import (
    Params,
    RandBatchTransform,
    RandBatchTransformd,
    checked_range,
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

SIZE = 2**16  # of a table: each value of a 16-bit scan has a place of its own
KNOTS = 4097  # points of a curve, at equal steps of its parameter, between which it is straight


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
        - Output: ``(B, size)``, float64, on the CPU
    """
    t, at = np.linspace(0, 1, KNOTS), np.linspace(0, 1, size)
    powers = np.stack([3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2])
    curves = points.double().cpu().numpy().transpose(0, 2, 1) @ powers + t**3
    return torch.from_numpy(np.stack([np.interp(at, x, y) for x, y in curves]))


def monotone_intensity(
    images: Tensor, points: Tensor, inverted: Tensor, range: Sequence[float] | None = (0.0, 1.0), size: int = SIZE
) -> Tensor:
    r"""Send a batch's intensities through Bezier curves.

    With :math:`u = (x - l) / (h - l)` and the curve :math:`f` the result is :math:`l + f(u) (h - l)`, or where inverted
    :math:`h - f(u) (h - l)`. The order of values is never turned round (inverted: always), the ends are kept (swapped),
    up to rounding. Values outside the range go on with slope 1, so that order and contrast stay there too.

    The curve is read from a table of :math:`n` steps, at the place nearest to :math:`u`: each voxel costs one look-up.
    The error is at most :math:`f(u + 1/2n) - f(u - 1/2n)` of the range, and values less than :math:`(h - l) / n` apart
    may become one.

    Args:
        images: the batch; not changed.
        points: inner points of the curves; see :func:`bezier_table`.
        inverted: where high becomes low.
        range: intensities :math:`l, h` between which the curve acts; None: least and greatest of each volume and
            channel, as for z-scored ones. A constant volume then stays as it is.
        size: of the table.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - points: ``(B, 2, 2)``, on any device
        - inverted: ``(B,)``, bool
        - Output: as ``images``
    """
    tables = bezier_table(points, size)
    tables = torch.where(inverted.cpu()[:, None], 1 - tables, tables).to(images.device)
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    # volume by volume: one fits into a processor's cache, a batch does not
    for case, turned in enumerate(inverted.tolist()):
        for channel, volume in enumerate(images[case]):
            out[case, channel] = _looked_up(volume, tables[case], -1 if turned else 1, range)
    return out


def _looked_up(volume: Tensor, table: Tensor, slope: int, range: Sequence[float] | None) -> Tensor:
    x = volume.to(torch.promote_types(volume.dtype, torch.float32))
    low, high = x.aminmax() if range is None else x.new_tensor(range)
    inside = x if range is None else x.clamp(low, high)
    span, last = high - low, len(table) - 1
    place = (inside - low).mul_(last / torch.where(span > 0, span, 1)).add_(0.5).int()
    values = (low + table * span).to(x.dtype)
    out = values.index_select(0, place.clamp_(0, last).flatten()).view(x.shape)  # of NaN, place is any number
    return out if range is None else out.add_(x - inside, alpha=slope)


class RandMonotoneIntensity(RandBatchTransform):
    """Send intensities through a random monotone curve, a cubic Bezier curve with inner points uniform in the square.

    Args:
        inversion: chance that high becomes low, in [0, 1]; the paper's half.
        range: intensities between which the curve acts, low and high; the paper's 0 to 1. None: from the least to the
            greatest of each volume and channel, for z-scored ones. Values outside go on with slope 1.
        size: of the table that holds the curve, 2 at least. By default each value of a 16-bit scan has a place of its
            own; the greatest error of a curve is 2e-5 of the range at the median and 0.001 for one in a hundred, those
            that start or end almost upright.
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
        size: int = SIZE,
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
        size: int = SIZE,
        prob: float = 0.9,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandMonotoneIntensity(inversion, range, size, prob), None, allow_missing_keys)


RandMonotoneIntensityD = RandMonotoneIntensityDict = RandMonotoneIntensityd
