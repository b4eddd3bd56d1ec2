"""Pseudo-labels: confident labels that the method itself has made of whole unlabelled scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from monai_ssl.losses.confidence import kept_fraction
from monai_ssl.losses.pseudo_label import MaskedDiceCELoss
from monai_ssl.networks.teacher import make_teacher
from monai_ssl.objectives.base import Batch, TeacherObjective

__all__ = ["IGNORE", "PseudoLabel"]

IGNORE = 255
"""Value of a voxel that has no pseudo-label."""


class PseudoLabel(TeacherObjective):
    r"""Self-training in rounds, for segmentation.

    .. code-block:: text

        f student; g = f, or the moving average of f
        round 0:         x, y labelled
            L_supervised = loss(f(x), y)
        start of rounds 1, 2, ..:  for every unlabelled scan v, as a whole and without gradient
            p            = softmax(g(v))
            y^           = argmax_c p_c where max_c p_c > threshold, else 255, which is "not labelled"
        in these rounds: x, y labelled; u, y^ patches of unlabelled scans with those labels
            L_supervised = loss(f(x), y)
            L_pseudo     = pseudo_loss(f(u), y^, y^ != 255)
        after the step, with a moving average: g <- a g + (1 - a) f,  a = min(1 - 1/(t + 1), decay)

    The labels of a round stay as they are until the next one begins, and the weights go on from where they are; nothing
    starts anew. :class:`~monai_ssl.handlers.PseudoLabelRounds` makes the labels and begins the rounds. Here an
    unlabelled batch that has no ``label`` belongs to round 0: its images are not looked at, and the term ``pseudo`` is
    0 without a gradient. A voxel of 255 is left out of the pseudo-loss; it is no background.

    Passes: student 1 of B_l with gradient in round 0, 1 of B_l + B_u later. With instance norm the supervised term does
    not depend on the unlabelled images; with batch norm both share statistics.

    Logged are ``kept``, the share of the unlabelled patches' voxels that have a label, and ``pseudo_foreground``, the
    share of these that are of a class other than 0; NaN in round 0.

    Args:
        network: the student; maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        pseudo_loss: compares logits with labels ``(B, 1, H, W[, D])`` where a mask of that shape is true;
            :class:`~monai_ssl.losses.MaskedDiceCELoss` by default.
        threshold: confidence above which a label is kept, in [0, 1); 0 keeps all, as in the paper. 0.95 is FixMatch's.
        decay: the largest decay of the moving average that makes the labels and is deployed, in [0, 1), 0.99 say; None:
            the student makes them itself and is deployed, as in the paper, and there is no second network.
        weights: see :class:`~monai_ssl.objectives.Objective`; the terms are ``supervised`` and ``pseudo``.

    Raises:
        ValueError: when an argument is out of range.

    Reference:
        D.-H. Lee: Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks, ICML
        2013 Workshop on Challenges in Representation Learning, section 2.4. There the labels are made anew at
        every weights update, of all cases without a threshold, and their weight rises from 0 after a first phase; here
        in rounds, of whole scans, and the weight is the config's. In rounds Q. Xie et al.: Self-training with Noisy
        Student improves ImageNet classification, CVPR 2020, https://arxiv.org/abs/1911.04252, whose students start
        anew.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        pseudo_loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        threshold: float = 0.95,
        decay: float | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, 0.0 if decay is None else decay, threshold, weights)
        self.loss = loss
        self.pseudo_loss = MaskedDiceCELoss() if pseudo_loss is None else pseudo_loss
        self.teacher = None if decay is None else make_teacher(network)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and, where there are unlabelled images, ``pseudo``."""
        labeled = self.stream(batch, "labeled")
        self.figures = {}
        if "unlabeled" not in batch or "label" not in batch["unlabeled"]:
            terms = {"supervised": self.loss(self.network(labeled["image"]), labeled["label"])}
            if "unlabeled" in batch:
                # named from the first step on, for a log whose columns are those of its first row
                nothing = torch.full_like(terms["supervised"].detach(), torch.nan)
                self.figures = {"kept": nothing, "pseudo_foreground": nothing}
                terms["pseudo"] = torch.zeros_like(nothing)
            return terms
        image, pseudo = batch["unlabeled"]["image"], batch["unlabeled"]["label"].long()
        kept = pseudo != IGNORE
        foreground = (kept & (pseudo > 0)).sum() / kept.sum().clamp_min(1)
        self.figures = {"kept": kept_fraction(kept), "pseudo_foreground": foreground}
        count = labeled["image"].shape[0]
        logits = self.network(torch.cat([labeled["image"], image]))
        return {
            "supervised": self.loss(logits[:count], labeled["label"]),
            "pseudo": self.pseudo_loss(logits[count:], pseudo, kept),
        }
