"""Pseudo-labels for detection: boxes that the detector is sure of are objects of an unlabelled patch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from monai_ssl.losses.anchors import box_regression, mean_over_positives, one_hot_targets
from monai_ssl.networks.anchor_targets import confident_boxes, soft_anchor_targets
from monai_ssl.networks.detector import Detector
from monai_ssl.networks.teacher import make_teacher
from monai_ssl.objectives.base import Batch, TeacherObjective
from monai_ssl.transforms.grid_symmetry import GridSymmetry

__all__ = ["PseudoBoxes"]


class PseudoBoxes(TeacherObjective):
    r"""Hard pseudo-labels of boxes, made anew in every step.

    .. code-block:: text

        x labelled with boxes b and classes c; u unlabelled; f detector; g = f, or the moving average of f
        b_u, c_u         = boxes and classes of g(u) surer than threshold, after suppression of doubles     no gradient
        y, y_u           = 1 where an anchor is matched with an object of that class, else 0
        L_classification = focal(f(x), y),  L_unlabeled = focal(f(u), y_u)         all anchors
        L_box            = smooth L1 of the codes of the anchors matched with an object of b
        while progress < burn_in: L_unlabeled = 0, and f sees x alone
        after the step, with a moving average: g <- a g + (1 - a) f,  a = min(1 - 1/(t + 1), decay)

    What is not found is taken for background, so that a detector that misses learns to miss: the baseline that soft
    targets are compared with. Boxes of unlabelled patches teach no regression.

    Passes: g 1 of B_u without gradient, in evaluation mode, f 1 of B_l + B_u with gradient.

    Logged are ``objects``, the mean number of pseudo-boxes in an unlabelled patch, and ``positive``, the mean number of
    anchors with an object in a labelled patch. In the burn-in, for which see
    :class:`~monai_ssl.objectives.FocalMix`, ``objects`` is NaN.

    Args:
        network: the detector.
        loss: of every element of logits, with targets in [0, 1] of the same shape, such as
            :class:`~monai_ssl.losses.SoftTargetFocalLoss` with ``reduction="none"``.
        threshold: confidence above which a box is an object, in [0, 1).
        burn_in: share of the run in which labelled patches teach alone, in [0, 1].
        decay: the largest decay of a moving average that makes the boxes and is deployed, in [0, 1); None: the detector
            makes them itself and is deployed.
        weights: see :class:`~monai_ssl.objectives.Objective`; the terms are ``classification``, ``box`` and
            ``unlabeled``.

    Raises:
        ValueError: when an argument is out of range.

    Reference:
        D.-H. Lee: Pseudo-Label, ICML workshop 2013, for boxes; the focal loss as in
        :class:`~monai_ssl.objectives.FocalMix`.
    """

    network: Detector

    def __init__(
        self,
        network: Detector,
        loss: Callable[[Tensor, Tensor], Tensor],
        threshold: float = 0.8,
        burn_in: float = 0.2,
        decay: float | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(network, 0.0 if decay is None else decay, threshold, weights)
        if not 0.0 <= burn_in <= 1.0:
            raise ValueError(f"`burn_in` must be in [0, 1], got {burn_in}.")
        self.burn_in = burn_in
        self.loss = loss
        self.teacher: nn.Module | None = None if decay is None else make_teacher(network)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``classification``, ``box`` and, where there are unlabelled images, ``unlabeled``."""
        labeled = self.stream(batch, "labeled")
        if "unlabeled" in batch and self.progress < self.burn_in:
            terms = self.forward({"labeled": labeled})
            nothing = torch.zeros_like(terms["classification"].detach())
            self.figures["objects"] = nothing / 0
            return {**terms, "unlabeled": nothing}
        images, boxes, labels = labeled["image"], labeled["box"], labeled["label"]
        count, size, detector = len(images), images.shape[2:], self.network
        matched = detector.match(boxes, labels, size)
        targets = one_hot_targets(matched, labels, detector.num_classes)
        self.figures = {"positive": (matched >= 0).float().sum(1).mean()}
        if "unlabeled" in batch:
            images = torch.cat([images, batch["unlabeled"]["image"]])
            targets = torch.cat([targets, self._unlabeled(images[count:], boxes.shape[1])])
        maps = detector(images)
        logits, codes = (detector.flatten(maps[key]) for key in (detector.cls_key, detector.box_reg_key))
        patch, anchor = (matched >= 0).nonzero(as_tuple=True)
        wanted = detector.encode(boxes[patch, matched[patch, anchor]], detector.anchors(size, images.device)[anchor])
        terms = {
            "classification": mean_over_positives(self.loss(logits[:count], targets[:count]), matched),
            "box": box_regression(codes[patch, anchor], wanted, torch.ones_like(wanted[:, 0])),
        }
        if len(images) > count:
            terms["unlabeled"] = mean_over_positives(self.loss(logits[count:], targets[count:]), matched)
        return terms

    @torch.no_grad()
    def _unlabeled(self, images: Tensor, count: int) -> Tensor:
        size, labeler = images.shape[2:], self.labeler
        as_it_is = GridSymmetry(tuple(range(len(size))))
        probabilities, found = soft_anchor_targets(labeler, images, [as_it_is], temperature=1.0)  # type: ignore[arg-type]
        boxes, labels = confident_boxes(probabilities, found, size, self.threshold, count)
        self.figures["objects"] = (labels >= 0).float().sum(1).mean()
        return one_hot_targets(self.network.match(boxes, labels, size), labels, self.network.num_classes)
