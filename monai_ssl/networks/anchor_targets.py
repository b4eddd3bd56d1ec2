"""Soft targets of anchors: what a detector says of several turned views of a patch, brought back and averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.data.box_utils import clip_boxes_to_image, non_max_suppression
from torch import Tensor

from monai_ssl.losses.confidence import sharpen
from monai_ssl.networks.detector import Detector
from monai_ssl.networks.fit import evaluation
from monai_ssl.transforms.grid_symmetry import GridSymmetry, undo_scores

__all__ = ["confident_boxes", "soft_anchor_targets"]


@torch.no_grad()
def soft_anchor_targets(
    detector: Detector, images: Tensor, symmetries: Sequence[GridSymmetry], temperature: float = 0.7
) -> tuple[Tensor, Tensor]:
    r"""Class probabilities and boxes of all anchors, means over views, the probabilities sharpened.

    .. math:: \bar y_a = \frac{1}{K} \sum_k p_{\pi_k(a)}(T_k u), \qquad
        y_a = \frac{\bar y_a^{1/T}}{\bar y_a^{1/T} + (1 - \bar y_a)^{1/T}}

    where the symmetry :math:`T_k` takes anchor :math:`a` to anchor :math:`\pi_k(a)`. All views go through the network
    together, in evaluation mode and without gradient. With a temperature below 1 what is below 0.5 goes down.

    Args:
        detector: whose anchors the symmetries map onto anchors.
        images: patches :math:`u`.
        symmetries: :math:`T_1` to :math:`T_K`, of :func:`~monai_ssl.transforms.grid_symmetry.grid_symmetries`.
        temperature: :math:`T`, above 0; at 1 the mean stays as it is.

    Shape:
        - images: ``(B, C_in, H, W[, D])``
        - Output: probabilities ``(B, N, C)`` and boxes ``(B, N, 4 or 6)``, in voxel edge coordinates, unclipped

    Raises:
        ValueError: when there is no symmetry, or ``temperature`` is out of range.

    Reference:
        D. Wang et al.: FocalMix, CVPR 2020, https://arxiv.org/abs/2003.09108, section 3.2, equations 3 and 4.
    """
    if not symmetries:
        raise ValueError("`symmetries` must be one at least, got none.")
    size = images.shape[2:]
    with evaluation(detector):
        maps = detector(torch.cat([symmetry.turn_images(images) for symmetry in symmetries]))
    logits, codes = detector.flatten(maps[detector.cls_key]), detector.flatten(maps[detector.box_reg_key])
    p = torch.sigmoid(logits).unflatten(0, (len(symmetries), len(images)))
    found = detector.decode(codes, detector.anchors(size, images.device)).unflatten(0, p.shape[:2])
    mean, boxes = torch.zeros_like(p[0]), torch.zeros_like(found[0])
    numbers = _numbered(detector, size, images.device)
    for symmetry, its_p, its_boxes in zip(symmetries, p, found, strict=True):
        turned = detector.flatten(undo_scores(symmetry, numbers, detector.anchor_shapes))[0, :, 0]
        mean += its_p[:, turned] / len(symmetries)
        boxes += symmetry.undo_boxes(its_boxes[:, turned], size) / len(symmetries)
    return sharpen(torch.stack([1.0 - mean, mean], dim=1), temperature)[:, 1], boxes


def confident_boxes(
    probabilities: Tensor, boxes: Tensor, patch_size: Sequence[int], threshold: float, count: int, overlap: float = 0.2
) -> tuple[Tensor, Tensor]:
    """The boxes whose anchors a detector is sure of, the best of those that overlap.

    Args:
        probabilities: of each anchor and class.
        boxes: of each anchor.
        patch_size: voxels along each axis; boxes are clipped to the patch.
        threshold: probability above which an anchor is sure.
        count: number M of boxes at most, the surest first.
        overlap: intersection over union from which on the less sure one is dropped.

    Shape:
        - probabilities: ``(B, N, C)``
        - boxes: ``(B, N, 4 or 6)``
        - Output: boxes ``(B, M, 4 or 6)``, rows of NaN behind, and classes ``(B, M)``, int64, -1 there
    """
    surest, classes = probabilities.max(dim=2)
    chosen = boxes.new_full((len(boxes), count, boxes.shape[2]), torch.nan)
    labels = torch.full(chosen.shape[:2], -1, dtype=torch.int64, device=boxes.device)
    for case, sure in enumerate(surest > threshold):
        index = sure.nonzero().flatten()
        clipped, whole = clip_boxes_to_image(boxes[case, index], list(patch_size))
        index = index[whole]
        kept = non_max_suppression(clipped, surest[case, index], nms_thresh=overlap, max_proposals=count)[:count]
        chosen[case, : len(kept)] = torch.as_tensor(clipped)[kept].to(chosen)
        labels[case, : len(kept)] = classes[case, index[kept]]
    return chosen, labels


def _numbered(detector: Detector, size: Sequence[int], device: torch.device) -> list[Tensor]:
    """Maps that hold at each anchor its number in the order of ``flatten``."""
    anchors, start, maps = detector.num_anchors, 0, []
    for steps in detector.strides:
        grid = [side // step for side, step in zip(size, steps, strict=True)]
        stop = start + anchors * int(torch.tensor(grid).prod())
        maps.append(torch.arange(start, stop, device=device).view(*grid, anchors).movedim(-1, 0)[None])
        start = stop
    return maps
