"""The scales of one network's decoder agree with their mean on unlabelled cases, less where one is far from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from monai_ssl.losses.pyramid import rectified_pyramid
from monai_ssl.networks.pyramid_network import PyramidNetwork
from monai_ssl.objectives.base import Batch, Objective
from monai_ssl.utils.predictions import predicted_classes

__all__ = ["UncertaintyRectifiedPyramid"]


class UncertaintyRectifiedPyramid(Objective):
    r"""Uncertainty-rectified pyramid consistency.

    .. code-block:: text

        x, y labelled; u unlabelled; f_s the network's prediction at scale s of S, upsampled, with dropout
        L_supervised  = 1/S sum_s loss(f_s(x), y)
        p_s           = softmax(f_s(u));  p = 1/S sum_s p_s;  D_s = KL(p || p_s) of each voxel
        L_consistency = 1/S sum_s (mean((p - p_s)^2 exp(-D_s)) / mean(exp(-D_s)) + mean(D_s))

    Passes: the network 1 of B_l + B_u; no teacher. With instance norm ``supervised`` does not depend on the unlabelled
    images. It is supervised at every scale: with the consistency at weight 0 this is deep supervision, and a gain over
    a baseline without it may be due to that alone. The bare network is deployed: its finest scale, a plain state dict
    without the heads.

    Logged are, over the unlabelled voxels, ``scale_agreement``, the share where all scales say the same class, and
    ``pseudo_foreground``, the share that the finest one calls foreground, whose way to 0 or 1 is a collapse.

    Args:
        network: the network with its heads.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        weights: see :class:`Objective`; the terms are ``supervised`` and ``consistency``.

    Raises:
        ValueError: when ``network`` is no :class:`~monai_ssl.networks.PyramidNetwork`.

    Reference:
        X. Luo et al.: Efficient Semi-supervised Gross Target Volume of Nasopharyngeal Carcinoma Segmentation via
        Uncertainty Rectified Pyramid Consistency, MICCAI 2021, https://arxiv.org/abs/2012.07042.
    """

    def __init__(
        self,
        network: PyramidNetwork,
        loss: Callable[[Tensor, Tensor], Tensor],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        if not isinstance(network, PyramidNetwork):
            raise ValueError(f"`network` must be a PyramidNetwork, got {type(network).__name__}.")
        super().__init__(network, weights)
        self.loss = loss

    @property
    def deployed(self) -> nn.Module:
        """The bare network, whose answer is the finest scale."""
        network: PyramidNetwork = self.network  # type: ignore[assignment]
        return network.deployed

    @property
    def learner(self) -> nn.Module:
        """The bare network, for :class:`~monai_ssl.handlers.PseudoLabelAudit`: there is no other one to compare."""
        return self.deployed

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and, where there are unlabelled images, ``consistency``."""
        images, label = self.stream(batch, "labeled")["image"], batch["labeled"]["label"]
        count = images.shape[0]
        if "unlabeled" in batch:
            images = torch.cat([images, batch["unlabeled"]["image"]])
        scales = self.network(images)
        terms = {"supervised": torch.stack([self.loss(logits[:count], label) for logits in scales]).mean()}
        self.figures = {}
        if "unlabeled" in batch:
            unlabeled = [logits[count:] for logits in scales]
            self.figures = _figures(unlabeled)
            terms["consistency"] = rectified_pyramid([torch.softmax(logits.float(), dim=1) for logits in unlabeled])
        return terms


def _figures(scales: Sequence[Tensor]) -> dict[str, Tensor]:
    finest, *coarser = (predicted_classes(logits.detach()) for logits in scales)
    same = torch.stack([finest == classes for classes in coarser]).all(dim=0)
    return {"scale_agreement": same.float().mean(), "pseudo_foreground": (finest > 0).float().mean()}
