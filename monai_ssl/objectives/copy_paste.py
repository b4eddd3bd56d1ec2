"""Bidirectional copy-paste: a part of a labelled case goes into an unlabelled one, and the other way round."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from monai.transforms import KeepLargestConnectedComponent
from torch import Tensor, nn

from monai_ssl.losses.pseudo_label import MaskedDiceCELoss
from monai_ssl.networks.teacher import make_teacher
from monai_ssl.objectives.base import Batch, TeacherObjective
from monai_ssl.transforms.mixing import cuboid_mask, cut_mix, draw_partners
from monai_ssl.utils.errors import UserError

__all__ = ["BidirectionalCopyPaste"]


class BidirectionalCopyPaste(TeacherObjective):
    r"""Bidirectional copy-paste, and the copy-paste between labelled cases that it starts with.

    .. code-block:: text

        x, y labelled; u unlabelled; f student; g teacher; M true within one cuboid a batch, anywhere, side of the sides
        while progress < warmup, and without unlabelled cases:
            x', y'       = x, y with the cuboid M of another labelled case
            L_supervised = loss(f(x'), y'),  L_pseudo = 0;  after the step g = f
        then, with the batch's first half (x_a, y_a), u_a and second half (x_b, y_b), u_b:
            y^           = argmax softmax(g(u))                            no gradient
            inward       = x_a, in M u_a;   labels y_a,  in M y^_a
            outward      = u_b, in M x_b;   labels y^_b, in M y_b
            L_supervised = mean of both mixes' masked_loss over the voxels with true labels
            L_pseudo     = mean of both mixes' masked_loss over the voxels with the teacher's
            after the step: g <- a g + (1 - a) f,  a = decay

    Each region of each mix is normalised by itself; the paper's loss is 2 (``supervised`` + 0.5 ``pseudo``). At weight
    zero of ``pseudo`` the true labels alone teach and the teacher is idle; unlabelled images are still what surrounds
    the labelled voxels, or lies within them, since that is the method. An odd batch has its middle case in both halves,
    so that one labelled and one unlabelled case are enough.

    Passes: in the first phase student 1 of B_l; then student 1 of B_l (of B_l + 1 where that is odd), teacher 1 of B_u
    without gradient. The teacher is in evaluation mode and is deployed (the authors test the student). Between labelled
    cases every case of the batch gets its cuboid, where the authors' code makes half as many mixes as it has cases.

    With ``labeled_only`` the first phase lasts for the whole run, there is no teacher, and the student is deployed: the
    baseline that tells what copy-paste alone gains. Dice is as ``loss`` and ``masked_loss`` have it; the authors'
    counts background as a class, case by case.

    Logged are ``pseudo_foreground``, the share of the unlabelled voxels that the teacher labels as foreground, whose
    way to 0 or 1 is a collapse, and ``confidence``, its mean largest probability; both are NaN in the first phase.

    Args:
        network: the student; maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``: that of the first phase.
        masked_loss: compares logits with labels where a mask ``(B, 1, H, W[, D])`` is true: that of the second phase;
            :class:`~monai_ssl.losses.MaskedDiceCELoss` by default.
        decay: of the moving average, the same from the first step on, in [0, 1).
        side: sides of the cuboid as a part of the volume's, in (0, 1]; 2/3 is 8/27 of the volume.
        warmup: share of the run that is the first phase, in [0, 1]; the paper's is 2,000 of 17,000 steps, and goes on
            from the best of it by the test scans' Dice. A network that finds nothing after it has nothing to teach.
            Let the weight of ``pseudo`` be 0 for as long, see :func:`monai_ssl.utils.schedules.switch_on`: else
            :class:`~monai_ssl.handlers.PseudoLabelAudit` warns of a term that is idle.
        largest_component: keep of each class the largest connected component of the teacher's labels, as the paper
            does; for organs that are one piece, and wrong for lesions. Done on the CPU, case by case.
        labeled_only: see above.
        weights: see :class:`~monai_ssl.objectives.Objective`; the terms are ``supervised`` and ``pseudo``.

    Raises:
        ValueError: when ``decay``, ``side`` or ``warmup`` is out of range.
        UserError: in a step, when there are not as many unlabelled as labelled cases.

    Reference:
        Y. Bai et al.: Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation, CVPR 2023,
        https://arxiv.org/abs/2305.00673.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        masked_loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        decay: float = 0.99,
        side: float = 2 / 3,
        warmup: float = 0.12,
        largest_component: bool = False,
        labeled_only: bool = False,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, decay, weights=weights)
        if not 0.0 < side <= 1.0:
            raise ValueError(f"`side` must be in (0, 1], got {side}.")
        if not 0.0 <= warmup <= 1.0:
            raise ValueError(f"`warmup` must be in [0, 1], a share of the run, got {warmup}.")
        self.loss = loss
        self.masked_loss = MaskedDiceCELoss() if masked_loss is None else masked_loss
        self.side = side
        self.warmup = warmup
        self.component = KeepLargestConnectedComponent(is_onehot=False) if largest_component else None
        self.teacher = None if labeled_only else make_teacher(network)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and, where there are unlabelled images and a teacher, ``pseudo``."""
        labeled = self.stream(batch, "labeled")
        self.figures = {}
        if self.teacher is None or "unlabeled" not in batch:
            return {"supervised": self._between_labeled(labeled)}
        if self.progress < self.warmup:
            supervised = self._between_labeled(labeled)
            nothing = torch.full_like(supervised.detach(), torch.nan)
            self.figures = {"pseudo_foreground": nothing, "confidence": nothing}
            return {"supervised": supervised, "pseudo": torch.zeros_like(nothing)}
        return self._both_ways(labeled["image"], labeled["label"].long(), batch["unlabeled"]["image"])

    def _between_labeled(self, labeled: Mapping[str, Tensor]) -> Tensor:
        image, label = labeled["image"], labeled["label"]
        cuboid = cuboid_mask(image.shape[2:], sides=self.side, device=image.device)
        image, label = cut_mix([image, label], cuboid, draw_partners(len(image), image.device))
        return self.loss(self.network(image), label)

    def _both_ways(self, x: Tensor, y: Tensor, u: Tensor) -> dict[str, Tensor]:
        if len(x) != len(u):
            raise UserError(
                "copy-paste pairs each labelled case with an unlabelled one: set labeled_batch_size and "
                f"unlabeled_batch_size to the same number, got {len(x)} and {len(u)}."
            )
        pseudo = self._labels(u)
        half = (len(x) + 1) // 2
        first, second = slice(None, half), slice(len(x) - half, None)
        cuboid = cuboid_mask(x.shape[2:], sides=self.side, device=x.device)
        inward = cut_mix([x[first], y[first]], cuboid, [u[first], pseudo[first]])
        outward = cut_mix([u[second], pseudo[second]], cuboid, [x[second], y[second]])
        logits = self.network(torch.cat([inward[0], outward[0]]))
        within = cuboid.expand(half, -1, *x.shape[2:])
        inner, outer = (logits[:half], inward[1]), (logits[half:], outward[1])
        return {
            "supervised": (self.masked_loss(*inner, ~within) + self.masked_loss(*outer, within)) / 2,
            "pseudo": (self.masked_loss(*inner, within) + self.masked_loss(*outer, ~within)) / 2,
        }

    @torch.no_grad()
    def _labels(self, images: Tensor) -> Tensor:
        confidence, labels = torch.softmax(self.labeler(images).float(), dim=1).max(dim=1, keepdim=True)
        if self.component is not None:
            kept = [torch.as_tensor(self.component(case)).as_subclass(Tensor) for case in labels.cpu()]
            labels = torch.stack(kept).to(labels.device)
        self.figures = {"pseudo_foreground": (labels > 0).float().mean(), "confidence": confidence.mean()}
        return labels

    def teacher_decay(self, step: int) -> float:
        """0, a copy of the student, in the first phase; then the same at every step."""
        return 0.0 if self.progress < self.warmup else self.decay
