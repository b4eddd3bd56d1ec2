"""Telling which transform an image went through."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from monai_ssl.objectives.base import Task
from monai_ssl.utils.predictions import predicted_classes

__all__ = ["TransformClass"]


class TransformClass(Task):
    r"""Classify what was done to an image: its rotation, the order of its tiles, the place of a tile, a voxel's blend.

    .. code-block:: text

        L_<name> = - log softmax(h(f(image)))[class]      mean over cases, or over voxels

    The share of right answers is logged as ``<name>_accuracy`` beside ``<name>_chance``, what guessing reaches: one in
    K, and of voxels, whose classes are not equally common, the share of the batch's commonest. Where the accuracy stays
    there nothing is learned, and where it is 1 within a few steps the task has a shortcut.

    Args:
        name: of the term, and of the entry with the class unless ``target`` names another.
        image: entry with the transformed images; tiles ``(B, V, C, H, W, D)`` go through the network one by one.
        target: entry with the class, int64, ``(B,)`` or ``(B, 1, H, W, D)``.
        head: whose logits are ``(B, K)`` or ``(B, K, H, W, D)``; by default ``name``.
        loss: of logits and class, such as MONAI's ``DiceCELoss`` for classes of voxels; by default the cross-entropy.

    Reference:
        A. Taleb et al.: 3D Self-Supervised Methods for Medical Imaging, NeurIPS 2020,
        https://arxiv.org/abs/2006.03829.
    """

    def __init__(
        self,
        name: str = "rotation",
        image: str = "image",
        target: str | None = None,
        head: str | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(image, (head or name,))
        self.name = name
        self.target = target or name
        self.loss = loss or _cross_entropy

    def forward(self, outputs: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The term."""
        logits, target = outputs[self.heads[0]].float(), self.entry(entries, self.target)
        classes = target[:, 0] if target.ndim == logits.ndim else target  # of voxels: without the axis for the channel
        accuracy = (predicted_classes(logits.detach()) == classes).float().mean()
        self.figures = {f"{self.name}_accuracy": accuracy, f"{self.name}_chance": _chance(classes, logits.shape[1])}
        return {self.name: self.loss(logits, target)}


def _chance(classes: Tensor, count: int) -> Tensor:
    if classes.ndim == 1:
        return torch.tensor(1.0 / count)
    return classes.flatten().bincount(minlength=count).amax() / classes.numel()


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, target[:, 0] if target.ndim == logits.ndim else target)
