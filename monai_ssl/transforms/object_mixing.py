"""Object-level mixup: every object of a batch is blended with another one that is rescaled to its size.

Drawing is apart from applying, as in the mixing of whole cases. All draws are made on the CPU by torch's generator, so
that a seed draws the same on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["draw_object_partners", "mix_objects"]

NOBODY = -1


def draw_object_partners(boxes: Tensor, prob: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Draw for each object of a batch the one it is mixed with: another one of its class, of its own patch or another.

    All others are equally likely, and each object is drawn for by itself, so that one may be the partner of several.
    An object that is alone of its class in the batch has no partner.

    Args:
        boxes: a row for each object; rows with NaN hold none.
        prob: chance that an object is mixed at all, in [0, 1].
        labels: class of each; by default all are of one.

    Shape:
        - boxes: ``(B, M, 4 or 6)``
        - labels: ``(B, M)``, anything in rows without an object
        - Output: ``(B, M)``, int64: number ``b * M + m`` of the partner, or -1 for none

    Raises:
        ValueError: when ``prob`` is out of range, or ``boxes`` has another shape.
    """
    if not 0.0 <= prob <= 1.0:
        raise ValueError(f"`prob` must be in [0, 1], got {prob}.")
    if boxes.dim() != 3 or boxes.shape[2] not in (4, 6):
        raise ValueError(f"`boxes` must be (B, M, 4 or 6), got {tuple(boxes.shape)}.")
    every = (~boxes.isnan().any(2)).flatten().nonzero().flatten().cpu()
    partners = torch.full((boxes.shape[0] * boxes.shape[1],), NOBODY)
    classes = torch.zeros(len(every)) if labels is None else labels.flatten().cpu()[every]
    for objects in (every[classes == one] for one in classes.unique()):
        count = len(objects)
        if count > 1:
            others = objects[(torch.arange(count) + torch.randint(1, count, (count,))) % count]
            partners[objects] = torch.where(torch.rand(count) < prob, others, NOBODY)
    return partners.view(boxes.shape[:2]).to(boxes.device)


def mix_objects(images: Tensor, boxes: Tensor, partners: Tensor, weights: Tensor) -> Tensor:
    r"""Blend objects of a batch with other objects of it.

    .. math:: x[b] \leftarrow \lambda\, x[b] + (1 - \lambda)\, \mathrm{resize}(x'[b'],\ \text{size of } b)

    for the box :math:`b` of every object and :math:`b'` of its partner. A box stands for the whole voxels that it
    touches within its patch: from its lower edges rounded down to its upper edges rounded up. What is resized is the
    partner's part within its own patch, linearly along each axis and without smoothing first, so that a much larger
    partner is sampled sparsely.

    Everything is read from the images as they came: no object holds more than two. Where boxes of a patch overlap, the
    last row that is mixed prevails. An object stays as it is where its partner is -1, and where one of the two has no
    voxel within its patch. Boxes and labels keep their meaning, as an object weighs half at least in its own place.

    Args:
        images: the batch, in floating point; not changed.
        boxes: lower edges of all axes, then upper edges, in voxels: voxel i covers [i, i + 1]. Rows with NaN hold no
            object.
        partners: number ``b * M + m`` of each object's partner, or -1; see :func:`draw_object_partners`.
        weights: the object's own weight :math:`\lambda`, in [0.5, 1], read where there is a partner; such as
            ``draw_weights(B * M, dominant=True).view(B, M)``.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - boxes: ``(B, M, 4 or 6)``
        - partners, weights: ``(B, M)``
        - Output: as ``images``

    Raises:
        ValueError: when the shapes do not agree, ``images`` is not in floating point, or a partner or weight is out of
            range.

    Reference:
        D. Wang et al.: FocalMix: Semi-Supervised Learning for 3D Medical Image Detection, CVPR 2020,
        https://arxiv.org/abs/2003.09108, section 3.3: after the mixup of whole patches, each object of a training batch
        is mixed, by the same equation, with another one of that batch, drawn at random and rescaled to its size;
        confident predictions are the objects of unlabelled patches; targets are not mixed, as both are objects. Left
        open there, and ours: a weight for each object, of 0.5 at least; a chance of mixing; whole voxels; linear
        resizing; reading from the input; the order where boxes overlap.
    """
    _check_shapes(images, boxes, partners, weights)
    # Boxes are few: they are read on the CPU, where nothing waits for the device row by row.
    numbers, shares = partners.flatten().cpu(), 1.0 - weights.detach().flatten().cpu().double()
    _check_values(numbers, shares)
    regions = _regions(boxes, images.shape[2:])
    out = images.clone()
    for row, (partner, share) in enumerate(zip(numbers.tolist(), shares.tolist(), strict=True)):
        own, theirs = regions[row], regions[partner]
        if partner == NOBODY or own is None or theirs is None:
            continue
        b, other = row // boxes.shape[1], partner // boxes.shape[1]
        x, x_other = images[b][own], images[other][theirs]
        out[b][own] = torch.lerp(x, _resize(x_other, list(x.shape[1:])), share)
    return out


