"""FocalMix: soft targets of anchors from several views, and mixing of patches and of objects, for detection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from monai_ssl.losses.anchors import box_regression, mean_over_positives, one_hot_targets
from monai_ssl.networks.anchor_targets import confident_boxes, soft_anchor_targets
from monai_ssl.networks.detector import Detector
from monai_ssl.networks.teacher import make_teacher
from monai_ssl.objectives.base import Batch, TeacherObjective
from monai_ssl.transforms.grid_symmetry import draw_symmetries, grid_symmetries
from monai_ssl.transforms.mixing import draw_partners, draw_weights, mix_up
from monai_ssl.transforms.object_mixing import draw_object_partners, mix_objects
from monai_ssl.utils.schedules import ramp_up

__all__ = ["FocalMix"]


class FocalMix(TeacherObjective):
    r"""FocalMix, and the supervised detector that it starts from.

    .. code-block:: text

        x labelled with boxes b and classes c; u unlabelled; f detector; g = f, or the moving average of f
        y_x   = 1 where an anchor is matched with an object of that class, else 0
        y_u   = sharpen(mean over K views of sigmoid(g(turned u)), turned back)       no gradient, evaluation mode
        b_u   = boxes whose y_u is above object_threshold, after suppression of doubles
        (x', y') = l (x, y) + (1 - l) (partner's), l = max(b, 1 - b), b ~ Beta(eta, eta)    x of labelled and unlabelled
        within the boxes of each patch: x' <- l' x' + (1 - l') another object of the batch and class, rescaled
        both come in over mix_ramp of the run: 1 - l times r, and an object is mixed with chance r
        L_classification = focal(f(x'), y') of all anchors of the labelled patches
        L_unlabeled      = the same of the unlabelled patches
        L_box            = smooth L1 of the codes of anchors with a labelled object, own times l or the partner's, 1 - l
        while progress < burn_in: r = 0, L_unlabeled = 0, and f sees x alone
        after the step, with a moving average: g <- a g + (1 - a) f,  a = min(1 - 1/(t + 1), decay)

    Both focal losses are sums over all anchors, none left out and none sampled, both divided by the number of anchors
    that a labelled patch has at an object (see :func:`~monai_ssl.losses.mean_over_positives`). Without an unlabelled
    stream, and with ``image_mix`` and ``object_mix`` off, this is the supervised detector with focal loss.

    At first the targets of unlabelled patches are noise, and mixed from the first step on they keep the detector from
    learning what the labels say; so does a batch norm that normalises few objects with many patches that have none.
    Hence the burn-in, in which labelled patches teach alone, and then the ramp r, which is that of
    :func:`~monai_ssl.utils.schedules.ramp_up`.

    Passes: g 1 of K B_u without gradient, f 1 of B_l + B_u with gradient.

    Mixed labelled patches have targets of unlabelled ones in ``classification``: a weight of 0 for ``unlabeled`` does
    not switch those off.

    Logged are ``mass``, the mean over unlabelled patches of the sum of their targets, ``sure``, the mean number of
    their anchors with a target above 0.5, ``objects``, the mean number of their boxes b_u, and ``positive``, the mean
    number of anchors with an object in a labelled patch. Where ``sure`` is 0 for long, nothing but background is
    learned from unlabelled patches. In the burn-in all but ``positive`` are NaN.

    Args:
        network: the detector.
        loss: of every element of logits, with targets in [0, 1] of the same shape, such as
            :class:`~monai_ssl.losses.SoftTargetFocalLoss` with ``reduction="none"``.
        spacing: mm of a voxel along each axis; axes that differ are not exchanged.
        exchange_axes: turn views by right angles, too; False: mirror them alone, for a detector that is not taught
            otherwise.
        views: number K, from 1; at most as many as the patch has such symmetries: 8 to 48.
        temperature: of the sharpening, above 0; below 1 targets under 0.5 go down.
        eta: both parameters of the Beta distribution that l is drawn from, above 0.
        image_mix: mix whole patches.
        object_mix: chance that an object is blended with another one, in [0, 1]; after the ramp.
        burn_in: share of the run in which labelled patches teach alone, in [0, 1].
        mix_ramp: share of the run from there until both kinds of mixing have their full strength, in [0, 1].
        object_threshold: target, sharpened, above which a box of an unlabelled patch is an object, in [0, 1). With a
            temperature of 0.7, 0.8 is a mean probability of 0.725.
        decay: the largest decay of a moving average that makes the targets and is deployed, in [0, 1), 0.99 say; None:
            the detector makes them itself and is deployed, as in the paper.
        weights: see :class:`~monai_ssl.objectives.Objective`; the terms are ``classification``, ``box`` and
            ``unlabeled``.

    Raises:
        ValueError: when an argument is out of range.

    Reference:
        D. Wang et al.: FocalMix: Semi-Supervised Learning for 3D Medical Image Detection, CVPR 2020,
        https://arxiv.org/abs/2003.09108, whose code is not public. Ours, as the paper is silent: l of one half at least
        (MixMatch), so that a patch keeps its place in the batch; the divisors; the threshold of objects; box regression
        from the partner's objects, too, each weighted by its part of the mix; the burn-in, after Y.-C. Liu et al.:
        Unbiased Teacher for Semi-Supervised Object Detection, ICLR 2021, https://arxiv.org/abs/2102.09480, section 3.1.
    """

    network: Detector

    def __init__(
        self,
        network: Detector,
        loss: Callable[[Tensor, Tensor], Tensor],
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        exchange_axes: bool = True,
        views: int = 4,
        temperature: float = 0.7,
        eta: float = 0.2,
        image_mix: bool = True,
        object_mix: float = 1.0,
        burn_in: float = 0.2,
        mix_ramp: float = 0.4,
        object_threshold: float = 0.8,
        decay: float | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        if not 0.0 <= object_threshold < 1.0:
            raise ValueError(f"`object_threshold` must be in [0, 1), got {object_threshold}.")
        super().__init__(network, 0.0 if decay is None else decay, object_threshold, weights)
        if views < 1:
            raise ValueError(f"`views` must be 1 or more, got {views}.")
        for name, value in (("temperature", temperature), ("eta", eta)):
            if not value > 0.0:
                raise ValueError(f"`{name}` must be above 0, got {value}.")
        for name, value in (("object_mix", object_mix), ("burn_in", burn_in), ("mix_ramp", mix_ramp)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"`{name}` must be in [0, 1], got {value}.")
        if not all(side > 0.0 for side in spacing):
            raise ValueError(f"`spacing` must be above 0 along each axis, got {list(spacing)}.")
        self.spacing = tuple(spacing)
        self.exchange_axes = exchange_axes
        self.views = views
        self.temperature = temperature
        self.eta = eta
        self.image_mix = image_mix
        self.object_mix = object_mix
        self.burn_in = burn_in
        self.mix_ramp = mix_ramp
        self.loss = loss
        self.teacher: nn.Module | None = None if decay is None else make_teacher(network)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms ``classification``, ``box`` and, where there are unlabelled images, ``unlabeled``."""
        labeled = self.stream(batch, "labeled")
        if "unlabeled" in batch and self.progress < self.burn_in:
            terms = self.forward({"labeled": labeled})
            nothing = torch.zeros_like(terms["classification"].detach())
            self.figures |= dict.fromkeys(("mass", "sure", "objects"), nothing / 0)
            return {**terms, "unlabeled": nothing}
        images, boxes, labels = labeled["image"], labeled["box"], labeled["label"]
        count = len(images)
        matched = self.network.match(boxes, labels, images.shape[2:])
        targets = one_hot_targets(matched, labels, self.network.num_classes)
        self.figures = {"positive": (matched >= 0).float().sum(1).mean()}
        if "unlabeled" in batch:
            soft, found, classes = self._unlabeled(batch["unlabeled"]["image"], boxes.shape[1])
            images, targets = torch.cat([images, batch["unlabeled"]["image"]]), torch.cat([targets, soft])
            boxes, labels = torch.cat([boxes, found]), torch.cat([labels, classes])
        own = images.new_ones(len(images))
        partners = torch.arange(len(images), device=images.device)
        strength = ramp_up(self.progress, length=self.mix_ramp, start=self.burn_in)
        if self.image_mix:
            own = 1.0 - strength * (1.0 - draw_weights(len(images), self.eta, dominant=True, device=images.device))
            partners = draw_partners(len(images), images.device)
        mixed, targets = mix_up([images, targets], own, partners)
        mixed = self._mix_objects(mixed, boxes, labels, strength)
        maps = self.network(mixed)
        logits, codes = (self.network.flatten(maps[key]) for key in (self.network.cls_key, self.network.box_reg_key))
        terms = {
            "classification": mean_over_positives(self.loss(logits[:count], targets[:count]), matched),
            "box": self._regression(codes, boxes, matched, own, partners, images.shape[2:]),
        }
        if len(images) > count:
            terms["unlabeled"] = mean_over_positives(self.loss(logits[count:], targets[count:]), matched)
        return terms

    @torch.no_grad()
    def _unlabeled(self, images: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Targets of all anchors, and sure boxes with their classes, as many rows as labelled patches have."""
        size, detector = images.shape[2:], self.network
        legal = grid_symmetries(size, self.spacing, detector.anchor_shapes, detector.strides)
        if not self.exchange_axes:
            legal = tuple(symmetry for symmetry in legal if symmetry.permutation == legal[0].permutation)
        symmetries = draw_symmetries(legal, min(self.views, len(legal)))
        targets, boxes = soft_anchor_targets(self.labeler, images, symmetries, self.temperature)  # type: ignore[arg-type]
        found, classes = confident_boxes(targets, boxes, size, self.threshold, count)
        self.figures |= {
            "mass": targets.sum((1, 2)).mean(),
            "sure": (targets > 0.5).float().sum((1, 2)).mean(),
            "objects": (~found.isnan().any(2)).float().sum(1).mean(),
        }
        return targets, found, classes

    def _mix_objects(self, images: Tensor, boxes: Tensor, labels: Tensor, strength: float) -> Tensor:
        partners = draw_object_partners(boxes, self.object_mix * strength, labels)
        shares = draw_weights(max(1, partners.numel()), self.eta, dominant=True)[: partners.numel()].view_as(partners)
        return mix_objects(images, boxes, partners, shares)

    def _regression(
        self, codes: Tensor, boxes: Tensor, matched: Tensor, own: Tensor, partners: Tensor, size: Sequence[int]
    ) -> Tensor:
        """Of every mixed patch, the labelled objects of both sources."""
        anchors = self.network.anchors(size, codes.device)
        said, wanted, shares = [], [], []
        for sources, weights in ((torch.arange(len(codes), device=codes.device), own), (partners, 1.0 - own)):
            labeled = (sources < len(matched)) & (weights > 0)
            rows = torch.full((len(codes), len(anchors)), -1, dtype=torch.int64, device=codes.device)
            rows[labeled] = matched[sources[labeled]]
            patch, anchor = (rows >= 0).nonzero(as_tuple=True)
            objects = boxes[sources[patch], rows[patch, anchor]]
            said.append(codes[patch, anchor])
            wanted.append(self.network.encode(objects, anchors[anchor]))
            shares.append(weights[patch])
        return box_regression(torch.cat(said), torch.cat(wanted), torch.cat(shares))
