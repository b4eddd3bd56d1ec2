"""Faults of one case: of its image, of its label, and of the two together. Nothing here opens a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from monai_ssl.data.check_facts import Volume

__all__ = ["affine_faults", "geometry_faults", "image_faults", "label_faults", "spacing_of"]

Told = Iterator[tuple[str, str]]

_SHEAR = 0.01  # cosine between two axes, half a degree; rounding in a header is below 0.001
_SPACING = 1e-3  # relative
_DIRECTION = 2e-3  # of a direction cosine
_SHIFT = 0.1  # of a voxel
_SHOWN = 5


def image_faults(volume: Volume, channels: int | None = None, patch_size: Sequence[int] | None = None) -> Told:
    """Yield the faults of an image as (kind, text).

    Args:
        volume: its voxels.
        channels: that it must have; any number by default.
        patch_size: in voxels; a volume that is smaller along an axis is told.
    """
    yield from _voxel_faults(volume)
    spatial, found = volume.shape[:3], volume.shape[3] if len(volume.shape) == 4 else 1
    if len(volume.shape) < 3 or min(spatial) == 1:
        yield "dimensions", f"is 2D ({_by(volume.shape)} voxels), and volumes are 3D"
    elif len(volume.shape) > 4 or (found > 1 and channels == 1):
        yield "dimensions", f"is {len(volume.shape)}D ({_by(volume.shape)}) instead of 3D with one channel"
    elif channels is not None and found != channels:
        yield "channels", f"has {found} channels instead of {channels}"
    elif patch_size is not None and any(n < size for n, size in zip(spatial, patch_size, strict=True)):
        yield "small", f"has {_by(spatial)} voxels, and the patch {_by(patch_size)}"
    if not volume.non_finite and volume.minimum == volume.maximum:
        yield "constant", f"is {volume.minimum:g} everywhere"


def label_faults(volume: Volume, classes: Mapping[int, str]) -> Told:
    """Yield the faults of a label as (kind, text).

    Args:
        volume: its voxels.
        classes: names by value; if empty, any whole number from 0 is one.
    """
    yield from _voxel_faults(volume)
    if len(volume.shape) != 3 or min(volume.shape) == 1:
        yield "dimensions", f"is {_by(volume.shape)} voxels, and a label is 3D without channels"
    fractions = {value: count for value, count in volume.values.items() if value % 1}
    others = {
        value: count
        for value, count in volume.values.items()
        if value % 1 == 0 and (value < 0 or (classes and value not in classes))
    }
    if fractions:
        yield "label_fractions", f"has values that are not whole numbers: {_values(fractions)}"
    if others:
        rule = f"and the list declares 0 to {max(classes)}" if classes else "and classes are numbers from 0"
        yield "label_values", f"has {_values(others)}, {rule}"
    if set(volume.values) == {0.0}:
        yield "empty_label", "is 0 everywhere"


def geometry_faults(image: Volume, label: Volume) -> Told:
    """Yield how the grid of a label differs from its image's, as (kind, text).

    A shift is one of both the first voxel and the centre: a volume that is cropped, flipped in place or sampled at
    another spacing keeps one of them.

    Args:
        image: whose affine is good, see :func:`affine_faults`.
        label: likewise.
    """
    if len(image.shape) < 3 or len(label.shape) < 3:
        return
    if image.shape[:3] != label.shape[:3]:
        yield "shape", f"has {_by(label.shape[:3])} voxels, its image {_by(image.shape[:3])}"
    spacing, other = spacing_of(image), spacing_of(label)
    if (abs(spacing / other - 1) > _SPACING).any():
        yield "spacing", f"has a spacing of {_mm(other)} mm, its image {_mm(spacing)}"
    ours, theirs = np.asarray(image.affine), np.asarray(label.affine)
    turned = abs(ours[:3, :3] / spacing - theirs[:3, :3] / other).max()
    if turned > _DIRECTION:
        yield (
            "orientation",
            f"has axes along {_codes(theirs)}, its image {_codes(ours)} (cosines apart by {turned:.2g})",
        )
    first = theirs[:3, 3] - ours[:3, 3]
    middle = theirs @ [*(np.array(label.shape[:3]) - 1) / 2, 1] - ours @ [*(np.array(image.shape[:3]) - 1) / 2, 1]
    shifts = [abs(np.linalg.solve(ours[:3, :3], shift)).max() for shift in (first, middle[:3])]
    if min(shifts) > _SHIFT:
        yield "shift", f"lies {_mm(first)} mm apart from its image"


def affine_faults(volume: Volume) -> Told:
    """Yield what is wrong with the place of a volume in the world, as (kind, text).

    Args:
        volume: an image or a label.
    """
    affine = np.asarray(volume.affine)
    if not np.isfinite(affine).all():
        yield "affine", "has an affine with values that are not finite"
        return
    spacing = spacing_of(volume)
    if not (spacing > 0).all() or not np.isfinite(spacing).all():
        yield "affine", f"has an affine with a spacing of {_mm(spacing)} mm"
        return
    axes = affine[:3, :3] / spacing
    if abs(np.linalg.det(axes)) < 1e-3:
        yield "affine", "has an affine that cannot be inverted: two of its axes have one direction"
        return
    cosine = abs(axes.T @ axes - np.eye(3)).max()
    if cosine > _SHEAR:
        yield "sheared", f"has axes that are not perpendicular (by {np.degrees(np.arcsin(min(cosine, 1))):.1f} degrees)"


def spacing_of(volume: Volume) -> np.ndarray:
    """Return the three spacings in mm, in the order of the voxel axes."""
    with np.errstate(over="ignore"):
        return np.linalg.norm(np.asarray(volume.affine)[:3, :3], axis=0)


def _voxel_faults(volume: Volume) -> Told:
    if volume.non_finite:
        yield "non_finite", f"has {volume.non_finite} voxels that are NaN or infinite"


def _values(found: Mapping[float, int]) -> str:
    shown = ", ".join(f"{value:g} ({count} voxels)" for value, count in list(found.items())[:_SHOWN])
    return shown + (", ..." if len(found) > _SHOWN else "")


def _codes(affine: np.ndarray) -> str:
    pairs = ("LR", "PA", "IS")
    return "".join(pairs[row][int(affine[row, axis] > 0)] for axis, row in enumerate(abs(affine[:3, :3]).argmax(0)))


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _mm(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)
