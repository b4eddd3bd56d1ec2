"""Two views of a scan are alike, and other scans are not."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from monai_ssl.losses.contrastive import nt_xent
from monai_ssl.losses.vicreg import vicreg_terms
from monai_ssl.objectives.base import Task
from monai_ssl.utils.errors import UserError

__all__ = ["ContrastiveViews", "RegularizedViews"]


class ContrastiveViews(Task):
    r"""The views of a scan find each other among those of the batch.

    .. code-block:: text

        z          = h(f(views)),  (B, V, F)
        L_contrast = NT-Xent(z, temperature)

    Where the stream says by ``scan`` which scan a case is of, crops of one scan are no negatives of each other. The
    share of anchors whose nearest neighbour is a view of the same case is logged as ``contrast_accuracy``.

    Args:
        image: entry with the views, ``(B, V, C, H, W, D)``, or with the V views of a case one behind the other as
            ``(B * V, C, H, W, D)``.
        views: number V of views.
        temperature: of the softmax; 0.5 in Swin UNETR.
        head: projection head.

    Reference:
        T. Chen et al.: A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020,
        https://arxiv.org/abs/2002.05709, equation 1.
    """

    def __init__(
        self, image: str = "image", views: int = 2, temperature: float = 0.5, head: str = "projection"
    ) -> None:
        super().__init__(image, (head,))
        self.views = views
        self.temperature = temperature

    def forward(self, outputs: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The term ``contrast``.

        Raises:
            UserError: when the batch holds one scan alone.
        """
        features, scans = _by_case(outputs[self.heads[0]], self.views), entries.get("scan")
        if len(features) < 2 or (scans is not None and bool((scans == scans[0]).all())):
            raise UserError(
                "contrastive crops need two scans in every batch: list two unlabelled scans at least, and set "
                "unlabeled_batch_size to 2 or more."
            )
        self.figures = {"contrast_accuracy": _neighbours_of_the_same_case(features.detach())}
        return {"contrast": nt_xent(features, temperature=self.temperature, groups=scans)}


class RegularizedViews(Task):
    r"""The views of a scan agree, while the features of a batch keep their spread and are not copies of each other.

    .. code-block:: text

        z, z' = h(f(views))
        L_invariance = |z - z'|^2,  L_variance = hinge on the deviation of each feature,
        L_covariance = squares of the covariances between features

    The paper's weights are 25, 25 and 1.

    Args:
        image: see :class:`ContrastiveViews`.
        views: number of views; the terms are means over their pairs.
        head: projection head.

    Reference:
        A. Bardes, J. Ponce, Y. LeCun: VICReg, ICLR 2022, https://arxiv.org/abs/2105.04906.
    """

    def __init__(self, image: str = "image", views: int = 2, head: str = "projection") -> None:
        super().__init__(image, (head,))
        self.views = views

    def forward(self, outputs: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms ``invariance``, ``variance`` and ``covariance``."""
        features = _by_case(outputs[self.heads[0]], self.views)
        pairs = [vicreg_terms(features[:, i], features[:, j]) for i, j in combinations(range(self.views), 2)]
        return {name: torch.stack([pair[name] for pair in pairs]).mean() for name in pairs[0]}


def _by_case(features: Tensor, views: int) -> Tensor:
    if len(features) % views:
        raise ValueError(f"`views` must divide the {len(features)} images of a batch, got {views}.")
    return features.unflatten(0, (-1, views))


def _neighbours_of_the_same_case(features: Tensor) -> Tensor:
    cases, views, _ = features.shape
    flat = torch.nn.functional.normalize(features.flatten(0, 1).float(), dim=1)
    similar = flat @ flat.T
    similar.fill_diagonal_(-torch.inf)
    own = torch.arange(cases, device=flat.device).repeat_interleave(views)
    return (own[similar.argmax(1)] == own).float().mean()
