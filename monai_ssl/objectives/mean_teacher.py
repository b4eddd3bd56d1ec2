"""Mean teacher: the student agrees with a moving average of itself on unlabelled cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from monai_ssl.losses.consistency import softmax_consistency
from monai_ssl.losses.entropy import predictive_entropy
from monai_ssl.networks.teacher import dropout_active, make_teacher
from monai_ssl.objectives.base import Batch, TeacherObjective

__all__ = ["MeanTeacher"]


class MeanTeacher(TeacherObjective):
    r"""Mean teacher, and its uncertainty-aware form.

    .. code-block:: text

        x, y labelled; u unlabelled; f student; g teacher, the moving average of f
        L_supervised  = loss(f(x), y)
        q             = softmax(g(u + noise))                              no gradient
        m             = 1                                                  uncertainty_samples = 0
                      = H(mean of K softmax(g(u + noise_k))) < threshold   uncertainty_samples = K
        L_consistency = sum(m (softmax(f(u)) - q)^2) / (C sum(m))
        after the step: g <- a g + (1 - a) f,  a = min(1 - 1/(t + 1), decay)

    The student sees labelled and unlabelled images in one forward pass. The teacher is in evaluation mode (its
    running statistics are averaged too) and is deployed, as the papers evaluate it; for the K uncertainty passes its
    dropout is on. The threshold rises with the run's progress :math:`r` from 0.75 to 1 times the largest entropy:
    :math:`(0.75 + 0.25 \exp(-5 (1 - r)^2)) \ln C`.

    Args:
        network: the student; maps an image to logits.
        loss: compares logits ``(B, C, H, W[, D])`` with integer labels ``(B, 1, H, W[, D])``.
        decay: the largest decay of the moving average, in [0, 1).
        noise: standard deviation of the Gaussian noise on the teacher's input, clamped at twice its value; in units
            of the normalised intensity.
        uncertainty_samples: number K of noisy teacher passes that estimate the uncertainty; 0 trusts every voxel,
            the paper uses 8.
        weights: see :class:`~monai_ssl.objectives.Objective`; the terms are ``supervised`` and ``consistency``.

    Raises:
        ValueError: when ``decay``, ``noise`` or ``uncertainty_samples`` is out of range.

    Reference:
        A. Tarvainen, H. Valpola: Mean teachers are better role models, NeurIPS 2017,
        https://arxiv.org/abs/1703.01780. L. Yu et al.: Uncertainty-aware Self-ensembling Model for Semi-supervised
        3D Left Atrium Segmentation, MICCAI 2019, https://arxiv.org/abs/1907.07034, equations 2 to 4.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        decay: float = 0.99,
        noise: float = 0.1,
        uncertainty_samples: int = 0,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, decay, weights=weights)
        if noise < 0:
            raise ValueError(f"`noise` must be 0 or more, got {noise}.")
        if uncertainty_samples < 0:
            raise ValueError(f"`uncertainty_samples` must be 0 or more, got {uncertainty_samples}.")
        self.loss = loss
        self.noise = noise
        self.uncertainty_samples = uncertainty_samples
        self.teacher = make_teacher(network)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``supervised`` and, where there are unlabelled images, ``consistency``."""
        labeled = self.stream(batch, "labeled")
        if "unlabeled" not in batch:
            return {"supervised": self.loss(self.network(labeled["image"]), labeled["label"])}
        count, unlabeled = labeled["image"].shape[0], batch["unlabeled"]["image"]
        logits = self.network(torch.cat([labeled["image"], unlabeled]))
        target, mask = self._target(unlabeled)
        return {
            "supervised": self.loss(logits[:count], labeled["label"]),
            "consistency": softmax_consistency(logits[count:], target, mask),
        }

    @torch.no_grad()
    def _target(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        target = torch.softmax(self.teacher(self._noisy(images)).float(), dim=1)
        if self.uncertainty_samples == 0:
            return target, None
        mean = torch.zeros_like(target)
        with dropout_active(self.teacher):
            for _ in range(self.uncertainty_samples):
                mean += torch.softmax(self.teacher(self._noisy(images)).float(), dim=1) / self.uncertainty_samples
        threshold = (0.75 + 0.25 * math.exp(-5.0 * (1.0 - self.progress) ** 2)) * math.log(target.shape[1])
        return target, predictive_entropy(mean) < threshold

    def _noisy(self, images: Tensor) -> Tensor:
        noise = torch.randn_like(images) * self.noise
        return images + noise.clamp_(-2 * self.noise, 2 * self.noise)
