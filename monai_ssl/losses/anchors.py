"""What a detector's two heads are compared with: targets of all anchors, and the box codes of those with an object."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

__all__ = ["box_regression", "mean_over_mass", "one_hot_targets", "shared_sum"]


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


def mean_over_mass(losses: Tensor, targets: Tensor) -> Tensor:
    r"""Sum of the losses of all anchors over the mass of their targets.

    .. math:: L = \frac{\sum_{a,c} l_{ac}}{\max(1, \sum_{a,c} y_{ac})}

    The mass is that of the whole batch, in distributed training of all processes' batches: with a mass for each patch,
    one without an object would weigh as much as all of its anchors.

    Args:
        losses: of each anchor and class, such as :func:`~monai_ssl.losses.soft_target_focal_loss`.
        targets: probabilities :math:`y` in [0, 1]; no gradient flows into them.

    Shape:
        - losses, targets: ``(B, N, C)``
        - output: scalar, float32

    Raises:
        ValueError: when the shapes differ, as they do after a loss that took the mean.

    Reference:
        T.-Y. Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017, https://arxiv.org/abs/1708.02002, section 4,
        divides by the number of anchors with an object; the mass of soft targets is ours, as D. Wang et al., FocalMix,
        CVPR 2020, https://arxiv.org/abs/2003.09108, does not say by what.
    """
    if losses.shape != targets.shape:
        raise ValueError(
            f"`losses` must be one for each target, {tuple(targets.shape)}, got {tuple(losses.shape)}: "
            'of a loss module, `reduction` must be "none".'
        )
    return losses.float().sum() / shared_sum(targets).clamp_min(1.0)


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
    return (weights * distance).sum() / shared_sum(weights).clamp_min(1.0)


def shared_sum(values: Tensor) -> Tensor:
    """Sum without gradient; in distributed training the mean of it over the processes.

    Gradients are averaged over the processes afterwards: what each divides by this mean is divided by the sum of all.
    """
    total = values.detach().sum().float()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
        total = total / distributed.get_world_size()
    return total
