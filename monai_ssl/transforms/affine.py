"""Affine views: a volume is turned, scaled and mirrored about its centre, and what is predicted is brought back."""

from __future__ import annotations

import math
from collections.abc import Generator, Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.utils import ensure_tuple_rep
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked

__all__ = [
    "Interpolation",
    "RandAffineView",
    "RandAffineViewD",
    "RandAffineViewDict",
    "RandAffineViewd",
    "affine_inside",
    "affine_matrix",
    "apply_affine",
    "undo_affine",
]

Interpolation = Literal["bilinear", "nearest"]


def affine_matrix(angles: Sequence[float], factors: Sequence[float], flips: Sequence[bool]) -> np.ndarray:
    r"""Compose a rotation, a scaling and flips: :math:`M = R_0 R_1 R_2\, \mathrm{diag}(\pm s)`.

    A point at :math:`x` mm from the centre goes to :math:`M x`. Axes are stretched before they are turned, so that
    right angles between them stay right.

    Args:
        angles: about each axis in radians, from the first of the two others towards the second as ``torch.rot90`` does;
            in 2D a single one, from the first axis towards the second.
        factors: :math:`s` along each axis; above 1 magnifies.
        flips: axes that are mirrored, the sign of :math:`s`.

    Shape:
        - Output: ``(d, d)`` for ``d`` axes, float64
    """
    matrix = np.eye(len(factors))
    planes = [(0, 1)] if len(factors) == 2 else [(1, 2), (0, 2), (0, 1)]
    for (first, second), angle in zip(planes, angles, strict=True):
        turn = np.eye(len(factors))
        turn[[first, second], [first, second]] = math.cos(angle)
        turn[second, first], turn[first, second] = math.sin(angle), -math.sin(angle)
        matrix = matrix @ turn
    return matrix * np.where(flips, -1.0, 1.0) * factors


def apply_affine(
    images: Tensor, matrices: Tensor, mode: Interpolation = "bilinear", spacing: Sequence[float] | None = None
) -> Tensor:
    """Move the voxels of each case of a batch by a linear map about the centre; what comes in repeats the border.

    Of images as of a network's output for them at a lower resolution, if all axes have lost the same.

    Args:
        images: the batch; not changed.
        matrices: where points go, in mm; see :func:`affine_matrix`.
        mode: ``bilinear`` between all neighbours, in 3D too, for images and probabilities, whose sum stays 1;
            ``nearest`` for labels, which get no new values. Whole numbers are exact up to 2 to the power of 24.
        spacing: voxel size along each axis, of which the ratios alone matter; isotropic by default.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - matrices: ``(B, 2, 2)`` or ``(B, 3, 3)``, on any device
        - Output: as ``images``

    Raises:
        ValueError: when there is not one matrix a case, or an argument is out of range.
    """
    _check_matrices(images.shape, matrices)
    return _resample(images, torch.linalg.inv(matrices), mode, spacing)


def undo_affine(
    images: Tensor, matrices: Tensor, mode: Interpolation = "bilinear", spacing: Sequence[float] | None = None
) -> Tensor:
    """Move back what :func:`apply_affine` has moved, or a network's output for it.

    The geometry is exactly the inverse; interpolation smooths once more, and what had left the volume is replaced by
    the border of what stayed: :func:`affine_inside` of the inverse matrices tells where. Gradients pass through; on
    CUDA torch adds them up in no fixed order.

    Args:
        images: the batch; not changed.
        matrices: those that were applied.
        mode: see :func:`apply_affine`.
        spacing: see :func:`apply_affine`.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - matrices: ``(B, 2, 2)`` or ``(B, 3, 3)``, on any device
        - Output: as ``images``

    Raises:
        ValueError: see :func:`apply_affine`.
    """
    _check_matrices(images.shape, matrices)
    return _resample(images, matrices, mode, spacing)


