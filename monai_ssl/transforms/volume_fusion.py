"""Volume fusion: boxes of a second scan are blended in, and how strongly is to be told voxel by voxel."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked

__all__ = [
    "RandVolumeFusion",
    "RandVolumeFusionD",
    "RandVolumeFusionDict",
    "RandVolumeFusiond",
    "fuse_volumes",
    "paint_boxes",
]


def paint_boxes(starts: Tensor, stops: Tensor, values: Tensor, shape: Sequence[int]) -> Tensor:
    """Paint boxes of values into volumes of zeros, later boxes over earlier ones.

    Args:
        starts: first voxel of each box.
        stops: the voxel behind its last one; a box with an axis where it is the first one's is empty.
        values: of each box.
        shape: of the volumes.

    Shape:
        - starts, stops: ``(B, N, 3)`` for N boxes a volume (2 for planes)
        - values: ``(B, N)``, int64
        - Output: ``(B, 1, H, W[, D])``, int64
    """
    count, boxes, _ = starts.shape
    last = torch.zeros((count, *shape), dtype=torch.int32, device=starts.device)
    # One bit for each of 24 boxes, set where a place of an axis lies in it. What the axes have in common are the boxes
    # that cover a voxel, the highest bit is the last of them, and a float32 holds 24 bits exactly.
    for first in range(0, boxes, 24):
        chunk = slice(first, first + 24)
        bits = 2 ** torch.arange(min(24, boxes - first), device=starts.device)
        covers = last.new_full((count, *(1,) * len(shape)), 2**24 - 1)
        for axis, length in enumerate(shape):
            place = torch.arange(length, device=starts.device)
            within = (place >= starts[:, chunk, axis, None]) & (place < stops[:, chunk, axis, None])
            sides = [length if other == axis else 1 for other in range(len(shape))]
            covers = covers & (within * bits[:, None]).sum(1, dtype=torch.int32).view(count, *sides)
        highest = torch.frexp(covers.float()).exponent  # 0 where no box is, 1 for the chunk's first one
        last = torch.where(highest > 0, highest + first, last)
    table = torch.cat([torch.zeros_like(values[:, :1]), values], 1)
    return table.gather(1, last.flatten(1).long()).view(count, 1, *shape)


def fuse_volumes(images: Tensor, other: Tensor, classes: Tensor, alphas: Sequence[float]) -> Tensor:
    r"""Blend a second scan into a first one.

    .. math:: x_v = \alpha_{k(v)} y_v + (1 - \alpha_{k(v)}) x_v

    Args:
        images: the first scans :math:`x`; not changed.
        other: the second scans :math:`y`.
        classes: class :math:`k` of each voxel.
        alphas: weight of the second scan, by class; at 0 a voxel is the first scan's, bit by bit.

    Shape:
        - images, other: ``(B, C, H, W[, D])``
        - classes: ``(B, 1, H, W[, D])``, int64
        - Output: ``(B, C, H, W[, D])``

    Raises:
        ValueError: when the scans' shapes do not agree.
    """
    if other.shape != images.shape:
        raise ValueError(f"`other` must have the images' shape {tuple(images.shape)}, got {tuple(other.shape)}.")
    weight = images.new_tensor(alphas)[classes]
    return torch.where(weight == 0, images, torch.lerp(images, other.to(images), weight))


class RandVolumeFusion(RandBatchTransform):
    r"""Blend boxes of a second scan into a scan, each with one of a few weights, which are to be predicted.

    The number of boxes is uniform over ``boxes``, ends included. The sides of each are uniform over the whole numbers
    of voxels within ``sides``, axis by axis; its start over all places at which the box lies in the volume; its class
    over all classes. Later boxes overwrite earlier ones. A voxel in no box has class 0, as one in a box of weight 0.

    The second scan is the next one of the batch, the first for the last one, whether or not that one is transformed
    itself; or the given ``other``, which a single case needs.

    Args:
        boxes: least and largest number of boxes.
        sides: least and largest side of a box, as a part of the volume's side, in (0, 1].
        alphas: weights of the second scan by class, rising from 0 to 1 at most. The network predicts as many
            classes.
        prob: see :class:`RandBatchTransform`.

    Attributes:
        extras: ``alpha_class``, the class of each voxel; ``(1, H, W[, D])``, int64, with the batch's axis in front
            after :meth:`batch`.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range, or there is no second scan.

    Reference:
        G. Wang et al.: MIS-FM: 3D Medical Image Segmentation using Foundation Models Pretrained on a Large-Scale
        Unannotated Dataset, 2023, https://arxiv.org/abs/2306.16925. The weights, numbers and sizes are those of
        nnssl's re-implementation, whose least side is 8 voxels. The authors' code (PyMIC) lets boxes stick out of the
        volume and gives none the weight 0.
    """

    def __init__(
        self,
        boxes: Sequence[int] = (10, 40),
        sides: Sequence[float] = (0.06, 0.625),
        alphas: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        if len(boxes) != 2 or any(number != int(number) for number in boxes) or not 1 <= boxes[0] <= boxes[1]:
            raise ValueError(f"`boxes` must be two whole numbers from 1, the least first, got {boxes}.")
        if len(sides) != 2 or not 0.0 < sides[0] <= sides[1] <= 1.0:
            raise ValueError(f"`sides` must be two numbers in (0, 1], the least first, got {sides}.")
        rising = all(low < high for low, high in pairwise(alphas))
        if len(alphas) < 2 or alphas[0] != 0 or alphas[-1] > 1 or not rising:
            raise ValueError(f"`alphas` must be two numbers at least that rise from 0 to 1 at most, got {alphas}.")
        self.boxes = (int(boxes[0]), int(boxes[1]))
        self.sides = (float(sides[0]), float(sides[1]))
        self.alphas = tuple(float(alpha) for alpha in alphas)
        self._other: Tensor | None = None

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the boxes: as many as there may be, of which those behind the drawn number are empty."""
        space, most = np.array(shape[1:]), self.boxes[1]
        number = self.R.randint(self.boxes[0], most + 1)
        least = np.array([math.ceil(round(self.sides[0] * length, 6)) for length in space])
        largest = np.array([math.floor(round(self.sides[1] * length, 6)) for length in space])
        lengths = self.R.randint(least, np.maximum(least, largest) + 1, size=(most, len(space)))
        starts = self.R.randint(0, space - lengths + 1)
        lengths[number:] = 0
        return {
            "starts": starts,
            "stops": starts + lengths,
            "classes": self.R.randint(len(self.alphas), size=most),
        }

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Blend the second scans in.

        Raises:
            ValueError: when there is no second scan.
        """
        other = self._other
        if other is None:
            if len(images) < 2:
                raise ValueError(
                    "Volume fusion needs a second scan: a batch of two at least, `other`, or the dictionary "
                    "transform's `other_key`."
                )
            other = images.roll(-1, 0)
        starts, stops, values = (stacked(params, name, images.device) for name in ("starts", "stops", "classes"))
        classes = paint_boxes(starts, stops, values, images.shape[2:])
        return fuse_volumes(images, other, classes, self.alphas), {"alpha_class": classes}

    def skipped(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Nothing is blended in: class 0 everywhere."""
        return images, {"alpha_class": torch.zeros_like(images[:, :1], dtype=torch.int64)}

    def __call__(
        self, img: Tensor | np.ndarray, randomize: bool = True, other: Tensor | np.ndarray | None = None
    ) -> Tensor:
        """Transform one case.

        Args:
            img: ``(C, H, W[, D])``.
            randomize: draw anew; else what was drawn last is applied again.
            other: the second scan, of the same shape.
        """
        with self.blending(None if other is None else torch.as_tensor(other)[None]):
            return super().__call__(img, randomize)

    def batch(self, images: Tensor, randomize: bool = True, other: Tensor | None = None) -> Tensor:
        """Transform a batch.

        Args:
            images: ``(B, C, H, W[, D])``.
            randomize: draw anew; else what was drawn last is applied again.
            other: a second scan for each, of the same shape; those of the batch by default.
        """
        with self.blending(other):
            return super().batch(images, randomize)

    @contextmanager
    def blending(self, other: Tensor | None) -> Iterator[None]:
        """Within the block these are the second scans, ``(B, C, H, W[, D])``; None changes nothing."""
        before = self._other
        if other is not None:
            self._other = other.as_subclass(Tensor)
        try:
            yield
        finally:
            self._other = before

    def _transform(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if not any(self._acts):
            return self.skipped(images)
        # A skipped case is a second scan all the same, so that the whole batch goes in, with empty boxes for it.
        empty = [{**one, "stops": one["starts"]} for one in self._params]
        pairs = zip(self._params, empty, self._acts, strict=True)
        return self.apply(images, [one if act else none for one, none, act in pairs])


class RandVolumeFusiond(RandBatchTransformd):
    """Dictionary twin of :class:`RandVolumeFusion`.

    Args:
        keys: images that are blended, the same boxes in all.
        other_key: entry that holds the second scan, which stays as it is; by default that of the batch, so that a
            single case needs it.
        alpha_class_key: entry for the class of each voxel; None leaves it out.
        boxes: see :class:`RandVolumeFusion`.
        sides: see :class:`RandVolumeFusion`.
        alphas: see :class:`RandVolumeFusion`.
        prob: see :class:`RandVolumeFusion`.
        allow_missing_keys: leave out keys that are not there.
    """

    transform: RandVolumeFusion

    def __init__(
        self,
        keys: KeysCollection,
        other_key: Hashable | None = None,
        alpha_class_key: Hashable | None = "alpha_class",
        boxes: Sequence[int] = (10, 40),
        sides: Sequence[float] = (0.06, 0.625),
        alphas: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        extra_keys = {} if alpha_class_key is None else {"alpha_class": alpha_class_key}
        super().__init__(keys, RandVolumeFusion(boxes, sides, alphas, prob), extra_keys, allow_missing_keys)
        self.other_key = other_key

    def _call(self, data: Mapping[Hashable, Any], batched: bool) -> dict[Hashable, Any]:
        other = None if self.other_key is None else torch.as_tensor(data[self.other_key])
        with self.transform.blending(other if other is None or batched else other[None]):
            return super()._call(data, batched)


RandVolumeFusionD = RandVolumeFusionDict = RandVolumeFusiond
