"""Right-angle rotation: a volume is turned by right angles, and how is to be told."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from functools import cache
from itertools import combinations, permutations
from typing import Literal, NamedTuple

import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked

__all__ = [
    "Family",
    "RandRightAngleRotation",
    "RandRightAngleRotationD",
    "RandRightAngleRotationDict",
    "RandRightAngleRotationd",
    "RightAngleRotation",
    "apply_rotation",
    "right_angle_rotations",
    "undo_rotation",
]

Family = Literal["plane", "axes", "cube"]


class RightAngleRotation(NamedTuple):
    """A rotation as a permutation of the spatial axes, after which some of them are flipped.

    Args:
        permutation: input axis that becomes each output axis, counted among the spatial ones.
        flips: output axes that are flipped, in order.
    """

    permutation: tuple[int, ...]
    flips: tuple[int, ...]

    def inverse(self) -> RightAngleRotation:
        """The rotation that undoes this one."""
        back = sorted(range(len(self.permutation)), key=self.permutation.__getitem__)
        return RightAngleRotation(tuple(back), tuple(sorted(self.permutation[axis] for axis in self.flips)))


def right_angle_rotations(
    shape: Sequence[int],
    family: Family = "axes",
    axis: int = 0,
    spacing: float | Sequence[float] | None = None,
) -> tuple[RightAngleRotation, ...]:
    """Rotations of a family that keep shape and spacing, the identity first.

    Of the 24 rotations of the cube one unequal axis leaves 8, three unequal ones 4; half turns are always left.
    An image has four rotations whatever the family, or the two half turns where its axes are unequal.

    Args:
        shape: of the volume, ``(H, W[, D])``.
        family: ``plane``, 0, 90, 180 and 270 degrees about one axis; ``axes``, the identity and 90, 180 and 270 degrees
            about each axis, 10 in all; ``cube``, all 24. Where all keep the shape, the first 10 of ``cube`` are
            those of ``axes``, and the first 4 those of ``plane`` about the first axis.
        axis: that ``plane`` turns about, 0 to 2. A quarter turn goes from the first of the two others towards the
            second, as ``torch.rot90`` does.
        spacing: voxel size in mm, one number or one an axis; isotropic by default. Equal to a thousandth is equal.

    Raises:
        ValueError: when an argument is out of range, or the volume is a line of voxels.
    """
    dimensions = len(shape)
    if dimensions not in (2, 3):
        raise ValueError(f"`shape` must have 2 or 3 spatial axes, got {tuple(shape)}.")
    if sum(length < 2 for length in shape) > 1:
        raise ValueError(
            f"`shape` must have two voxels or more along two axes, got {tuple(shape)}: rotations of a line are "
            "not distinct. Use a larger crop."
        )
    _check_arguments(family, axis, spacing)
    steps = tuple(spacing) if isinstance(spacing, Sequence) else (1.0,) * dimensions
    if len(steps) != dimensions:
        raise ValueError(f"`spacing` must be one number or one for each of {dimensions} axes, got {steps}.")
    return tuple(
        rotation
        for rotation in _family(family, axis, dimensions)
        if all(
            shape[old] == shape[new] and math.isclose(steps[old], steps[new], rel_tol=1e-3)
            for new, old in enumerate(rotation.permutation)
        )
    )


def apply_rotation(images: Tensor, rotations: Sequence[RightAngleRotation]) -> Tensor:
    """Rotate each case of a batch.

    Args:
        images: the batch; not changed, and the output shares no memory with it. A batch comes out contiguous, a single
            case in the order in memory that it had, as from ``torch.rot90``.
        rotations: one a case; see :func:`right_angle_rotations`.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when there is not one rotation a case, or one does not keep the shape.
    """
    if len(rotations) != len(images):
        raise ValueError(f"`rotations` must be one for each of {len(images)} cases, got {len(rotations)}.")
    for rotation in rotations:
        if [images.shape[2 + axis] for axis in rotation.permutation] != list(images.shape[2:]):
            raise ValueError(f"`rotations` must keep the shape {tuple(images.shape[2:])}, got {rotation}.")
    if len(images) == 1:
        turned = _turned(images[0], *rotations[0])
        return (turned if rotations[0].flips else turned.clone())[None]
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    for case, (permutation, flips) in enumerate(rotations):
        image = images[case]
        if permutation in ((1, 2, 0), (2, 1, 0)):
            # Neighbours of the result lie a plane apart in the image. Swapping the outer axes first moves whole rows,
            # and makes the copy four times as fast.
            image, permutation = image.transpose(1, 2).contiguous(), tuple((1, 0, 2)[axis] for axis in permutation)
        out[case].copy_(_turned(image, permutation, flips))
    return out


def undo_rotation(images: Tensor, rotations: Sequence[RightAngleRotation]) -> Tensor:
    """Rotate back what :func:`apply_rotation` has rotated, or a network's output for it, whatever its resolution.

    Args:
        images: the batch; not changed.
        rotations: those that were applied.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: see :func:`apply_rotation`.
    """
    return apply_rotation(images, [rotation.inverse() for rotation in rotations])


class RandRightAngleRotation(RandBatchTransform):
    """Rotate a volume by right angles; all rotations that keep its shape and spacing are equally likely.

    The identity is one of them, class 0, and the classes are numbered without gaps. The affine stays as it was: a
    network is to see that a volume is turned, so nothing may turn it back.

    Args:
        family: see :func:`right_angle_rotations`.
        axis: see :func:`right_angle_rotations`.
        spacing: see :func:`right_angle_rotations`.
        prob: see :class:`RandBatchTransform`; below 1 the identity gains what the others lose.

    Attributes:
        extras: ``rotation``, the class, an index into :meth:`rotations`, int64; a scalar, or ``(B,)`` after
            :meth:`batch`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range, or a volume is a line of voxels.

    Reference:
        A. Taleb et al.: 3D Self-Supervised Methods for Medical Imaging, NeurIPS 2020,
        https://arxiv.org/abs/2006.03829, section 3.4, for ``axes``; Y. Tang et al.: Self-Supervised Pre-Training of
        Swin Transformers for 3D Medical Image Analysis, CVPR 2022, https://arxiv.org/abs/2111.14791, for ``plane``,
        whose published code turns about the first spatial axis.
    """

    def __init__(
        self,
        family: Family = "axes",
        axis: int = 0,
        spacing: float | Sequence[float] | None = None,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        _check_arguments(family, axis, spacing)
        self.family: Family = family
        self.axis = axis
        self.spacing = spacing

    def rotations(self, shape: Sequence[int]) -> tuple[RightAngleRotation, ...]:
        """What each class means for volumes of a shape ``(H, W[, D])``."""
        return right_angle_rotations(shape, self.family, self.axis, self.spacing)

    def classes(self, shape: Sequence[int]) -> int:
        """Number of classes for volumes of a shape ``(H, W[, D])``, the size of a head."""
        return len(self.rotations(shape))

    def chance_level(self, shape: Sequence[int]) -> float:
        """Accuracy of guessing for volumes of a shape ``(H, W[, D])``, at ``prob`` 1."""
        return 1.0 / self.classes(shape)

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the class."""
        rotations = self.rotations(shape[1:])
        label = int(self.R.randint(len(rotations)))
        return {"label": label, "rotation": rotations[label]}

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Rotate."""
        labels = stacked(params, "label", images.device).long()
        return apply_rotation(images, [one["rotation"] for one in params]), {"rotation": labels}

    def skipped(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The identity."""
        return images, {"rotation": torch.zeros(len(images), dtype=torch.int64, device=images.device)}


