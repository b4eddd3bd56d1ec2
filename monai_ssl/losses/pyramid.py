"""Agreement of predictions at several scales with their mean, less where a scale is far from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

__all__ = ["RectifiedPyramidLoss", "rectified_pyramid"]


def rectified_pyramid(probabilities: Sequence[Tensor]) -> Tensor:
    r"""Uncertainty-rectified difference of each scale's prediction from the mean of all.

    .. math::
        L = \frac{1}{S} \sum_s \left( \frac{\mathrm{mean}_{v,c}((\bar p - p_s)^2\, e^{-D_s})}
        {\mathrm{mean}_v(e^{-D_s})} + \mathrm{mean}_v(D_s) \right), \qquad
        D_s = \mathrm{KL}(\bar p \Vert p_s) = \sum_c \bar p_c \ln \frac{\bar p_c}{p_{s,c}}

    A voxel where a scale diverges from the mean counts less in the first part; the second keeps divergence from being
    a way out. Gradients flow into every scale by all paths: through the mean :math:`\bar p` and through the weights.

    Args:
        probabilities: class probabilities of two scales or more, all brought to the same size.

    Shape:
        - probabilities: each :math:`(B, C, H, W[, D])`
        - output: scalar

    Raises:
        ValueError: when there are fewer than two scales, or their shapes do not agree.

    Reference:
        X. Luo et al.: Efficient Semi-supervised Gross Target Volume of Nasopharyngeal Carcinoma Segmentation via
        Uncertainty Rectified Pyramid Consistency, MICCAI 2021, https://arxiv.org/abs/2012.07042. The divergence's
        direction, mean first, is that of both of the authors' published codes; the paper's own equation is unchecked.
        Their 1e-8 in the denominator is left out, which is never near 0 by then.
    """
    if len(probabilities) < 2:
        raise ValueError(f"`probabilities` must be those of 2 or more scales, got {len(probabilities)}.")
    shapes = [tuple(scale.shape) for scale in probabilities]
    if len(set(shapes)) > 1 or len(shapes[0]) < 3:
        raise ValueError(f"`probabilities` must be (B, C, ...), of one shape at all scales, got {shapes}.")
    tiny = torch.finfo(torch.float32).tiny
    scales = [scale.float() for scale in probabilities]
    mean = torch.stack(scales).mean(0)
    losses = []
    for scale in scales:
        # A softmax can reach 0, whose logarithm has neither a value nor a gradient.
        logs = mean.clamp_min(tiny).log() - scale.clamp_min(tiny).log()
        divergence = (mean * logs).sum(1, keepdim=True)
        trust = torch.exp(-divergence)
        rectified = ((mean - scale) ** 2 * trust).mean() / trust.mean().clamp_min(tiny)
        losses.append(rectified + divergence.mean())
    return torch.stack(losses).mean()


class RectifiedPyramidLoss(_Loss):
    """Module form of :func:`rectified_pyramid`."""

    def forward(self, probabilities: Sequence[Tensor]) -> Tensor:
        """See :func:`rectified_pyramid`."""
        return rectified_pyramid(probabilities)