def _regions(boxes: Tensor, shape: torch.Size) -> list[tuple[slice, ...] | None]:
    """Slices of all channels and of the whole voxels that each box touches; None for no box and for no voxel."""
    axes = len(shape)
    limits = torch.tensor([*shape, *shape], dtype=torch.float64)
    edges = boxes.detach().flatten(0, 1).cpu().double()
    edges = edges.where(~edges.isnan().any(1, keepdim=True), 0.0)
    edges = torch.cat([edges[:, :axes].floor(), edges[:, axes:].ceil()], 1).clamp_min(0).minimum(limits)

    def region(row: list[int]) -> tuple[slice, ...] | None:
        sides = list(zip(row[:axes], row[axes:], strict=True))
        if not all(low < high for low, high in sides):
            return None
        return (slice(None), *(slice(low, high) for low, high in sides))

    return [region(row) for row in edges.long().tolist()]


def _resize(part: Tensor, size: list[int]) -> Tensor:
    mode = "bilinear" if len(size) == 2 else "trilinear"
    wide = part[None].to(torch.promote_types(part.dtype, torch.float32))
    return F.interpolate(wide, size=size, mode=mode, align_corners=False)[0].to(part.dtype)


def _check_shapes(images: Tensor, boxes: Tensor, partners: Tensor, weights: Tensor) -> None:
    axes = images.dim() - 2
    if axes not in (2, 3) or not images.is_floating_point():
        expected = "(B, C, H, W[, D]) in floating point"
        raise ValueError(f"`images` must be {expected}, got {tuple(images.shape)} of {images.dtype}.")
    if boxes.dim() != 3 or boxes.shape[::2] != (len(images), 2 * axes):
        expected = f"({len(images)}, M, {2 * axes}) beside images {tuple(images.shape)}"
        raise ValueError(f"`boxes` must be {expected}, got {tuple(boxes.shape)}.")
    for name, given in (("partners", partners), ("weights", weights)):
        if given.shape != boxes.shape[:2]:
            raise ValueError(f"`{name}` must be {tuple(boxes.shape[:2])}, one a box, got {tuple(given.shape)}.")


def _check_values(numbers: Tensor, shares: Tensor) -> None:
    wrong = (numbers < NOBODY) | (numbers >= len(numbers))
    if bool(wrong.any()):
        expected = f"-1 or the number of one of {len(numbers)} boxes"
        raise ValueError(f"`partners` must be {expected}, got {int(numbers[wrong][0])}.")
    unfit = (numbers >= 0) & ~((shares >= 0.0) & (shares <= 0.5))
    if bool(unfit.any()):
        raise ValueError(f"`weights` must be in [0.5, 1], got {1.0 - float(shares[unfit][0]):.3g}.")
