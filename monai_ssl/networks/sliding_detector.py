"""Inference of a detector over whole volumes: windows whose feature maps lie on the grid of the volume's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.inferers.inferer import SlidingWindowInferer
from torch import Tensor

from monai_ssl.networks.detector import Detector
from monai_ssl.utils.errors import UserError

__all__ = ["AlignedWindowInferer", "sliding_detector"]


class AlignedWindowInferer(SlidingWindowInferer):
    """Sliding windows that begin at multiples of a detector's strides, for outputs of several resolutions.

    MONAI's own puts the windows anywhere and rounds their place in the coarser maps, and pads a volume smaller than the
    window on both sides, by what may be half a cell: scores then belong to other anchors than they are read for. Here
    the step is a multiple of ``divisible``, and a small volume is continued by its edge, at its end.

    Args:
        roi_size: voxels of a window along each axis, multiples of ``divisible``.
        divisible: the coarsest strides.
        overlap: share of a window that the next one covers, at least; in [0, 1).
        kwargs: of MONAI's SlidingWindowInferer.

    Shape:
        - Input: ``(B, C, H, W[, D])``, multiples of ``divisible``
        - Output: what the network gives, of the whole volume

    Raises:
        ValueError: when ``roi_size`` is no multiple of ``divisible``, or ``overlap`` is out of range.
    """

    def __init__(self, roi_size: Sequence[int], divisible: Sequence[int], overlap: float = 0.25, **kwargs: Any) -> None:
        if not 0.0 <= overlap < 1.0:
            raise ValueError(f"`overlap` must be in [0, 1), got {overlap}.")
        if len(roi_size) != len(divisible) or any(
            side < 1 or side % step for side, step in zip(roi_size, divisible, strict=True)
        ):
            raise ValueError(f"`roi_size` must be multiples of {list(divisible)}, got {list(roi_size)}.")
        steps = [
            max(step, int(side * (1.0 - overlap) + 1e-6) // step * step)
            for side, step in zip(roi_size, divisible, strict=True)
        ]
        # MONAI cuts side * (1 - overlap) off to an integer; the half voxel keeps rounding errors away from it
        shares = [max(0.0, 1.0 - (step + 0.5) / side) for side, step in zip(roi_size, steps, strict=True)]
        self.window = tuple(roi_size)
        super().__init__(self.window, overlap=shares, **kwargs)

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All maps of the volume, a tuple where the network gives several."""
        size = inputs.shape[2:]
        padded = _continued(inputs, [max(pair) for pair in zip(self.window, size, strict=True)])
        outputs = super().__call__(padded, network, *args, **kwargs)
        if isinstance(outputs, Tensor):
            return _cropped(outputs, size, padded.shape[2:])
        return tuple(_cropped(each, size, padded.shape[2:]) for each in outputs)


