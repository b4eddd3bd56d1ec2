"""Two teachers that follow one student in turn, each in steps of its own kind of view, and label together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from monai_ssl.losses.confidence import kept_fraction
from monai_ssl.losses.entropy import predictive_entropy
from monai_ssl.losses.pseudo_label import MaskedDiceCELoss
from monai_ssl.networks.fit import evaluation
from monai_ssl.networks.teacher import make_teacher, update_average
from monai_ssl.objectives.base import Batch, TeacherObjective
from monai_ssl.transforms.mixing import checked_volume, cuboid_mask, cut_mix, draw_partners
from monai_ssl.utils.predictions import predicted_classes
from monai_ssl.utils.schedules import ema_decay
from monai_ssl.utils.seeding import derive_seed

__all__ = ["DualTeacher"]


class DualTeacher(TeacherObjective):
    r"""Alternate diverse teaching: two moving averages of one student, from different steps and views.

    .. code-block:: text

        x, y labelled; u weak view, s intensity view of an unlabelled case, both of one geometry
        f student; g_1, g_2 teachers
        turn of g_1: v = s;  turn of g_2: v = u with a random cuboid of another case, y^ and m cut alike
        L_supervised = loss(f(x), y)
        p_k          = softmax(g_k(u)),  w_k = exp(-H(p_k)) / sum_j exp(-H(p_j))           no gradient
        p            = w_1 p_1 + w_2 p_2,  y^ = argmax_c p_c
        where argmax p_1 and argmax p_2 differ: y^ and its confidence are those of softmax(f(u)), if its class is
        another one and surer
        m            = confidence > threshold
        L_pseudo     = pseudo_loss(f(v), y^, m)
        after the step, the teacher whose turn it is: g_k <- a g_k + (1 - a) f,
        a = min(1 - 1/(n_k + 1), decay), n_k its updates so far

    Steps come in blocks of ``longest_turn`` + 1. In each the first teacher has a turn of 1 to ``longest_turn`` steps,
    drawn uniformly from seed and block, and the second one the rest, which is uniform too. So whose turn it is depends
    on the step alone; the authors draw each turn apart. Two things are beside the authors' code, too: the student's
    view of a conflict is weighed before the cuboids are cut and not after, when the two no longer lie over each other,
    and it is in evaluation mode for that. Entropy is in nats, in bits there; they let both teachers be copies of the
    student for the first 80 steps.

    Passes: student 1 of B_l + B_u with gradient and 1 of B_u without, teachers 1 of B_u each without. The teachers are
    in evaluation mode; the first one is deployed, which the authors test. With instance norm the supervised term does
    not depend on the unlabelled images. A single unlabelled case has no other one to be mixed with: take an unlabelled
    batch of 2 or more.

    Logged are ``kept`` and ``kept_foreground``, the share of the unlabelled voxels, and of those with a foreground
    label, that are above the threshold, ``conflict``, the share where the teachers differ (0 for long: they are one
    network), and ``overruled``, the share of all voxels where the student's class was taken.

    Args:
        network: the student; maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        pseudo_loss: compares logits with labels ``(B, 1, H, W[, D])`` where a mask of that shape is true;
            :class:`~monai_ssl.losses.MaskedDiceCELoss` by default. The authors take cross-entropy in 3D, Dice in 2D.
        threshold: confidence above which a label is kept, in [0, 1); the authors' is 0.8 in 3D, 0.95 in 2D.
        decay: the largest decay of the moving averages, in [0, 1).
        longest_turn: steps of a turn at most, from 1; half a pass over the unlabelled cases there: 19 in 3D, 50 in 2D.
        mix_volume: least and greatest part of the volume that a cuboid has, in [0, 1]; about the authors'.
        seed: of the turns' lengths.
        strong: entry of the unlabelled stream with the intensity view.
        weights: see :class:`~monai_ssl.objectives.Objective`; the terms are ``supervised`` and ``pseudo``.

    Raises:
        ValueError: when an argument is out of range.
        UserError: in a step, when the unlabelled stream has no entry ``strong``.

    Reference:
        Z. Zhao et al.: Alternate Diverse Teaching for Semi-supervised Medical Image Segmentation, ECCV 2024,
        https://arxiv.org/abs/2311.17325.
    """

    updates: Tensor

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        pseudo_loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
        threshold: float = 0.8,
        decay: float = 0.99,
        longest_turn: int = 19,
        mix_volume: Sequence[float] = (0.1, 0.6),
        seed: int = 0,
        strong: str = "strong",
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, decay, threshold, weights)
        if longest_turn < 1:
            raise ValueError(f"`longest_turn` must be at least 1 step, got {longest_turn}.")
        self.loss = loss
        self.pseudo_loss = MaskedDiceCELoss() if pseudo_loss is None else pseudo_loss
        self.longest_turn = longest_turn
        self.mix_volume = checked_volume(mix_volume, "mix_volume")
        self.seed = seed
        self.strong = strong
        self.teachers = nn.ModuleList([make_teacher(network), make_teacher(network)])
        # beside the network from the start: DDP cannot hand round buffers that lie elsewhere
        device = next(network.parameters()).device
        self.register_buffer("updates", torch.zeros(2, dtype=torch.int64, device=device))

    def averages(self) -> nn.ModuleList:
        """Both teachers."""
        return self.teachers

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and, where there are unlabelled images, ``pseudo``."""
        labeled = self.stream(batch, "labeled")
        self.figures = {}
        if "unlabeled" not in batch:
            return {"supervised": self.loss(self.network(labeled["image"]), labeled["label"])}
        weak, view = batch["unlabeled"]["image"], self.entry(batch["unlabeled"], self.strong)
        pseudo, kept = self._labels(weak)
        if self.turn(int(self.updates.sum())) == 1:
            partners = draw_partners(len(weak), weak.device)
            cuboids = cuboid_mask(weak.shape[2:], len(weak), volume=self.mix_volume, device=weak.device)
            view, pseudo, kept = cut_mix([weak, pseudo, kept], cuboids, partners)
        count = len(labeled["image"])
        logits = self.network(torch.cat([labeled["image"], view]))
        return {
            "supervised": self.loss(logits[:count], labeled["label"]),
            "pseudo": self.pseudo_loss(logits[count:], pseudo, kept),
        }

    @torch.no_grad()
    def _labels(self, weak: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (torch.softmax(teacher(weak).float(), dim=1) for teacher in self.teachers)
        trust = torch.softmax(-torch.cat([predictive_entropy(first), predictive_entropy(second)], dim=1), dim=1)
        confidence, pseudo = (trust[:, :1] * first + trust[:, 1:] * second).max(dim=1, keepdim=True)
        with evaluation(self.network):
            surety, own = torch.softmax(self.network(weak).float(), dim=1).max(dim=1, keepdim=True)
        conflict = predicted_classes(first, keepdim=True) != predicted_classes(second, keepdim=True)
        overruled = conflict & (own != pseudo) & (surety > confidence)
        pseudo, confidence = torch.where(overruled, own, pseudo), torch.where(overruled, surety, confidence)
        kept, foreground = confidence > self.threshold, pseudo > 0
        self.figures = {
            "kept": kept_fraction(kept),
            "kept_foreground": (kept & foreground).sum() / foreground.sum().clamp_min(1),
            "conflict": conflict.float().mean(),
            "overruled": overruled.float().mean(),
        }
        return pseudo, kept

    def turn(self, step: int) -> int:
        """Whose turn optimiser step ``step`` is: 0 for the first teacher, 1 for the second."""
        block, place = divmod(step, self.longest_turn + 1)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "turn", block))
        return int(place >= int(torch.randint(1, self.longest_turn + 1, (), generator=generator)))

    def reset_teacher(self) -> None:
        """Copy the student into both teachers, and count their updates anew."""
        super().reset_teacher()
        self.updates.zero_()

    def update_teacher(self, step: int) -> None:
        """Average the student into the teacher whose turn it is."""
        turn = self.turn(step)
        update_average(self.teachers[turn], self.network, ema_decay(int(self.updates[turn]), maximum=self.decay))
        self.updates[turn] += 1
