"""Entropy minimisation: decided predictions on unlabelled cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from monai_ssl.objectives.base import Batch, Objective

__all__ = ["EntropyMinimisation"]


class EntropyMinimisation(Objective):
    r"""Entropy minimisation.

    .. code-block:: text

        x, y labelled; u unlabelled; f network
        L_supervised = loss(f(x), y)
        p            = softmax(f(u))
        L_entropy    = mean over voxels of -sum_c p_c ln p_c

    Passes: network 1 of B_l + B_u. With instance norm the supervised term does not depend on the unlabelled images;
    with batch norm both share statistics.

    The least entropy is reached by one class everywhere as well, and the term takes its side from whatever the network
    believes already. Logged are, of the unlabelled voxels, ``confidence``, the mean of the largest probability, and
    ``pseudo_foreground``, the share that is predicted as a class other than 0: a confidence that rises while the
    foreground goes towards 0 is a collapse onto the background, and asks for a lower weight or a later ramp.

    Args:
        network: maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        weights: see :class:`Objective`; the terms are ``supervised`` and ``entropy``, which is in nats, between 0 and
            :math:`\ln C`.

    Reference:
        Y. Grandvalet, Y. Bengio: Semi-supervised Learning by Entropy Minimization, NeurIPS 2004,
        https://papers.nips.cc/paper/2004/hash/96f2b50b5d3613adf9c27049b2a888c7-Abstract.html, whose sum over
        unlabelled cases is a mean here; per voxel T.-H. Vu et al.: ADVENT, CVPR 2019,
        https://arxiv.org/abs/1811.12833, which divides by :math:`\ln C`.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, weights)
        self.loss = loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and, where there are unlabelled images, ``entropy``."""
        labeled = self.stream(batch, "labeled")
        self.figures = {}
        if "unlabeled" not in batch:
            return {"supervised": self.loss(self.network(labeled["image"]), labeled["label"])}
        count = labeled["image"].shape[0]
        logits = self.network(torch.cat([labeled["image"], batch["unlabeled"]["image"]]))
        # from logarithms: the gradient of p ln p at a probability that has underflowed to 0 is not finite
        log = torch.log_softmax(logits[count:].float(), dim=1)
        p = log.exp()
        confidence, predicted = p.detach().max(dim=1)
        self.figures = {"confidence": confidence.mean(), "pseudo_foreground": (predicted > 0).float().mean()}
        return {
            "supervised": self.loss(logits[:count], labeled["label"]),
            "entropy": -(p * log).sum(dim=1).mean(),
        }
