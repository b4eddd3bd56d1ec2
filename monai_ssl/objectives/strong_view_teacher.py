"""A teacher on the weak view; a student on strong views that are mixed with labelled cases and lack features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from monai.networks.blocks.activation_checkpointing import ActivationCheckpointWrapper
from torch import Tensor, nn

from monai_ssl.losses.confidence import confidence_mask, kept_fraction
from monai_ssl.losses.entropy import predictive_entropy
from monai_ssl.losses.pseudo_label import MaskedDiceCELoss
from monai_ssl.networks.encoder import encoder_taps
from monai_ssl.networks.teacher import make_teacher
from monai_ssl.objectives.base import Batch, TeacherObjective
from monai_ssl.transforms.mixing import checked_volume, cuboid_mask, cut_mix, draw_partners
from monai_ssl.utils.errors import UserError

__all__ = ["StrongViewTeacher"]


class StrongViewTeacher(TeacherObjective):
    r"""Strong views for the student in intensity, content and features, a weak one for its moving average.

    .. code-block:: text

        x, y labelled; u weak view, s_1, s_2 strong views of an unlabelled case, of one geometry; f student; g teacher
        L_supervised = loss(f(x), y)
        p            = softmax(g(u)),  y^ = argmax_c p_c,  m = max_c p_c > threshold       no gradient
        for each strong view s_v, with y^ and m cut alike:
            donor    = s_v; with chance 1 - c a random cuboid of it is a labelled case's, m = 1 there
            s_v     <- within a random cuboid the donor of another case
        L_pseudo     = pseudo_loss over both views of (f(s_v), y^_v, m_v)
        with chance `dropout`, a case's two views lose complementary halves of the channels of f's deepest feature maps:
            h_1 <- 2 b h_1,  h_2 <- 2 (1 - b) h_2,  b a fair coin for each channel
        after the step: g <- a g + (1 - a) f,  a = min(1 - 1/(t + 1), decay)

    The chance of a labelled cuboid is adaptive: :math:`c` is the mean of :math:`\max_c p_c\,(1 - H(p) / \ln C)` over
    the case's voxels, so that unsure cases get labelled parts. Here a voxel counts by its foreground probability: with
    nearly all background the plain mean is near 1 from the first steps on.

    Passes: student 1 of B_l + 2 B_u (B_l + B_u with one strong view), teacher 1 of B_u without gradient. With instance
    norm the supervised term does not depend on the unlabelled images. The teacher is in evaluation mode and deployed. A
    single unlabelled case has itself as its donor, and meets labelled parts alone.

    Logged are ``kept`` and ``kept_foreground``, the share of the unlabelled voxels, and of those predicted as
    foreground, above the threshold, and ``certainty``, the mean of :math:`c`.

    Args:
        network: the student; maps an image to logits. Feature dropout needs one whose encoder is known, see
            :func:`~monai_ssl.networks.encoder_taps`.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        pseudo_loss: compares logits with labels ``(B, 1, H, W[, D])`` where a mask of that shape is true;
            :class:`~monai_ssl.losses.MaskedDiceCELoss` by default. The papers: cross-entropy, divided by all voxels.
        strong: entries of the unlabelled stream with the strong views, two or one; one entry given twice makes views
            that differ in cuboids and features alone. With one there is no feature dropout, as in AugSeg.
        threshold: confidence above which a label is kept, in [0, 1); the papers' is 0.95.
        decay: the largest decay of the moving average, in [0, 1); 0.996 in UniMatch V2, in runs of many steps.
        mix_volume: least and greatest part of the volume that a cuboid has, in [0, 1].
        dropout: chance that a case's views lose features, in [0, 1]; UniMatch V2 takes exactly half of the cases.
        levels: number of the deepest feature maps that lose channels, from 1. The skip connections of the others stay
            whole; UniMatch V2 drops at all four levels of its encoder.
        weights: see :class:`~monai_ssl.objectives.Objective`; the terms are ``supervised`` and ``pseudo``.

    Raises:
        ValueError: when an argument is out of range.
        UserError: when features are to be dropped in a network whose encoder is not known, or that computes its
            features a second time for the backward pass (activation checkpointing); in a step, when the unlabelled
            stream lacks a strong view.

    Reference:
        Z. Zhao et al.: Augmentation Matters: A Simple-yet-Effective Approach to Semi-supervised Semantic Segmentation
        (AugSeg), CVPR 2023, https://arxiv.org/abs/2212.04976: intensity views, labelled parts in unsure cases.
        L. Yang et al.: UniMatch V2, 2024, https://arxiv.org/abs/2410.10777: two views, complementary dropout.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        pseudo_loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        strong: Sequence[str] = ("strong", "strong_b"),
        threshold: float = 0.95,
        decay: float = 0.99,
        mix_volume: Sequence[float] = (0.1, 0.6),
        dropout: float = 0.5,
        levels: int = 1,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, decay, threshold, weights)
        self.strong = (strong,) if isinstance(strong, str) else tuple(strong)
        if len(self.strong) not in (1, 2):
            raise ValueError(f"`strong` must name one or two entries, got {strong}.")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"`dropout` must be in [0, 1], got {dropout}.")
        if levels < 1:
            raise ValueError(f"`levels` must be 1 or more, got {levels}.")
        self.dropout = dropout if len(self.strong) == 2 else 0.0
        if self.dropout > 0:
            _check_droppable(network)
        self.loss = loss
        self.pseudo_loss = MaskedDiceCELoss() if pseudo_loss is None else pseudo_loss
        self.mix_volume = checked_volume(mix_volume, "mix_volume")
        self.levels = levels
        self.teacher = make_teacher(network)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and, where there are unlabelled images, ``pseudo``."""
        labeled = self.stream(batch, "labeled")
        self.figures = {}
        if "unlabeled" not in batch:
            return {"supervised": self.loss(self.network(labeled["image"]), labeled["label"])}
        views = [self.entry(batch["unlabeled"], name) for name in self.strong]
        pseudo, kept, certainty = self._labels(batch["unlabeled"]["image"])
        mixed = [self._mixed([view, pseudo, kept], certainty, labeled) for view in views]
        strong, pseudo, kept = (torch.cat(parts) for parts in zip(*mixed, strict=True))
        count = len(labeled["image"])
        with _complementary_dropout(self.network, self.dropout if self.training else 0.0, count, self.levels):
            logits = self.network(torch.cat([labeled["image"], strong]))
        return {
            "supervised": self.loss(logits[:count], labeled["label"]),
            "pseudo": self.pseudo_loss(logits[count:], pseudo, kept),
        }

    @torch.no_grad()
    def _labels(self, weak: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p = torch.softmax(self.teacher(weak).float(), dim=1)
        confidence, pseudo = p.max(dim=1, keepdim=True)
        kept, foreground = confidence_mask(p, self.threshold), pseudo > 0
        share = 1.0 - p[:, :1]
        certain = (share * confidence * (1.0 - predictive_entropy(p) / math.log(p.shape[1]))).flatten(1).sum(1)
        certainty = certain / share.flatten(1).sum(1).clamp_min(torch.finfo(torch.float32).tiny)
        self.figures = {
            "kept": kept_fraction(kept),
            "kept_foreground": (kept & foreground).sum() / foreground.sum().clamp_min(1),
            "certainty": certainty.mean(),
        }
        return pseudo, kept, certainty

    def _mixed(self, own: Sequence[Tensor], certainty: Tensor, labeled: Mapping[str, Tensor]) -> list[Tensor]:
        """View, labels and mask with a donor's cuboid, whose own may hold a labelled case's."""
        count, device = len(own[0]), own[0].device
        chosen = torch.randint(len(labeled["image"]), (count,)).to(device)
        pasted = (torch.rand(count).to(device) >= certainty).view(count, *[1] * (own[0].dim() - 1))
        true = [labeled["image"][chosen], labeled["label"][chosen].long(), torch.ones_like(own[2])]
        donors = cut_mix(own, pasted & self._cuboids(own[0]), true)
        partners = draw_partners(count, device)
        return cut_mix(own, self._cuboids(own[0]), [donor[partners] for donor in donors])

    def _cuboids(self, images: Tensor) -> Tensor:
        return cuboid_mask(images.shape[2:], len(images), volume=self.mix_volume, device=images.device)


@contextmanager
def _complementary_dropout(network: nn.Module, chance: float, labeled: int, levels: int) -> Iterator[None]:
    """Within the block the deepest maps lose channels; behind ``labeled`` cases a batch has first and second views."""
    if chance == 0:
        yield
        return
    taps = encoder_taps(network)
    axis = 1 if taps.token_size is None else 2

    def drop(features: Tensor) -> Tensor:
        pairs, channels = (len(features) - labeled) // 2, features.shape[axis]
        first = 2.0 * torch.randint(2, (pairs, channels))
        first[torch.rand(pairs) >= chance] = 1.0
        factors = torch.cat([torch.ones(labeled, channels), first, 2.0 - first]).to(features)
        return features * factors.view(len(features), *[1] * (axis - 1), channels, *[1] * (features.dim() - axis - 1))

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return drop(output)
        return [*output[:-levels], *(drop(features) for features in output[-levels:])]

    handles = [module.register_forward_hook(hook) for module in taps.maps[-levels:]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_droppable(network: nn.Module) -> None:
    encoder_taps(network)
    if any(isinstance(module, ActivationCheckpointWrapper) for module in network.modules()):
        raise UserError(
            f"network_def: {type(network).__name__} computes its features again in the backward pass, where they would "
            "not be dropped: take it without activation checkpointing, or set the method's dropout to 0."
        )
