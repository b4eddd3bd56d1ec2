"""N4: the smooth bias field that coils lay over an MRI volume, estimated and divided out."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from torch import Tensor

from monai_ssl.utils.bundle import as_bool
from monai_ssl.utils.errors import UserError

__all__ = [
    "N4BiasCorrection",
    "N4BiasCorrectionD",
    "N4BiasCorrectionDict",
    "N4BiasCorrectiond",
    "bias_field",
    "corrects_bias",
]

_LEAST = 8  # voxels that an axis keeps when it is made smaller
_BINS = 200


def bias_field(volume: np.ndarray, shrink_factor: int = 4) -> np.ndarray:
    r"""Estimate the field :math:`b` of :math:`x = b \cdot x_0 + n`, smooth and about 1, by N4.

    The tissue that it is estimated from is what Otsu's threshold holds for foreground, positive values alone: N4 works
    on their logarithm. Where there is no such tissue the field is 1.

    Args:
        volume: as it was measured, before any normalisation; not changed. Values that are not finite are passed over.
        shrink_factor: every which voxel along each axis the estimate uses, 1 to 8; short axes are kept at 8 voxels. The
            field itself is evaluated at every voxel.

    Shape:
        - volume: ``(H, W[, D])``
        - Output: the same, float32, above 0

    Reference:
        N. J. Tustison et al.: N4ITK: improved N3 bias correction, IEEE Transactions on Medical Imaging 29 (6), 2010,
        https://doi.org/10.1109/TMI.2010.2046908, in SimpleITK's implementation and with its defaults: four levels of 50
        iterations. N. Otsu: A threshold selection method from gray-level histograms, IEEE Transactions on Systems, Man,
        and Cybernetics 9 (1), 1979, https://doi.org/10.1109/TSMC.1979.4310076.
    """
    values = np.where(np.isfinite(volume), volume, 0).astype(np.float32)
    ones = np.ones(values.shape, np.float32)
    if values.max() <= max(float(values.min()), 0.0):
        return ones
    with _one_thread():
        image = sitk.GetImageFromArray(values)
        mask = sitk.OtsuThreshold(image, 0, 1, _BINS) & (image > 0)
        factors = [max(1, min(shrink_factor, length // _LEAST)) for length in image.GetSize()]
        small, small_mask = sitk.Shrink(image, factors), sitk.Shrink(mask, factors)
        if not sitk.GetArrayViewFromImage(small_mask).any():
            return ones
        correction = sitk.N4BiasFieldCorrectionImageFilter()
        correction.SetNumberOfThreads(1)
        correction.Execute(small, small_mask)
        field = sitk.GetArrayFromImage(correction.GetLogBiasFieldAsImage(image))
    return np.exp(field).astype(np.float32)


def corrects_bias(bias_correction: Any, modality: str) -> bool:
    """Read the setting ``bias_correction`` of a bundle.

    Args:
        bias_correction: a switch.
        modality: of the volumes.

    Raises:
        UserError: when it is no switch, or on where the modality is CT.
    """
    if as_bool(bias_correction) and modality == "CT":
        raise UserError(
            "bias_correction is for MRI: a CT has no coils, and its Hounsfield units would be changed. Leave it out, "
            "or give --modality MRI."
        )
    return as_bool(bias_correction)


class N4BiasCorrection(Transform):
    """Divide each channel of an MRI volume by its own bias field, see :func:`bias_field`.

    Nothing is random, and the same volume gives the same bits with any number of cores. A volume of 128 voxels a side
    takes about two seconds, so keep prepared cases in memory.

    Args:
        shrink_factor: see :func:`bias_field`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when ``shrink_factor`` is below 1.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, shrink_factor: int = 4) -> None:
        if shrink_factor < 1:
            raise ValueError(f"`shrink_factor` must be 1 or more, got {shrink_factor}.")
        self.shrink_factor = shrink_factor

    def __call__(self, img: Tensor) -> Tensor:
        """Return the corrected image; type, metadata and device are kept, whole numbers are rounded."""
        plain = img.detach().cpu().as_subclass(Tensor)
        fields = [torch.from_numpy(bias_field(channel.numpy(), self.shrink_factor)) for channel in plain]
        divided = plain.to(torch.promote_types(plain.dtype, torch.float32)) / torch.stack(fields)
        if not img.is_floating_point():
            limits = torch.iinfo(img.dtype)
            divided = divided.round().clamp(limits.min, limits.max)
        corrected = divided.to(img.device, img.dtype)
        return MetaTensor(corrected).copy_meta_from(img) if isinstance(img, MetaTensor) else corrected


class N4BiasCorrectiond(MapTransform):
    """Dictionary twin of :class:`N4BiasCorrection`.

    Args:
        keys: images that are corrected, each on its own.
        shrink_factor: see :func:`bias_field`.
        allow_missing_keys: leave out keys that are not there.
    """

    backend = N4BiasCorrection.backend

    def __init__(self, keys: KeysCollection, shrink_factor: int = 4, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.correction = N4BiasCorrection(shrink_factor)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.correction(out[key])
        return out


@contextmanager
def _one_thread() -> Iterator[None]:
    # the sums of N4's splines are in the order of the threads, and its inner filters ask for the default
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


N4BiasCorrectionD = N4BiasCorrectionDict = N4BiasCorrectiond
