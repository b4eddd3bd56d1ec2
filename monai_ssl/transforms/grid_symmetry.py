"""Symmetries of a patch and its anchors: flips and exchanges of axes that map a detector's anchors onto anchors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import torch
from torch import Tensor

__all__ = ["GridSymmetry", "anchor_order", "draw_symmetries", "grid_symmetries", "undo_scores"]

Shapes = Sequence[Sequence[float]]


@dataclass(frozen=True)
class GridSymmetry:
    """An exchange of the spatial axes, after which some of them are flipped; reflections are among them.

    Images are turned as batches, all cases alike. Outputs may be views of the input, which is never changed.

    Args:
        permutation: input axis that becomes each output axis, counted among the spatial ones.
        flips: output axes that are flipped, in order.
    """

    permutation: tuple[int, ...]
    flips: tuple[int, ...] = ()

    def inverse(self) -> GridSymmetry:
        """The symmetry that undoes this one."""
        back = sorted(range(len(self.permutation)), key=self.permutation.__getitem__)
        return GridSymmetry(tuple(back), tuple(sorted(self.permutation[axis] for axis in self.flips)))

    def then(self, other: GridSymmetry) -> GridSymmetry:
        """The symmetry that is this one followed by another."""
        flips = [
            axis for axis, source in enumerate(other.permutation) if (source in self.flips) != (axis in other.flips)
        ]
        return GridSymmetry(tuple(self.permutation[source] for source in other.permutation), tuple(flips))

    def turn_images(self, images: Tensor) -> Tensor:
        """Turn images, or whatever else lies on a grid.

        Shape:
            - Input: ``(B, C, H, W[, D])``
            - Output: the same with the spatial axes exchanged
        """
        turned = images.permute(0, 1, *(2 + axis for axis in self.permutation))
        return turned.flip([2 + axis for axis in self.flips]) if self.flips else turned

    def undo_images(self, images: Tensor) -> Tensor:
        """Turn back what :meth:`turn_images` has turned, or a network's output for it, whatever its resolution."""
        return self.inverse().turn_images(images)

    def turn_boxes(self, boxes: Tensor, patch_size: Sequence[int]) -> Tensor:
        r"""Turn boxes with their patch.

        Along a flipped axis of :math:`L` voxels :math:`[a, b]` becomes :math:`[L - b, L - a]`.

        Args:
            boxes: lower corners, then upper ones, in voxel edge coordinates: the patch is ``[0, L]``. Rows of NaN stay.
            patch_size: voxels along each axis, before the turn.

        Shape:
            - boxes: ``(..., 4)`` or ``(..., 6)``
            - Output: the same
        """
        lower, upper = (corner[..., list(self.permutation)] for corner in boxes.chunk(2, dim=-1))
        flipped = torch.tensor([axis in self.flips for axis in range(len(self.permutation))], device=boxes.device)
        sides = boxes.new_tensor([patch_size[axis] for axis in self.permutation])
        return torch.cat(
            [torch.where(flipped, sides - upper, lower), torch.where(flipped, sides - lower, upper)], dim=-1
        )

    def undo_boxes(self, boxes: Tensor, patch_size: Sequence[int]) -> Tensor:
        """Turn back boxes that :meth:`turn_boxes` has turned, or that were found in the turned patch.

        Args:
            boxes: in the turned patch.
            patch_size: of the patch as it was before the turn.

        Shape:
            - boxes: ``(..., 4)`` or ``(..., 6)``
            - Output: the same
        """
        return self.inverse().turn_boxes(boxes, [patch_size[axis] for axis in self.permutation])


def grid_symmetries(
    patch_size: Sequence[int],
    spacing: float | Sequence[float] | None = None,
    anchor_shapes: Shapes | None = None,
    strides: Sequence[Sequence[int]] | None = None,
) -> tuple[GridSymmetry, ...]:
    """All symmetries that map a patch onto itself and its anchors onto anchors, the identity first.

    A cube with cubic anchors has 48, a square 8. Flips are always left, 8 in 3D and 4 in 2D; axes are exchanged only
    where the patch's sides, the spacing and the strides are equal, and the anchors' shapes, with their axes exchanged,
    are the same shapes. A flip maps anchors onto anchors because their centres are at (index + 0.5) * stride and the
    strides divide the patch.

    Args:
        patch_size: voxels along each axis, ``(H, W[, D])``.
        spacing: voxel size in mm, one number or one an axis; isotropic by default. Equal to a thousandth is equal.
        anchor_shapes: voxels along each axis, of the anchors at each place; of all levels, or of one where the other
            levels' are its multiples. Default cubes.
        strides: of each level along each axis, in voxels; the same along all axes by default.

    Raises:
        ValueError: when an argument is out of range, or has not one number for each axis.
    """
    axes = len(patch_size)
    if axes not in (2, 3):
        raise ValueError(f"`patch_size` must have 2 or 3 axes, got {tuple(patch_size)}.")
    steps = tuple(spacing) if isinstance(spacing, Sequence) else (1.0 if spacing is None else spacing,) * axes
    _check_rows("spacing", [steps], axes)
    _check_rows("anchor_shapes", anchor_shapes or [], axes)
    _check_rows("strides", strides or [], axes)
    legal = []
    for permutation in permutations(range(axes)):
        flips = [chosen for count in range(axes + 1) for chosen in combinations(range(axes), count)]
        candidates = [GridSymmetry(permutation, chosen) for chosen in flips]
        if (
            all(patch_size[old] == patch_size[new] for new, old in enumerate(permutation))
            and all(math.isclose(steps[old], steps[new], rel_tol=1e-3) for new, old in enumerate(permutation))
            and all(row[old] == row[new] for row in strides or [] for new, old in enumerate(permutation))
            and _order(permutation, anchor_shapes or []) is not None
        ):
            legal += candidates
    return tuple(legal)


