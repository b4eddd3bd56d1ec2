"""Two networks teach each other: each one's hard labels of the unlabelled cases supervise the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from monai_ssl.losses.pseudo_label import masked_cross_entropy, masked_dice
from monai_ssl.objectives.base import Batch, Objective
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.predictions import predicted_classes

__all__ = ["CrossPseudo"]

PseudoLoss = Literal["cross_entropy", "dice"]


class CrossPseudo(Objective):
    r"""Cross pseudo supervision; with a transformer as the second network and Dice, cross teaching.

    .. code-block:: text

        x, y labelled; u unlabelled; a, b two networks with starting weights of their own
        L_supervised   = loss(a(x), y)
        L_supervised_b = loss(b(x), y)
        L_pseudo       = l(a(u), argmax b(u))        no gradient through the argmax, so none into b
        L_pseudo_b     = l(b(u), argmax a(u))        none into a
        l              = cross-entropy, or Dice over all classes with those of the batch pooled

    Passes: network a 1 of B_l + B_u, network b 1 of B_l + B_u; a voxel's label is the answer of the other one's
    training pass, dropout included. With instance norm ``supervised`` does not depend on the unlabelled images, and a
    network's terms train it alone: without the weights of both pseudo terms each network learns what it would learn
    supervised. Network a is deployed, for the baseline's network and cost; b is left behind with ``resume.pt``. The
    two stay different only by where they start: one that is loaded with the other's weights teaches it nothing.

    Every voxel is taught, however unsure its label. Logged are, over the unlabelled voxels, ``agreement``, the share
    where both say the same class, ``foreground_agreement``, Dice of what both say beside background (0 where neither
    says anything), and ``pseudo_foreground``, the share that network a calls foreground, whose way to 0 or 1 is a
    collapse.

    Args:
        network: network a; maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        network_b: network b, for the same images and classes; of any class.
        pseudo_loss: ``"cross_entropy"`` as in cross pseudo supervision, or ``"dice"`` as in cross teaching.
        weights: see :class:`Objective`; the terms are ``supervised``, ``supervised_b``, ``pseudo`` and ``pseudo_b``.

    Raises:
        UserError: when there is no second network, or it is the first one again; in a step, when the two answer in
            different shapes.
        ValueError: when ``pseudo_loss`` is unknown.

    Reference:
        X. Chen et al.: Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision, CVPR 2021,
        https://arxiv.org/abs/2106.01226, equations 1 to 4: there the labelled images have pseudo terms too, at weight
        1.5, and CutMix is an option; the 3D code of the field (SSL4MIS) leaves these out, as here. X. Luo et al.:
        Semi-Supervised Medical Image Segmentation via Cross Teaching between CNN and Transformer, MIDL 2022,
        https://arxiv.org/abs/2112.04894.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        network_b: nn.Module | None,
        pseudo_loss: PseudoLoss = "cross_entropy",
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, weights)
        if pseudo_loss not in ("cross_entropy", "dice"):
            raise ValueError(f"`pseudo_loss` must be 'cross_entropy' or 'dice', got {pseudo_loss!r}.")
        if network_b is None:
            raise UserError("this method needs a second network: set network_b, such as to '%network_def'.")
        if _alike(network, network_b):
            raise UserError(
                "network_b: both networks start with the same weights and could teach each other nothing; "
                "'%network_def' makes a network of its own, '@network_def' is the first one again."
            )
        self.loss = loss
        self.network_b = network_b
        self.pseudo_loss = pseudo_loss

    @property
    def labeler(self) -> nn.Module:
        """Network b: whose labels the deployed one learns, for :class:`~monai_ssl.handlers.PseudoLabelAudit`."""
        return self.network_b

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and ``supervised_b``; with unlabelled images ``pseudo`` and ``pseudo_b`` as well."""
        images, label = self.stream(batch, "labeled")["image"], batch["labeled"]["label"]
        count = images.shape[0]
        if "unlabeled" in batch:
            images = torch.cat([images, batch["unlabeled"]["image"]])
        a, b = self.network(images), self.network_b(images)
        if a.shape != b.shape:
            raise UserError(f"network_b answers in the shape {tuple(b.shape)}, the network in {tuple(a.shape)}.")
        terms = {"supervised": self.loss(a[:count], label), "supervised_b": self.loss(b[:count], label)}
        self.figures = {}
        if "unlabeled" not in batch:
            return terms
        label_a, label_b = (predicted_classes(logits[count:].detach(), keepdim=True) for logits in (a, b))
        self.figures = _figures(label_a, label_b)
        return terms | {"pseudo": self._compare(a[count:], label_b), "pseudo_b": self._compare(b[count:], label_a)}

    def _compare(self, logits: Tensor, label: Tensor) -> Tensor:
        if self.pseudo_loss == "dice":
            return masked_dice(logits, label, include_background=True)
        return masked_cross_entropy(logits, label)


def _alike(one: nn.Module, other: nn.Module) -> bool:
    """Tell whether two networks have the same weights; networks of different make cannot."""
    left, right = list(one.parameters()), list(other.parameters())
    return len(left) == len(right) and all(
        mine is theirs or torch.equal(mine.cpu(), theirs.cpu()) for mine, theirs in zip(left, right, strict=True)
    )


def _figures(label_a: Tensor, label_b: Tensor) -> dict[str, Tensor]:
    same, first, second = label_a == label_b, label_a > 0, label_b > 0
    common = 2.0 * (same & first).sum()
    return {
        "agreement": same.float().mean(),
        "foreground_agreement": common / (first.sum() + second.sum()).clamp_min(1),
        "pseudo_foreground": first.float().mean(),
    }
