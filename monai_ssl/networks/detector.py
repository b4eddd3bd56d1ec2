"""One-stage detector: a residual network with a feature pyramid and two heads, its matching and box codes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.apps.detection.utils.ATSS_matcher import ATSSMatcher
from monai.apps.detection.utils.box_coder import BoxCoder
from monai.networks.nets.resnet import ResNet
from torch import Tensor

from monai_ssl.networks.anchors import CenteredAnchorGenerator, flatten_maps
from monai_ssl.networks.encoder import EncoderTaps
from monai_ssl.networks.feature_pyramid import FeaturePyramid
from monai_ssl.utils.errors import UserError

__all__ = ["Detector"]


class Detector(RetinaNet):
    """RetinaNet over a ResNet, with all that training and inference need to know of its anchors.

    What the heads say of each anchor is a logit per class, without a background class, and a box code: the offset of
    the centre in units of the anchor's sides, and the logarithm of the ratio of sides, all with weight 1. At the start
    every logit stands for a probability of about 0.01. Boxes are in voxel edge coordinates of the patch, ``[0, L]``,
    lower corner, then upper one.

    Args:
        backbone: see :class:`~monai_ssl.networks.feature_pyramid.FeaturePyramid`; changed.
        anchor_shapes: voxels along each axis, of the anchors at each place of the finest level, for ``anchor_scales``
            that begin with 1. Times the scales they should span the sizes of the objects.
        levels: stages of the backbone that are read.
        anchor_scales: factor of the shapes at each level; default 1, 2, 4, .., as the strides grow.
        channels: of the pyramid and the heads, a multiple of 8. They are most of the cost.
        num_classes: number C of classes.
        num_candidates: places on each level among which ATSS chooses the anchors of an object.
        center_in_box: let ATSS choose only anchors whose centre is in the object; too strict for objects of a few
            voxels.

    Attributes:
        strides: of each level along each axis, in voxels.
        size_divisible: what a patch must be a multiple of along each axis: the coarsest strides.
        anchor_generator: of the anchors; for MONAI's RetinaNetDetector.
        coder: of the boxes.

    Shape:
        - Input: ``(B, C_in, H, W[, D])``
        - Output: ``{"classification": [(B, A * C, h, w[, d]), ..], "box_regression": [(B, A * 6, h, w[, d]), ..]}``,
          one map a level, the finest first, float32

    Raises:
        UserError: when the backbone does not fit, or a patch is no multiple of the strides.
        ValueError: when another argument does not fit.

    Reference:
        T.-Y. Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017, https://arxiv.org/abs/1708.02002; the
        matching is that of S. Zhang et al.: Bridging the Gap Between Anchor-based and Anchor-free Detection via
        Adaptive Training Sample Selection, CVPR 2020, https://arxiv.org/abs/1912.02424.
    """

    feature_extractor: FeaturePyramid

    def __init__(
        self,
        backbone: ResNet,
        anchor_shapes: Sequence[Sequence[float]],
        levels: Sequence[int] = (1, 2, 3),
        anchor_scales: Sequence[float] | None = None,
        channels: int = 32,
        num_classes: int = 1,
        num_candidates: int = 4,
        center_in_box: bool = False,
    ) -> None:
        scales = [2.0 ** (level - levels[0]) for level in levels] if anchor_scales is None else list(anchor_scales)
        if len(scales) != len(levels):
            raise ValueError(
                f"`anchor_scales` must be one for each of the {len(levels)} levels {list(levels)}, got {scales}."
            )
        if channels < 8 or channels % 8:
            raise ValueError(f"`channels` must be a multiple of 8, as the heads normalise 8 groups, got {channels}.")
        if num_classes < 1:
            raise ValueError(f"`num_classes` must be at least 1, got {num_classes}.")
        generator = CenteredAnchorGenerator(scales, anchor_shapes)
        pyramid = FeaturePyramid(backbone, levels, channels)
        axes = len(pyramid.strides[0])
        if generator.spatial_dims != axes:
            raise ValueError(f"`anchor_shapes` must have {axes} axes as the backbone, got {generator.spatial_dims}.")
        super().__init__(axes, num_classes, len(anchor_shapes), pyramid, pyramid.strides[-1])
        self.anchor_generator = generator
        self.anchor_shapes = tuple(tuple(float(side) for side in shape) for shape in anchor_shapes)
        self.strides = pyramid.strides
        self.matcher = ATSSMatcher(num_candidates, center_in_gt=center_in_box)
        self.coder = BoxCoder(weights=(1.0,) * 2 * axes)
        self._last_anchors: tuple[object, Tensor] | None = None

    @property
    def encoder(self) -> ResNet:
        """The backbone."""
        return self.feature_extractor.encoder

    def encoder_taps(self) -> EncoderTaps:
        """See :func:`~monai_ssl.networks.encoder_taps`."""
        return self.feature_extractor.encoder_taps()

    def check_patch_size(self, patch_size: Sequence[int]) -> None:
        """Refuse a patch that the coarsest strides do not divide, as the anchors would not tile it.

        Args:
            patch_size: voxels along each axis.

        Raises:
            UserError: when they do not.
        """
        steps = self.size_divisible
        if len(patch_size) != len(steps):
            raise UserError(f"patch_size {list(patch_size)} must have {len(steps)} axes, as the detector has.")
        pairs = list(zip(patch_size, steps, strict=True))
        if any(side < 1 or side % step for side, step in pairs):
            near = [max(1, round(side / step)) * step for side, step in pairs]
            raise UserError(
                f"patch_size {list(patch_size)} must be multiples of {list(steps)}, the strides of the detector's "
                f"coarsest level; {near} would do."
            )

    def forward(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Maps of logits and of box codes."""
        self.check_patch_size(images.shape[2:])
        maps = self.feature_extractor(images)
        # float32 under autocast, too: a box in half precision has steps of half a voxel from 512 voxels on
        return {
            self.cls_key: [logits.float() for logits in self.classification_head(maps)],
            self.box_reg_key: [codes.float() for codes in self.regression_head(maps)],
        }

    def flatten(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps of all levels in the order of :meth:`anchors`; see :func:`~monai_ssl.networks.anchors.flatten_maps`."""
        return flatten_maps(maps, self.num_anchors)

    def anchors(self, patch_size: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """The anchors of a patch; those of the last size and device are kept.

        Args:
            patch_size: voxels along each axis.
            device: of the output; the network's own by default.

        Shape:
            - Output: ``(N, 4 or 6)``, ``N`` the sum over the levels of ``h * w[ * d] * A``; the same object on
              a further call, not to be changed

        Raises:
            UserError: when the strides do not divide the patch.
        """
        self.check_patch_size(patch_size)
        device = next(self.parameters()).device if device is None else torch.device(device)
        key = (tuple(patch_size), device)
        if self._last_anchors is None or self._last_anchors[0] != key:
            with torch.inference_mode(False):  # a validation may ask first, and training needs an ordinary tensor
                self.anchor_generator.set_cell_anchors(torch.float32, device)
                self._last_anchors = (
                    key,
                    torch.cat(self.anchor_generator.grid_anchors(self._grids(patch_size), self.strides)),
                )
        return self._last_anchors[1]

    def match(self, boxes: Tensor, labels: Tensor, patch_size: Sequence[int]) -> Tensor:
        """The object of each anchor, by adaptive training sample selection.

        That selection can leave an object without an anchor: where its candidates overlap it in halves, well and badly,
        none reaches the mean plus the standard deviation. Such an object gets the free anchors that overlap it most,
        so that none is taught as background.

        Args:
            boxes: objects of each case; rows without an object hold anything, NaN for instance.
            labels: their classes, below 0 in rows without an object.
            patch_size: voxels along each axis.

        Shape:
            - boxes: ``(B, M, 4 or 6)``
            - labels: ``(B, M)``
            - Output: ``(B, N)``, int64: the row in ``boxes``, or -1

        Raises:
            ValueError: when an object's box is not finite.
        """
        anchors = self.anchors(patch_size, boxes.device)
        places = [math.prod(grid) for grid in self._grids(patch_size)]
        matched = torch.full((len(boxes), len(anchors)), -1, dtype=torch.int64, device=boxes.device)
        for case, rows in enumerate(labels >= 0):
            index = rows.nonzero().flatten()
            if len(index) == 0:
                continue
            objects = boxes[case, index].float()
            if not objects.isfinite().all():
                raise ValueError(f"`boxes` must be finite where `labels` is 0 or above, got {objects.tolist()}.")
            overlaps, chosen = self.matcher(objects, anchors, places, self.num_anchors)
            for lost in set(range(len(objects))) - set(chosen.unique().tolist()):
                free = overlaps[lost].masked_fill(chosen >= 0, 0.0)
                chosen[(free > 0) & (free >= free.max() - 1e-5)] = lost  # a symmetric place has several
            matched[case] = torch.where(chosen >= 0, index[chosen.clamp_min(0)], -1)
        return matched

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Codes of boxes with respect to an anchor each.

        Shape:
            - boxes, anchors: ``(N, 4 or 6)``
            - Output: the same

        Raises:
            ValueError: when a box has a side of no length.
        """
        return self.coder.encode_single(boxes, anchors)

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """Boxes from codes; a box is at most 62.5 times as long as its anchor.

        Shape:
            - codes: ``(..., N, 4 or 6)``
            - anchors: ``(N, 4 or 6)``
            - Output: as ``codes``
        """
        flat = codes.flatten(0, -2)
        return self.coder.decode_single(flat, anchors.expand_as(codes).reshape(flat.shape)).view(codes.shape)

    def _grids(self, patch_size: Sequence[int]) -> list[list[int]]:
        return [[side // step for side, step in zip(patch_size, steps, strict=True)] for steps in self.strides]
