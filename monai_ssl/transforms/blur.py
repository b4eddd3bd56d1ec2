"""Gaussian blur: every voxel becomes a weighted mean of its neighbourhood, whose width is drawn for each case."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked

__all__ = [
    "RandGaussianBlur",
    "RandGaussianBlurD",
    "RandGaussianBlurDict",
    "RandGaussianBlurd",
    "blur_matrices",
    "gaussian_blur",
]


def blur_matrices(sigmas: Tensor, length: int, truncate: float = 4.0) -> Tensor:
    r"""Tabulate the Gaussian blur of a line of voxels as a matrix, what lies beyond the ends repeating the last voxel.

    .. math:: K_{ij} = \sum_{t = -r,\ \mathrm{clip}(i + t) = j}^{r} w_t, \quad w_t \propto e^{-t^2 / (2 \sigma^2)}

    with weights of sum 1 and the radius :math:`r`, ``truncate`` times :math:`\sigma` rounded to whole voxels.

    Args:
        sigmas: standard deviations :math:`\sigma` in voxels, from 0, where the matrix is the identity.
        length: of the line.
        truncate: radius of the kernel in standard deviations.

    Shape:
        - sigmas: ``(B,)``
        - Output: ``(B, length, length)``, float64; a line of voxels is multiplied from the left
    """
    sigma = sigmas.double()[:, None]
    radius = (truncate * sigma + 0.5).floor()
    most = int(radius.max())
    taps = torch.arange(-most, most + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (taps / sigma.clamp(min=1e-3)) ** 2).where(taps.abs() <= radius, 0)
    weights = weights / weights.sum(1, keepdim=True)
    source = (torch.arange(length, device=sigma.device)[:, None] + taps).clamp(0, length - 1)
    shape = len(sigma), *source.shape
    empty = weights.new_zeros(len(sigma), length, length)
    return empty.scatter_add_(2, source.expand(shape), weights[:, None].expand(shape))


def gaussian_blur(images: Tensor, sigmas: Tensor, truncate: float = 4.0) -> Tensor:
    """Blur each case of a batch with a Gaussian of its own.

    An axis costs one product with a small matrix for each case, and as the axis moves to the front with it, the volumes
    are neither padded nor rearranged in memory. A kernel for all cases would have the radius of the widest.

    Args:
        images: the batch; not changed.
        sigmas: standard deviations in voxels for each axis, from 0, where the axis is left as it is.
        truncate: see :func:`blur_matrices`.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - sigmas: ``(B, 2 or 3)``
        - Output: as ``images``
    """
    shape = images.shape
    out = images.to(torch.promote_types(images.dtype, torch.float32))
    with torch.autocast(images.device.type, enabled=False):  # it would lower the products to 16 bits
        for axis in range(len(shape) - 3, -1, -1):
            matrices = blur_matrices(sigmas[:, axis].cpu(), shape[2 + axis], truncate).to(out.device, out.dtype)
            out = matrices @ out.reshape(shape[0], -1, shape[2 + axis]).mT  # the axis, then all others in their order
    return out.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous().to(images.dtype)


class RandGaussianBlur(RandBatchTransform):
    """Blur a volume with a Gaussian of random width, all channels alike.

    Args:
        sigma: least and greatest standard deviation, from 0; uniform between. In voxels, or in mm with ``spacing``.
        spacing: voxel size in mm, one number or one an axis; where given, thick slices are blurred over fewer voxels.
        isotropic: one width for all axes; else one is drawn for each.
        prob: see :class:`RandBatchTransform`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range, or ``spacing`` has another number of axes than the volume.

    Reference:
        F. Isensee et al.: nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation,
        Nature Methods 18, 2021, https://doi.org/10.1038/s41592-020-01008-z, in whose code (version 2) the chance is
        0.2, and 0.5 for each channel, with a width of its own for each channel and axis.
    """

    def __init__(
        self,
        sigma: Sequence[float] = (0.5, 1.0),
        spacing: float | Sequence[float] | None = None,
        isotropic: bool = True,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        if len(sigma) != 2 or not 0.0 <= sigma[0] <= sigma[1]:
            raise ValueError(f"`sigma` must be two numbers from 0, the least first, got {sigma}.")
        steps = spacing if isinstance(spacing, Sequence) else [1.0 if spacing is None else spacing]
        if not all(step > 0 for step in steps):
            raise ValueError(f"`spacing` must be above 0 mm, got {spacing}.")
        self.sigma, self.steps, self.isotropic = (sigma[0], sigma[1]), tuple(steps), isotropic

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the width along each axis, in voxels."""
        dimensions = len(shape) - 1
        if len(self.steps) not in (1, dimensions):
            raise ValueError(f"`spacing` must be one number or one for each of {dimensions} axes, got {self.steps}.")
        widths = self.R.uniform(*self.sigma, size=1 if self.isotropic else dimensions)
        return {
            "sigma": [
                float(widths[axis % len(widths)] / self.steps[axis % len(self.steps)]) for axis in range(dimensions)
            ]
        }

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Blur."""
        return gaussian_blur(images, stacked(params, "sigma")), {}


class RandGaussianBlurd(RandBatchTransformd):
    """Dictionary twin of :class:`RandGaussianBlur`.

    Args:
        keys: images that are blurred alike.
        sigma: see :class:`RandGaussianBlur`.
        spacing: see :class:`RandGaussianBlur`.
        isotropic: see :class:`RandGaussianBlur`.
        prob: see :class:`RandGaussianBlur`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        sigma: Sequence[float] = (0.5, 1.0),
        spacing: float | Sequence[float] | None = None,
        isotropic: bool = True,
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandGaussianBlur(sigma, spacing, isotropic, prob), None, allow_missing_keys)


RandGaussianBlurD = RandGaussianBlurDict = RandGaussianBlurd
