"""Triplets of features: an anchor is nearer to its positive than to its negative, by a margin."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

__all__ = ["FeatureTripletLoss", "feature_triplet"]


def feature_triplet(
    input: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    squared: bool = True,
    normalize: bool = False,
) -> Tensor:
    r"""Mean hinge of how much nearer the positive is than the negative.

    .. math:: L = \frac{1}{B} \sum_i \max(0, D(a_i, p_i) - D(a_i, n_i) + m), \quad
        D(a, b) = \frac{1}{F} \|a - b\|^2

    A triplet that is apart by the margin already is easy: it adds neither loss nor gradient. At the start, when all
    distances are about the same, the loss is about the margin.

    Args:
        input: features :math:`a` of the anchors, such as augmented scans.
        positive: features :math:`p` of what is alike, such as the scans themselves.
        negative: features :math:`n` of other scans. Gradient flows into all three.
        margin: :math:`m`, above 0, in units of the distance.
        squared: else the distance is the root of :math:`D`.
        normalize: scale features to a mean square of 1 first. :math:`D` is then the squared distance on the unit
            sphere, 2 - 2 cos, between 0 and 4 whatever the number of features. Without it features can grow until
            the margin is met.

    Shape:
        - input, positive, negative: :math:`(B, F)`
        - output: scalar

    Raises:
        ValueError: when the shapes do not agree, or the margin is not above 0.

    Reference:
        A. Taleb et al.: 3D Self-Supervised Methods for Medical Imaging, NeurIPS 2020,
        https://arxiv.org/abs/2006.03829 (3D exemplar networks). The margin of 1 and the mean of squares over features
        are those of the authors' code, where a sigmoid keeps features in [0, 1] and nothing normalises them; the
        distance in the text of the paper is unchecked. The loss is of F. Schroff et al.: FaceNet, CVPR 2015,
        https://arxiv.org/abs/1503.03832, section 3.1: squared distances on the unit sphere, margin 0.2.
    """
    if not margin > 0:
        raise ValueError(f"`margin` must be above 0, got {margin}.")
    if input.ndim != 2:
        raise ValueError(f"`input` must be (B, F), got {tuple(input.shape)}.")
    for name, features in (("positive", positive), ("negative", negative)):
        if features.shape != input.shape:
            raise ValueError(f"`{name}` must have the input's shape {tuple(input.shape)}, got {tuple(features.shape)}.")
    near = _distance(input, positive, squared, normalize)
    far = _distance(input, negative, squared, normalize)
    return torch.relu(near - far + margin).mean()


class FeatureTripletLoss(_Loss):
    """Module form of :func:`feature_triplet`.

    Args:
        margin: see :func:`feature_triplet`.
        squared: see :func:`feature_triplet`.
        normalize: see :func:`feature_triplet`.
    """

    def __init__(self, margin: float = 1.0, squared: bool = True, normalize: bool = False) -> None:
        super().__init__()
        if not margin > 0:
            raise ValueError(f"`margin` must be above 0, got {margin}.")
        self.margin, self.squared, self.normalize = margin, squared, normalize

    def forward(self, input: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """See :func:`feature_triplet`."""
        return feature_triplet(input, positive, negative, self.margin, self.squared, self.normalize)


def _distance(left: Tensor, right: Tensor, squared: bool, normalize: bool) -> Tensor:
    left, right = left.float(), right.float()
    if normalize:
        left, right = (part / (part**2).mean(1, keepdim=True).clamp_min(1e-12).sqrt() for part in (left, right))
    distance = ((left - right) ** 2).mean(1)
    return distance if squared else distance.clamp_min(1e-12).sqrt()  # the root's slope at 0 is infinite