def affine_inside(matrices: Tensor, shape: Sequence[int], spacing: Sequence[float] | None = None) -> Tensor:
    """Voxels that :func:`apply_affine` fills from inside the volume, and not by repeating its border.

    After :func:`undo_affine` these are the voxels inside for ``torch.linalg.inv(matrices)``.

    Args:
        matrices: see :func:`apply_affine`.
        shape: of the volumes, ``(H, W[, D])``.
        spacing: see :func:`apply_affine`.

    Shape:
        - matrices: ``(B, 2, 2)`` or ``(B, 3, 3)``
        - Output: ``(B, 1, H, W[, D])``, bool, on the matrices' device

    Raises:
        ValueError: see :func:`apply_affine`.
    """
    _check_matrices((len(matrices), 1, *shape), matrices)
    grid = _grid(torch.linalg.inv(matrices), shape, spacing, matrices.device, torch.float32)
    return (grid.abs() <= 1).all(-1)[:, None]


class RandAffineView(RandBatchTransform):
    """Turn, scale and mirror a volume about its centre, at random.

    The affine of a scan's metadata stays as it was: views are for training, nothing is written in their geometry.

    Args:
        rotation: greatest angle either way in radians, one number or one about each axis; uniform. In 2D one number.
            With thick slices turn about their axis alone, as in (0, 0, 0.5).
        scaling: least and greatest factor, above 0; its logarithm is uniform between, so that with 0.8 to 1.25 a volume
            is as often magnified as shrunk.
        isotropic: one factor for all axes; else one is drawn for each.
        flips: chance that an axis is mirrored, one number or one for each axis, in [0, 1]. 0 where left and right are
            different classes.
        spacing: voxel size, one number or one an axis, of which the ratios alone matter; isotropic by default.
        mode: see :func:`apply_affine`.
        prob: see :class:`RandBatchTransform`.

    Attributes:
        extras: ``matrix``, for :func:`undo_affine` and :func:`affine_inside`; ``(d, d)`` for ``d`` axes, with the
            batch's axis in front after :meth:`batch`, float32. The identity where a case is left as it is.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range, or has another number of axes than the volume.

    Reference:
        F. Isensee et al.: nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation,
        Nature Methods 18, 2021, https://doi.org/10.1038/s41592-020-01008-z, in whose code (version 2) volumes are
        turned by up to 0.52 radians and scaled by 0.7 to 1.4 alike along the axes, each with a chance of 0.2. The
        milder defaults are those of the bundle ``semi_segmentation``.
    """

    def __init__(
        self,
        rotation: float | Sequence[float] = 0.26,
        scaling: Sequence[float] = (0.85, 1.15),
        isotropic: bool = False,
        flips: float | Sequence[float] = 0.0,
        spacing: float | Sequence[float] | None = None,
        mode: Interpolation = "bilinear",
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        self.rotation, self.flips, self.spacing = (
            tuple(value) if isinstance(value, Sequence) else (value,)
            for value in (rotation, flips, 1.0 if spacing is None else spacing)
        )
        if not all(angle >= 0 for angle in self.rotation):
            raise ValueError(f"`rotation` must be 0 radians at least, got {rotation}.")
        if len(scaling) != 2 or not 0.0 < scaling[0] <= scaling[1]:
            raise ValueError(f"`scaling` must be two numbers above 0, the least first, got {scaling}.")
        if not all(0.0 <= chance <= 1.0 for chance in self.flips):
            raise ValueError(f"`flips` must be in [0, 1], got {flips}.")
        if not all(step > 0 for step in self.spacing):
            raise ValueError(f"`spacing` must be above 0 mm, got {spacing}.")
        _check_mode(mode)
        self.scaling, self.isotropic = (scaling[0], scaling[1]), isotropic
        self.mode: Interpolation = mode

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the matrix."""
        dimensions = len(shape) - 1
        turns = 1 if dimensions == 2 else 3
        low, high = np.log(self.scaling)
        angles = self.R.uniform(-1, 1, turns) * _repeated("rotation", self.rotation, turns)
        factors = np.exp(self.R.uniform(low, high, 1 if self.isotropic else dimensions)) * np.ones(dimensions)
        flips = self.R.random_sample(dimensions) < _repeated("flips", self.flips, dimensions)
        return {"matrix": affine_matrix(angles.tolist(), factors.tolist(), flips.tolist())}

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Move the voxels."""
        matrices = stacked(params, "matrix")
        spacing = _repeated("spacing", self.spacing, images.ndim - 2)
        return apply_affine(images, matrices, self.mode, spacing), {"matrix": matrices.to(images.device, torch.float32)}

    def skipped(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The identity."""
        return images, {"matrix": torch.eye(images.ndim - 2, device=images.device).repeat(len(images), 1, 1)}


class RandAffineViewd(RandBatchTransformd):
    """Dictionary twin of :class:`RandAffineView`.

    Args:
        keys: images and labels that are moved alike.
        matrix_key: entry for the matrix; None leaves it out.
        rotation: see :class:`RandAffineView`.
        scaling: see :class:`RandAffineView`.
        isotropic: see :class:`RandAffineView`.
        flips: see :class:`RandAffineView`.
        spacing: see :class:`RandAffineView`.
        mode: see :func:`apply_affine`; one, or one a key.
        prob: see :class:`RandAffineView`.
        allow_missing_keys: leave out keys that are not there.
    """

    transform: RandAffineView

    def __init__(
        self,
        keys: KeysCollection,
        matrix_key: Hashable | None = "matrix",
        rotation: float | Sequence[float] = 0.26,
        scaling: Sequence[float] = (0.85, 1.15),
        isotropic: bool = False,
        flips: float | Sequence[float] = 0.0,
        spacing: float | Sequence[float] | None = None,
        mode: Interpolation | Sequence[Interpolation] = "bilinear",
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandAffineView(rotation, scaling, isotropic, flips, spacing, prob=prob)
        extra_keys = {} if matrix_key is None else {"matrix": matrix_key}
        super().__init__(keys, transform, extra_keys, allow_missing_keys)
        self.modes: tuple[Interpolation, ...] = ensure_tuple_rep(mode, len(self.keys))
        for one in self.modes:
            _check_mode(one)

    def key_iterator(
        self, data: Mapping[Hashable, Any], *extra_iterables: Iterable[Any] | None
    ) -> Generator[Any, None, None]:
        """The keys, while the array object interpolates as each one asks."""
        for key, mode in super().key_iterator(data, self.modes):
            self.transform.mode = mode
            yield key


RandAffineViewD = RandAffineViewDict = RandAffineViewd


def _resample(images: Tensor, pullback: Tensor, mode: Interpolation, spacing: Sequence[float] | None) -> Tensor:
    """Read each voxel of the result at the point that the pullback, from result to image, names."""
    _check_mode(mode)
    x = images.to(torch.promote_types(images.dtype, torch.float32))
    grid = _grid(pullback, x.shape[2:], spacing, x.device, x.dtype)
    return F.grid_sample(x, grid, mode, padding_mode="border", align_corners=False).to(images.dtype)


def _grid(
    pullback: Tensor, shape: Sequence[int], spacing: Sequence[float] | None, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """From mm about the centre to torch's coordinates: -1 to 1 across each axis, edge to edge, the last axis first."""
    steps = (1.0,) * len(shape) if spacing is None else tuple(spacing)
    if len(steps) != len(shape) or not all(step > 0 for step in steps):
        raise ValueError(f"`spacing` must be above 0 mm for each of {len(shape)} axes, got {spacing}.")
    extent = torch.tensor([length * step for length, step in zip(shape, steps, strict=True)]).to(pullback)
    theta = F.pad((pullback * extent / extent[:, None]).flip(1, 2), (0, 1)).to(device, dtype)
    with torch.autocast(device.type, enabled=False):  # it would lower the coordinates to 16 bits
        return F.affine_grid(theta, [len(theta), 1, *shape], align_corners=False)


def _check_matrices(shape: Sequence[int], matrices: Tensor) -> None:
    dimensions = len(shape) - 2
    if matrices.shape != (shape[0], dimensions, dimensions):
        raise ValueError(
            f"`matrices` must be {dimensions} x {dimensions} for each of {shape[0]} cases, got {tuple(matrices.shape)}."
        )


def _check_mode(mode: str) -> None:
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f"`mode` must be bilinear or nearest, got {mode!r}.")


def _repeated(name: str, values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """One value for each of some axes."""
    if len(values) not in (1, count):
        raise ValueError(f"`{name}` must be one number{f' or {count}' if count > 1 else ''}, got {values}.")
    return values * (count // len(values))
