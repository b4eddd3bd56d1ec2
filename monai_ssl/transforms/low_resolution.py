"""Low resolution: a volume is read at fewer voxels and brought back to its own, as if its scan had been coarser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked

__all__ = [
    "RandLowResolution",
    "RandLowResolutionD",
    "RandLowResolutionDict",
    "RandLowResolutiond",
    "low_resolution",
]


def low_resolution(images: Tensor, zooms: Tensor) -> Tensor:
    """Down- and upsample each case of a batch; cases that become equally small go together.

    The nearest voxel downwards, without a low-pass filter before, so that noise stays and edges get steps; linear
    between voxels upwards.

    Args:
        images: the batch; not changed.
        zooms: fraction of an axis's voxels that is left, in (0, 1], rounded to whole voxels and one at least.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - zooms: ``(B, 2 or 3)``
        - Output: as ``images``
    """
    shape = tuple(images.shape[2:])
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, zoom in enumerate(zooms.tolist()):
        size = tuple(max(1, round(length * part)) for length, part in zip(shape, zoom, strict=True))
        groups.setdefault(size, []).append(number)
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    for size, cases in groups.items():
        # neighbours, above all a single case, need no copy to bring them together
        together = cases[-1] - cases[0] + 1 == len(cases)
        chosen = slice(cases[0], cases[-1] + 1) if together else torch.tensor(cases, device=images.device)
        small = F.interpolate(
            images[chosen].to(torch.promote_types(images.dtype, torch.float32)), size, mode="nearest-exact"
        )
        out[chosen] = F.interpolate(small, shape, mode="trilinear" if len(shape) == 3 else "bilinear").to(out.dtype)
    return out


class RandLowResolution(RandBatchTransform):
    """Bring a volume to a random lower resolution and back, all channels alike.

    Args:
        zoom: least and greatest fraction of an axis's voxels that is left, in (0, 1]; uniform between, one for all
            axes. 1 is the identity.
        axes: spatial axes that lose voxels, from 0; None: all. Leave out the axis of thick slices, which has few to
            lose, or give it alone to imitate them.
        prob: see :class:`RandBatchTransform`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range, or the volume does not have one of the axes.

    Reference:
        F. Isensee et al.: nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation,
        Nature Methods 18, 2021, https://doi.org/10.1038/s41592-020-01008-z, in whose code the chance is 0.25, and
        0.5 for each channel, with a resolution of its own. Version 1 goes up with cubic interpolation, version 2 with
        linear, as here.
    """

    def __init__(
        self, zoom: Sequence[float] = (0.5, 1.0), axes: Sequence[int] | None = None, prob: float = 1.0
    ) -> None:
        super().__init__(prob)
        if len(zoom) != 2 or not 0.0 < zoom[0] <= zoom[1] <= 1.0:
            raise ValueError(f"`zoom` must be two numbers in (0, 1], the least first, got {zoom}.")
        if axes is not None and (not axes or any(axis not in (0, 1, 2) for axis in axes)):
            raise ValueError(f"`axes` must be some of 0, 1 and 2, or None, got {axes}.")
        self.zoom, self.axes = (zoom[0], zoom[1]), axes if axes is None else tuple(axes)

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the fraction."""
        dimensions = len(shape) - 1
        axes = range(dimensions) if self.axes is None else self.axes
        if max(axes) >= dimensions:
            raise ValueError(f"`axes` must be below {dimensions} for volumes of {tuple(shape[1:])}, got {self.axes}.")
        zoom = self.R.uniform(*self.zoom)
        return {"zoom": [zoom if axis in axes else 1.0 for axis in range(dimensions)]}

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Down- and upsample."""
        return low_resolution(images, stacked(params, "zoom")), {}


class RandLowResolutiond(RandBatchTransformd):
    """Dictionary twin of :class:`RandLowResolution`.

    Args:
        keys: images that lose resolution alike.
        zoom: see :class:`RandLowResolution`.
        axes: see :class:`RandLowResolution`.
        prob: see :class:`RandLowResolution`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        zoom: Sequence[float] = (0.5, 1.0),
        axes: Sequence[int] | None = None,
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandLowResolution(zoom, axes, prob), None, allow_missing_keys)


RandLowResolutionD = RandLowResolutionDict = RandLowResolutiond
