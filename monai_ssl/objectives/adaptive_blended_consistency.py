"""Adaptive blended consistency: two views agree with a blend of both that leans towards the rarer class."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from monai_ssl.losses.blending import blended_consistency, tempered_frequencies
from monai_ssl.objectives.base import Batch, Objective
from monai_ssl.utils.predictions import predicted_classes

__all__ = ["AdaptiveBlendedConsistency"]


class AdaptiveBlendedConsistency(Objective):
    r"""Adaptive blended consistency (ABCL), voxel by voxel.

    .. code-block:: text

        x, y labelled; u, s two views of an unlabelled case, both of one geometry; f network
        L_supervised  = loss(f(x), y)
        n_c          <- n_c + number of voxels of class c in y             while training
        N_c           = (n_c + 1)^power / sum_k (n_k + 1)^power
        z, z'         = softmax(f(u)), softmax(f(s))
        k             = clip(gain (N_argmax(z) - N_argmax(z')) + 0.5, 0, 1)
        z_b           = (1 - k) z + k z'                                   no gradient
        L_consistency = mean over voxels of KL(z_b || z) + KL(z_b || z')

    The frequencies are those of the labelled patches seen so far, which may have more foreground than the scans; the
    counts are a buffer, so that a resumed run goes on with them. Where the views predict classes of one frequency the
    target is their mean; else it leans towards the rarer class. With two classes, 97 % background and a gain of 0.4, a
    voxel that one view alone takes for foreground has 88 % of that view in its target at a ``power`` of 1 and 78 % at
    0.5: what is gained in foreground can be lost in background.

    Passes: network 1 of B_l + 2 B_u, all with gradient. With instance norm the supervised term does not depend on the
    unlabelled images; with batch norm all share statistics.

    Logged are ``agreement``, the share of the unlabelled voxels that both views give the same class;
    ``pseudo_foreground``, the share of them that the first view gives a class other than 0; and ``background_recall``,
    the share of the labelled background that is predicted so: where it falls, the blend leans too far, and ``gain`` or
    ``power`` is to be lowered.

    Args:
        network: maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        classes: number C of classes, background included, 2 or more.
        gain: strength of the lean, 0 or more; 0 gives the mean everywhere.
        power: moderates the frequencies, in [0, 1]; 1 takes them as they are, 0 makes them all the same.
        include_background: else the target is the mean wherever a view predicts class 0, and the frequencies are those
            of the foreground classes among each other; with a single foreground class nothing is left to weigh.
        strong: entry of the unlabelled stream with the second view; the paper changes both only weakly.
        weights: see :class:`Objective`; the terms are ``supervised`` and ``consistency``.

    Raises:
        ValueError: when an argument is out of range.

    Reference:
        T. Huynh et al.: Semi-supervised learning for medical image classification using imbalanced training data,
        Computer Methods and Programs in Biomedicine 2022, https://arxiv.org/abs/2108.08956, which blends the
        predictions of images and knows its frequencies beforehand; per voxel, counted, tempered and without background
        are ours.
    """

    counts: Tensor

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        classes: int,
        gain: float = 0.4,
        power: float = 0.5,
        include_background: bool = True,
        strong: str = "strong",
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, weights)
        if classes < 2:
            raise ValueError(f"`classes` must be 2 or more, background included, got {classes}.")
        if gain < 0:
            raise ValueError(f"`gain` must be 0 or more, got {gain}.")
        if not 0.0 <= power <= 1.0:
            raise ValueError(f"`power` must be in [0, 1], got {power}.")
        self.loss = loss
        self.gain = gain
        self.power = power
        self.include_background = include_background
        self.strong = strong
        device = next(network.parameters()).device
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.int64, device=device))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and, where there are unlabelled images, ``consistency``."""
        labeled = self.stream(batch, "labeled")
        image, label = labeled["image"], labeled["label"]
        self.figures = {}
        if self.training:
            self._count(label)
        if "unlabeled" not in batch:
            return {"supervised": self.loss(self.network(image), label)}
        weak, strong = batch["unlabeled"]["image"], self.entry(batch["unlabeled"], self.strong)
        logits, first, second = self.network(torch.cat([image, weak, strong])).split(
            [len(image), len(weak), len(strong)]
        )
        self._note(logits.detach(), label, first.detach(), second.detach())
        return {
            "supervised": self.loss(logits, label),
            "consistency": blended_consistency(first, second, self._frequencies(), self.gain, self.include_background),
        }

    def _count(self, label: Tensor) -> None:
        self.counts += torch.stack([(label == number).sum() for number in range(len(self.counts))])

    def _frequencies(self) -> Tensor:
        counts = self.counts + 1  # a class that no label has shown yet is rare, and not unknown
        if not self.include_background:
            counts[0] = 0
        return tempered_frequencies(counts, self.power)

    def _note(self, logits: Tensor, label: Tensor, first: Tensor, second: Tensor) -> None:
        classes, background = predicted_classes(first), label == 0
        found = background & (predicted_classes(logits, keepdim=True) == 0)
        self.figures = {
            "agreement": (classes == predicted_classes(second)).float().mean(),
            "pseudo_foreground": (classes > 0).float().mean(),
            "background_recall": found.sum() / background.sum().clamp_min(1),
        }