class _ScanDetector(RetinaNetDetector):
    """MONAI's detector, but for what lies beyond a scan and what stays after it.

    MONAI pads to multiples of the strides with 0, in a CT window of -1000 to 400 HU a wall of -300 HU at which a
    detector finds things; here the edge goes on, as it does in patches of training that are larger than their volume.
    And the anchors of a scan, which may be half a gigabyte, are not kept for a next one of the same size.
    """

    def forward(self, input_images: Any, input_targets: Any = None, use_inferer: bool = False) -> Any:
        """See MONAI's."""
        self._sizes = [list(image.shape[1:]) for image in input_images]
        longest = (max(sides) for sides in zip(*self._sizes, strict=True))
        size = [-(-side // step) * step for side, step in zip(longest, self.size_divisible, strict=True)]
        if isinstance(input_images, Tensor):
            images = _continued(input_images, size)
        else:
            images = torch.cat([_continued(image[None], size) for image in input_images])
        try:
            return super().forward(images, input_targets, use_inferer)
        finally:
            self.anchors = self.previous_image_shape = None

    def postprocess_detections(
        self, head_outputs_reshape: Any, anchors: Any, image_sizes: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """See MONAI's; boxes are clipped to the images without what was added."""
        return super().postprocess_detections(head_outputs_reshape, anchors, self._sizes, *args, **kwargs)


def sliding_detector(
    network: Detector,
    patch_size: Sequence[int],
    overlap: float = 0.25,
    score_threshold: float = 0.02,
    overlap_threshold: float = 0.22,
    max_boxes: int = 100,
    windows_at_once: int = 1,
    mode: str = "constant",
    keys: Sequence[str] = ("box", "label"),
) -> RetinaNetDetector:
    """MONAI's detector for inference around a network, with windows for volumes larger than a patch.

    Called with images it gives their boxes, best first, as dictionaries; ``use_inferer=True`` goes through windows.
    Images are continued by their edge to multiples of the strides, and boxes clipped to the images. It is in evaluation
    mode; the network's own mode stays as it is, so call ``network.eval()`` as for any inference.

    Args:
        network: the same that is trained; it is shared.
        patch_size: voxels of a window, that of training as a rule.
        overlap: see :class:`AlignedWindowInferer`.
        score_threshold: boxes that score less are dropped. Low, since the free-response curve needs the weak ones, too.
        overlap_threshold: of two boxes of one class with a larger intersection over union the weaker one is dropped.
        max_boxes: for an image.
        windows_at_once: batch size of the windows.
        mode: ``constant`` or ``gaussian``, how overlapping windows are weighed.
        keys: names of boxes and labels in the output; the scores' is the labels' and ``_scores``.

    Raises:
        UserError: when the network is no detector, as where weights are those of a segmentation, the strides do not
            divide ``patch_size``, or one of several levels has stride 1.
        ValueError: when a number is out of range.
    """
    if not isinstance(network, Detector):
        raise UserError(
            f"network_def: the weights are those of {type(network).__name__}, which is no detector. Give --weights the "
            "model.pt of a training of this bundle."
        )
    for name, share in (("score_threshold", score_threshold), ("overlap_threshold", overlap_threshold)):
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"`{name}` must be in [0, 1], got {share}.")
    for name, number in (("max_boxes", max_boxes), ("windows_at_once", windows_at_once)):
        if number != int(number) or number < 1:
            raise ValueError(f"`{name}` must be a whole number from 1, got {number}.")
    network.check_patch_size(patch_size)
    if len(network.strides) > 1 and set(network.strides[0]) == {1}:
        # MONAI's inferer has one map of weights for all outputs and fails where a finer output follows a coarser one
        raise UserError(
            f"network_def: levels of strides {[list(steps) for steps in network.strides]} cannot be put together from "
            "windows. Leave out the level of stride 1, or let it be the only one."
        )
    box_key, label_key = keys
    detector = _ScanDetector(
        network,
        network.anchor_generator,
        spatial_dims=network.spatial_dims,
        num_classes=network.num_classes,
        size_divisible=network.size_divisible,
    )
    detector.box_coder = network.coder
    detector.set_target_keys(box_key, label_key)
    detector.set_box_selector_parameters(
        score_thresh=score_threshold,
        nms_thresh=overlap_threshold,
        detections_per_img=max_boxes,
        topk_candidates_per_level=1000,
    )
    detector.inferer = AlignedWindowInferer(
        patch_size, network.size_divisible, overlap, sw_batch_size=windows_at_once, mode=mode
    )
    detector.training = False  # eval() would reach into the network
    return detector


def _continued(images: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat the last voxel of every axis up to a size."""
    missing = [side - given for side, given in zip(size, images.shape[2:], strict=True)]
    pads = [number for width in reversed(missing) for number in (0, width)]
    return F.pad(images, pads, mode="replicate") if any(missing) else images


def _cropped(output: Tensor, size: Sequence[int], padded: Sequence[int]) -> Tensor:
    for axis, (side, full) in enumerate(zip(size, padded, strict=True), start=2):
        output = output.narrow(axis, 0, side * output.shape[axis] // full)
    return output
