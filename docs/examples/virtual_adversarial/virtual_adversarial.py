"""Virtual adversarial training: predictions that do not change under the smallest harmful change of a scan."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from monai_ssl.networks.fit import evaluation
from monai_ssl.objectives.base import Batch, Objective

__all__ = ["VirtualAdversarial"]


class VirtualAdversarial(Objective):
    r"""Virtual adversarial training, with x, y labelled, u unlabelled, f the network.

    .. code-block:: text

        p            = softmax(f(u))                                       no gradient
        d            = gradient of KL(p || softmax(f(u + d))) at small, random d
        L_supervised = loss(f(x), y)
        L_virtual    = mean over voxels of KL(p || softmax(f(u + d scaled to radius)))

    Args:
        network: maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        radius: root mean square of the change, in units of the normalised intensity.
        probe: that of the random change at which the gradient is taken.

    Reference:
        T. Miyato et al.: Virtual Adversarial Training, TPAMI 2018, https://arxiv.org/abs/1704.03976, algorithm 1, one
        power iteration; here without dropout, and ``radius`` is a change per voxel, not of the whole.
    """

    def __init__(
        self, network: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], radius: float = 0.05, probe: float = 0.01
    ) -> None:
        super().__init__(network)
        self.loss, self.radius, self.probe = loss, radius, probe

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and, where there are unlabelled images, ``virtual``."""
        labeled = self.stream(batch, "labeled")
        terms = {"supervised": self.loss(self.network(labeled["image"]), labeled["label"])}
        if "unlabeled" in batch:
            with evaluation(self.network):
                terms["virtual"] = self._virtual(batch["unlabeled"]["image"])
        return terms

    def _virtual(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            target = torch.log_softmax(self.network(images).float(), dim=1)
        change = scaled(torch.randn_like(images), self.probe).requires_grad_()
        (harmful,) = torch.autograd.grad(self._divergence(target, images + change), change)
        return self._divergence(target, images + scaled(harmful, self.radius))

    def _divergence(self, target: Tensor, images: Tensor) -> Tensor:
        log = torch.log_softmax(self.network(images).float(), dim=1)
        return (target.exp() * (target - log)).sum(dim=1).mean()


def scaled(change: Tensor, size: float) -> Tensor:
    """The change with the given root mean square over each case; 0 stays 0."""
    rms = change.square().mean(dim=tuple(range(1, change.dim())), keepdim=True).sqrt()
    return size * change / rms.clamp_min(torch.finfo(change.dtype).tiny)
