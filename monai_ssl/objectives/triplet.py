"""An image is nearer to its own changed copy than to another scan."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from monai_ssl.losses.triplet import feature_triplet
from monai_ssl.objectives.base import Task
from monai_ssl.utils.errors import UserError

__all__ = ["Triplet"]


class Triplet(Task):
    r"""Exemplar learning with triplets.

    .. code-block:: text

        a, p      = h(f(views))           the anchor, a changed copy, and its original
        n         = p of the next case of the batch that is of another scan
        L_triplet = max(0, D(a, p) - D(a, n) + margin),   D the mean of squared differences over features

    Args:
        image: entry with anchor and positive of each case, ``(B, 2, C, H, W, D)`` or ``(B * 2, C, H, W, D)``.
        margin: by which the other scan must be farther away.
        normalize: compare directions alone; features then cannot grow to satisfy the margin.
        head: projection head.

    Reference:
        A. Taleb et al.: 3D Self-Supervised Methods for Medical Imaging, NeurIPS 2020,
        https://arxiv.org/abs/2006.03829 (3D exemplar networks).
    """

    def __init__(
        self, image: str = "image", margin: float = 1.0, normalize: bool = False, head: str = "projection"
    ) -> None:
        super().__init__(image, (head,))
        self.margin = margin
        self.normalize = normalize

    def forward(self, outputs: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The term ``triplet``.

        Raises:
            UserError: when the batch has one case, so that there is no other scan.
        """
        anchor, positive = outputs[self.heads[0]].unflatten(0, (-1, 2)).unbind(1)
        negative = positive[_next_other_scan(entries.get("scan", torch.arange(len(anchor), device=anchor.device)))]
        term = feature_triplet(anchor, positive, negative, margin=self.margin, normalize=self.normalize)
        near, far = ((anchor - other).detach().float().square().mean(1) for other in (positive, negative))
        self.figures = {"triplet_accuracy": (near < far).float().mean()}
        return {"triplet": term}


def _next_other_scan(scans: Tensor) -> Tensor:
    """Place of the next case of another scan, for each case of a batch."""
    place = torch.arange(len(scans), device=scans.device)
    behind = (place[:, None] + place + 1) % len(scans)  # the places behind each case, the nearest first
    other = scans[behind] != scans[:, None]
    if not other.any():
        raise UserError(
            "triplets need another scan in every batch: list two unlabelled scans at least, and set "
            "unlabeled_batch_size to 2 or more."
        )
    return behind.gather(1, other.int().argmax(1, keepdim=True))[:, 0]
