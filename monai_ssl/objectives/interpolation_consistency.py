"""Interpolation consistency: the prediction of a mix of two cases is the mix of their predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from monai_ssl.losses.consistency import softmax_consistency
from monai_ssl.networks.teacher import make_teacher
from monai_ssl.objectives.base import Batch, TeacherObjective
from monai_ssl.transforms.mixing import draw_partners, draw_weights, mix_up

__all__ = ["InterpolationConsistency"]


class InterpolationConsistency(TeacherObjective):
    r"""Interpolation consistency training (ICT).

    .. code-block:: text

        x, y labelled; u unlabelled, u' its partner in the batch; f student; g teacher, the moving average of f
        L_supervised  = loss(f(x), y)
        q             = softmax(g(u))                                      no gradient
        l             ~ Beta(alpha, alpha), one a case
        L_consistency = mean (softmax(f(l u + (1 - l) u')) - (l q + (1 - l) q'))^2
        after the step: g <- a g + (1 - a) f,  a = min(1 - 1/(t + 1), decay)

    Passes: student 1 of B_l + B_u, teacher 1 of B_u. With instance norm the supervised term does not depend on the
    unlabelled images; with batch norm both share statistics. The teacher is in evaluation mode, its running statistics
    are averaged too. A single unlabelled case has no partner: what is left is a mean teacher without noise, so take an
    unlabelled batch of 2 or more.

    Logged are, of the teacher's unlabelled voxels, ``confidence``, the mean of the largest probability, and
    ``pseudo_foreground``, the share that is predicted as a class other than 0.

    Args:
        network: the student; maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        alpha: of the Beta distribution, above 0. Below 1 one of the two cases prevails, 1 is uniform.
        decay: the largest decay of the moving average, in [0, 1).
        weights: see :class:`~monai_ssl.objectives.Objective`; the terms are ``supervised`` and ``consistency``.

    Raises:
        ValueError: when ``alpha`` or ``decay`` is out of range.

    Reference:
        V. Verma et al.: Interpolation Consistency Training for Semi-Supervised Learning, IJCAI 2019,
        https://arxiv.org/abs/1903.03825, algorithm 1, which draws one weight a batch.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        alpha: float = 0.2,
        decay: float = 0.99,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, decay, weights=weights)
        if not alpha > 0:
            raise ValueError(f"`alpha` must be above 0, got {alpha}.")
        self.loss = loss
        self.alpha = alpha
        self.teacher = make_teacher(network)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and, where there are unlabelled images, ``consistency``."""
        labeled = self.stream(batch, "labeled")
        self.figures = {}
        if "unlabeled" not in batch:
            return {"supervised": self.loss(self.network(labeled["image"]), labeled["label"])}
        count, mixed, target = labeled["image"].shape[0], *self._mixed(batch["unlabeled"]["image"])
        logits = self.network(torch.cat([labeled["image"], mixed]))
        return {
            "supervised": self.loss(logits[:count], labeled["label"]),
            "consistency": softmax_consistency(logits[count:], target),
        }

    @torch.no_grad()
    def _mixed(self, images: Tensor) -> list[Tensor]:
        """The mixed images and, mixed alike, what the teacher makes of them one by one."""
        q = torch.softmax(self.teacher(images).float(), dim=1)
        confidence, predicted = q.max(dim=1)
        self.figures = {"confidence": confidence.mean(), "pseudo_foreground": (predicted > 0).float().mean()}
        weights = draw_weights(len(images), self.alpha, device=images.device)
        return mix_up([images, q], weights, draw_partners(len(images), images.device))
