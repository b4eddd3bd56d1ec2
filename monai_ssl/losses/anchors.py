"""What a detector's two heads are compared with: targets of all anchors, and the box codes of those with an object."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

__all__ = ["box_regression", "mean_over_positives", "one_hot_targets", "shared_divisor"]


def one_hot_targets(matched: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Hard targets of anchors: 1 for the class of the object that an anchor is matched with, else 0.

    Args:
        matched: the object's row of each anchor, or -1.
        labels: classes of the objects, below 0 in rows without one.
        num_classes: number C of classes.

    Shape:
        - matched: ``(B, N)``
        - labels: ``(B, M)``
        - Output: ``(B, N, C)``, float32
    """
    if labels.shape[1] == 0:
        return torch.zeros(*matched.shape, num_classes, device=matched.device)
    classes = labels.gather(1, matched.clamp_min(0)).where(matched >= 0, num_classes)
    return F.one_hot(classes, num_classes + 1)[..., :-1].float()


def mean_over_positives(losses: Tensor, matched: Tensor) -> Tensor:
    r"""Losses of all anchors of a patch, over the number of anchors that a labelled patch has at an object.

    .. math:: L = \frac{B_l}{B}\; \frac{\sum_{b,a,c} l_{bac}}{\max(1, \sum_b P_b)}

    with :math:`P_b` the number of anchors with an object of labelled patch :math:`b`. Labelled and unlabelled patches
    have the same divisor, so that an anchor weighs the same in both. It counts those of the whole batch, in distributed
    training of all processes' batches: with a count for each patch, one without an object would weigh as much as all of
    its anchors. The mass of soft targets is no count of objects: focal loss lifts small probabilities, and with targets
    of 0.01 to 0.03 thousands of background anchors outweigh the few at an object by far.

    Args:
        losses: of each anchor and class of B patches, such as :func:`~monai_ssl.losses.soft_target_focal_loss`.
        matched: of the batch's :math:`B_l` labelled patches, the object's row of each anchor, or -1.

    Shape:
        - losses: ``(B, N, C)``
        - matched: ``(B_l, N)``
        - output: scalar, float32

    Raises:
        ValueError: when the shapes do not agree, as they do not after a loss that took the mean.

    Reference:
        T.-Y. Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017, https://arxiv.org/abs/1708.02002, section 4,
        divides by the number of anchors with an object. D. Wang et al., FocalMix, CVPR 2020,
        https://arxiv.org/abs/2003.09108, does not say by what; that of the labelled patches is ours.
    """
    if losses.dim() != 3 or losses.shape[1] != matched.shape[1]:
        raise ValueError(
            f"`losses` must be one for each of {matched.shape[1]} anchors and class, (B, N, C), got "
            f'{tuple(losses.shape)}: of a loss module, `reduction` must be "none".'
        )
    return losses.float().sum() / len(losses) * len(matched) / shared_divisor(matched >= 0)


def box_regression(codes: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    r"""Smooth L1 distance of box codes, a weighted mean over anchors.

    .. math:: L = \frac{\sum_a w_a \sum_k \mathrm{smooth}_{L1}(t_{ak} - \hat t_{ak})}{\max(1, \sum_a w_a)}

    Where no anchor has a weight it is 0 and still differentiable, so that a process without an object takes part in the
    exchange of gradients like any other.

    Args:
        codes: of each anchor that counts, for instance those with an object.
        targets: their objects' codes.
        weights: :math:`w`, 0 or more.

    Shape:
        - codes, targets: ``(P, 4 or 6)``
        - weights: ``(P,)``
        - output: scalar, float32
    """
    distance = F.smooth_l1_loss(codes.float(), targets.float(), reduction="none").sum(-1)
    return (weights * distance).sum() / shared_divisor(weights)


def shared_divisor(values: Tensor) -> Tensor:
    """The sum, 1 at least, without gradient; in distributed training that of all processes, over their number.

    Gradients are averaged over the processes afterwards: what each divides by this is divided by the sum of all.
    """
    total = values.detach().sum().float()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
        return total.clamp_min(1.0) / distributed.get_world_size()
    return total.clamp_min(1.0)
