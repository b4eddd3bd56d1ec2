"""FixMatch: confident predictions on a weak view are labels for a strong view of the same case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from monai_ssl.losses.confidence import confidence_mask, kept_fraction
from monai_ssl.losses.pseudo_label import MaskedDiceCELoss
from monai_ssl.networks.fit import evaluation
from monai_ssl.networks.teacher import make_teacher
from monai_ssl.objectives.base import Batch, TeacherObjective
from monai_ssl.transforms.mixing import checked_volume, cuboid_mask, cut_mix, draw_partners
from monai_ssl.utils.predictions import predicted_classes

__all__ = ["FixMatch"]


class FixMatch(TeacherObjective):
    r"""FixMatch for segmentation, with CutMix between the strong views.

    .. code-block:: text

        x, y labelled; u weak view, s strong view of an unlabelled case, both of one geometry
        f student; g = f, or the moving average of f
        L_supervised = loss(f(x), y)
        p            = softmax(g(u))                                       no gradient, evaluation mode
        y^           = argmax_c p_c,  m = max_c p_c > threshold
        s, y^, m    <- within a random cuboid those of another case of the batch
        L_pseudo     = pseudo_loss(f(s), y^, m)
        after the step, with a moving average: g <- a g + (1 - a) f,  a = min(1 - 1/(t + 1), decay)

    A voxel whose confidence is not above the threshold is left out of the pseudo-loss; it is no background. A cuboid
    takes label and confidence from where its image came from. A single unlabelled case has no other one to be mixed
    with: take an unlabelled batch of 2 or more.

    Passes: student 1 of B_l + B_u with gradient, and g 1 of B_u without. With instance norm the supervised term does
    not depend on the unlabelled images; with batch norm labelled cases and strong views share statistics.

    Logged are, of the unlabelled voxels, ``kept``, the share whose label is kept, ``kept_foreground``, that of those
    predicted as a class other than 0, and ``pseudo_foreground``, the share that is predicted so. Nearly all is kept at
    once where most is background: the second figure tells more, and is 0 also where no foreground is predicted.

    Args:
        network: the student; maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        pseudo_loss: compares logits with labels ``(B, 1, H, W[, D])`` where a mask of that shape is true;
            :class:`~monai_ssl.losses.MaskedDiceCELoss` by default.
        threshold: confidence above which a label is kept, in [0, 1); 0.95 is the papers'.
        mix_prob: chance that a case gets a cuboid of another one, in [0, 1].
        mix_volume: least and greatest part of the volume that the cuboid has, in [0, 1].
        decay: the largest decay of the moving average that makes the labels and is deployed, in [0, 1), 0.99 say; None:
            the student makes them itself and is deployed, as in the papers, and there is no second network.
        strong: entry of the unlabelled stream with the strong view.
        weights: see :class:`~monai_ssl.objectives.Objective`; the terms are ``supervised`` and ``pseudo``.

    Raises:
        ValueError: when an argument is out of range.
        UserError: in a step, when the unlabelled stream has no entry ``strong``.

    Reference:
        K. Sohn et al.: FixMatch, NeurIPS 2020, https://arxiv.org/abs/2001.07685, equations 3 and 4, whose mean is over
        all cases, so that the term fades where few are kept; ours depends on ``pseudo_loss``, and the default divides
        by what is kept. For segmentation, with CutMix, its chance and volume L. Yang et al.: Revisiting Weak-to-Strong
        Consistency in Semi-Supervised Semantic Segmentation (UniMatch), CVPR 2023, https://arxiv.org/abs/2208.09910,
        here with one strong view and without its stream of dropped features.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        pseudo_loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        threshold: float = 0.95,
        mix_prob: float = 0.5,
        mix_volume: Sequence[float] = (0.02, 0.4),
        decay: float | None = None,
        strong: str = "strong",
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, 0.0 if decay is None else decay, threshold, weights)
        if not 0.0 <= mix_prob <= 1.0:
            raise ValueError(f"`mix_prob` must be in [0, 1], got {mix_prob}.")
        self.loss = loss
        self.pseudo_loss = MaskedDiceCELoss() if pseudo_loss is None else pseudo_loss
        self.mix_prob = mix_prob
        self.mix_volume = checked_volume(mix_volume, "mix_volume")
        self.strong = strong
        self.teacher = None if decay is None else make_teacher(network)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and, where there are unlabelled images, ``pseudo``."""
        labeled = self.stream(batch, "labeled")
        self.figures = {}
        if "unlabeled" not in batch:
            return {"supervised": self.loss(self.network(labeled["image"]), labeled["label"])}
        strong = self.entry(batch["unlabeled"], self.strong)
        pseudo, kept = self._labels(batch["unlabeled"]["image"])
        partners = draw_partners(len(strong), strong.device)
        strong, pseudo, kept = cut_mix([strong, pseudo, kept], self._cuboids(strong), partners)
        count = labeled["image"].shape[0]
        logits = self.network(torch.cat([labeled["image"], strong]))
        return {
            "supervised": self.loss(logits[:count], labeled["label"]),
            "pseudo": self.pseudo_loss(logits[count:], pseudo, kept),
        }

    @torch.no_grad()
    def _labels(self, weak: Tensor) -> tuple[Tensor, Tensor]:
        with evaluation(self.labeler):
            p = torch.softmax(self.labeler(weak).float(), dim=1)
        pseudo, kept = predicted_classes(p, keepdim=True), confidence_mask(p, self.threshold)
        foreground = pseudo > 0
        share = (kept & foreground).sum() / foreground.sum().clamp_min(1)
        self.figures = {
            "kept": kept_fraction(kept),
            "kept_foreground": share,
            "pseudo_foreground": foreground.float().mean(),
        }
        return pseudo, kept

    def _cuboids(self, images: Tensor) -> Tensor:
        count = len(images)
        chosen = (torch.rand(count) < self.mix_prob).view(count, *[1] * (images.dim() - 1)).to(images.device)
        return chosen & cuboid_mask(images.shape[2:], count, volume=self.mix_volume, device=images.device)