def anchor_order(symmetry: GridSymmetry, shapes: Shapes) -> tuple[int, ...]:
    """Where each anchor of a place is found among the anchors of the same place in the turned patch.

    Args:
        symmetry: by which the patch is turned.
        shapes: voxels along each axis, of the anchors at each place, in the order of the head's channels. One shape
            twice is two anchors.

    Returns:
        For each shape the index of the one that it becomes.

    Raises:
        ValueError: when the turned shapes are not the same shapes.
    """
    _check_rows("shapes", shapes, len(symmetry.permutation))
    order = _order(symmetry.permutation, shapes)
    if order is None:
        raise ValueError(
            f"`shapes` must hold each shape with its axes exchanged by {symmetry.permutation}, too, got "
            f"{[list(shape) for shape in shapes]}. Take symmetries that grid_symmetries() names for them."
        )
    return order


def undo_scores(symmetry: GridSymmetry, maps: Sequence[Tensor], shapes: Shapes) -> list[Tensor]:
    """Turn back what a detector's head says of each anchor of a turned patch.

    Grids are turned back and the anchors at each place put in order, so that every value lands on the anchor whose box,
    turned, is the box that it was given for.

    Args:
        symmetry: by which the patch was turned.
        maps: one a level; the channel of anchor ``a`` and class ``c`` is ``a * C + c``.
        shapes: see :func:`anchor_order`; the same, but for a factor, at all levels.

    Shape:
        - maps: each ``(B, A * C, h, w[, d])``
        - Output: the same

    Raises:
        ValueError: when the number of channels is no multiple of the number of shapes; see :func:`anchor_order`.
    """
    order = anchor_order(symmetry, shapes)
    undone = []
    for scores in maps:
        if scores.shape[1] % len(order):
            raise ValueError(
                f"`maps` must have a multiple of {len(order)} channels, one anchor each, got {scores.shape[1]}."
            )
        channels = torch.arange(scores.shape[1], device=scores.device).view(len(order), -1)[list(order)].flatten()
        undone.append(symmetry.undo_images(scores)[:, channels])
    return undone


def draw_symmetries(legal: Sequence[GridSymmetry], count: int) -> list[GridSymmetry]:
    """Draw different symmetries, each set of them equally likely, in random order.

    The identity is one of them like any other: it is drawn as often, and a view of the patch as it is may be missing.
    The draw is made on the CPU by torch's generator.

    Args:
        legal: those to draw from, see :func:`grid_symmetries`.
        count: number K of symmetries, from 1 to as many as there are.

    Raises:
        ValueError: when ``count`` is out of range.
    """
    if not 1 <= count <= len(legal):
        raise ValueError(f"`count` must be from 1 to the {len(legal)} symmetries that there are, got {count}.")
    return [legal[index] for index in torch.randperm(len(legal))[:count].tolist()]


def _order(permutation: tuple[int, ...], shapes: Shapes) -> tuple[int, ...] | None:
    free = list(range(len(shapes)))
    order = []
    for shape in shapes:
        turned = [shape[axis] for axis in permutation]
        found = next((index for index in free if _same(shapes[index], turned)), None)
        if found is None:
            return None
        free.remove(found)
        order.append(found)
    return tuple(order)


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(math.isclose(left, right, rel_tol=1e-6) for left, right in zip(one, other, strict=True))


def _check_rows(name: str, rows: Sequence[Sequence[float]], axes: int) -> None:
    for row in rows:
        if len(row) != axes or not all(number > 0 for number in row):
            raise ValueError(f"`{name}` must be {axes} numbers above 0, one an axis, got {tuple(row)}.")