class RandRightAngleRotationd(RandBatchTransformd):
    """Dictionary twin of :class:`RandRightAngleRotation`.

    Args:
        keys: images that are rotated alike.
        rotation_key: entry for the class; None leaves it out.
        family: see :class:`RandRightAngleRotation`.
        axis: see :class:`RandRightAngleRotation`.
        spacing: see :class:`RandRightAngleRotation`.
        prob: see :class:`RandRightAngleRotation`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        rotation_key: Hashable | None = "rotation",
        family: Family = "axes",
        axis: int = 0,
        spacing: float | Sequence[float] | None = None,
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandRightAngleRotation(family, axis, spacing, prob)
        extra_keys = {} if rotation_key is None else {"rotation": rotation_key}
        super().__init__(keys, transform, extra_keys, allow_missing_keys)


RandRightAngleRotationD = RandRightAngleRotationDict = RandRightAngleRotationd


def _check_arguments(family: Family, axis: int, spacing: float | Sequence[float] | None) -> None:
    if family not in ("plane", "axes", "cube"):
        raise ValueError(f"`family` must be plane, axes or cube, got {family!r}.")
    if axis not in (0, 1, 2):
        raise ValueError(f"`axis` must be 0, 1 or 2, got {axis}.")
    steps = spacing if isinstance(spacing, Sequence) else [1.0 if spacing is None else spacing]
    if not all(step > 0 for step in steps):
        raise ValueError(f"`spacing` must be above 0 mm, got {spacing}.")


@cache
def _family(family: Family, axis: int, dimensions: int) -> tuple[RightAngleRotation, ...]:
    identity = RightAngleRotation(tuple(range(dimensions)), ())
    if dimensions == 2:
        return (identity, *_turns(0, 1, dimensions))
    about = [_turns(first, second, dimensions) for first, second in ((1, 2), (0, 2), (0, 1))]
    if family == "plane":
        return (identity, *about[axis])
    single = (identity, *about[0], *about[1], *about[2])
    return single if family == "axes" else (*single, *(one for one in _cube() if one not in single))


def _turned(image: Tensor, permutation: Sequence[int], flips: Sequence[int]) -> Tensor:
    """One case, in the order in memory that it has; a view where nothing is flipped."""
    turned = image.permute(0, *(1 + axis for axis in permutation))
    return turned.flip([1 + axis for axis in flips]) if flips else turned


def _turns(first: int, second: int, dimensions: int) -> tuple[RightAngleRotation, ...]:
    """By 90, 180 and 270 degrees, from the first axis towards the second."""
    straight = list(range(dimensions))
    swapped = straight.copy()
    swapped[first], swapped[second] = second, first
    return (
        RightAngleRotation(tuple(swapped), (first,)),
        RightAngleRotation(tuple(straight), (first, second)),
        RightAngleRotation(tuple(swapped), (second,)),
    )


def _cube() -> Iterable[RightAngleRotation]:
    """Permutations with flips whose determinant is 1: an even number of swaps and flips."""
    for permutation in permutations(range(3)):
        swaps = sum(left > right for left, right in combinations(permutation, 2))
        for flipped in range(4):
            if (swaps + flipped) % 2 == 0:
                yield from (RightAngleRotation(permutation, flips) for flips in combinations(range(3), flipped))
