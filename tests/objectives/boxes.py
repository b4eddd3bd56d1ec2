"""A small detector and a small batch with boxes for tests of detection methods."""

from __future__ import annotations

import torch
from monai.networks.nets import ResNet
from torch import Tensor, nn

from monai_ssl.networks.detector import Detector

Batch = dict[str, dict[str, Tensor]]

SIDE = 12


def detector(num_classes: int = 1) -> Detector:
    """Strides 2 and 4, cubic anchors of 4 and 8 voxels: 6 x 6 x 6 and 3 x 3 x 3 of them in a patch.

    MONAI's ResNet has batch norm within its blocks whatever it is told; here a case does not depend on the others.
    """
    backbone = ResNet(
        "basic", [1, 1, 1, 1], [4, 8, 8, 8], n_input_channels=1, conv1_t_size=3, conv1_t_stride=2, no_max_pool=True
    )
    for parent in list(backbone.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm3d):
                setattr(parent, name, nn.GroupNorm(2, child.num_features))
    return Detector(backbone, [[4, 4, 4]], levels=(1, 2), channels=8, num_classes=num_classes)


def patches(labeled: int = 2, unlabeled: int = 2, num_classes: int = 1) -> Batch:
    """Noise with a bright cuboid, in the last labelled patch none; the boxes have a spare row."""
    boxes = torch.full((labeled, 2, 6), torch.nan)
    labels = torch.full((labeled, 2), -1)
    images = 0.3 * torch.randn(labeled + unlabeled, 1, SIDE, SIDE, SIDE)
    for case in range(labeled + unlabeled):
        low = torch.randint(1, 6, (3,))
        high = low + torch.randint(3, 6, (3,))
        x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        if case != labeled - 1:
            images[case, 0, x, y, z] += 3.0
        if case < labeled - 1:
            boxes[case, 1] = torch.cat([low, high]).float()
            labels[case, 1] = case % num_classes
    return {
        "labeled": {"image": images[:labeled], "box": boxes, "label": labels},
        "unlabeled": {"image": images[labeled:]},
    }


def without_objects(batch: Batch) -> Batch:
    """The same patches, none with a box."""
    labeled = batch["labeled"]
    nothing = {"box": torch.full_like(labeled["box"], torch.nan), "label": torch.full_like(labeled["label"], -1)}
    return {**batch, "labeled": {**labeled, **nothing}}
