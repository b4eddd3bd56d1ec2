"""Restoring what a transform has destroyed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from monai_ssl.losses.reconstruction import masked_reconstruction
from monai_ssl.objectives.base import Task

__all__ = ["Reconstruction"]


class Reconstruction(Task):
    r"""Restore the clean image from a masked or otherwise changed one.

    .. code-block:: text

        L_reconstruction = mean over voxels of |h(f(masked)) - image|^p      p = 1 (l1) or 2 (mse)
                           over the masked voxels, or over all

    Masked volume inpainting, masked autoencoders, Models Genesis, context restoration and, without a change, the
    autoencoder differ in the transform that makes ``masked`` and in these settings alone.

    Args:
        image: entry with the changed image.
        target: entry with the clean one.
        mask: entry that is true where it was changed; needed for ``over="masked"``.
        kind: ``l1`` or ``mse``.
        over: ``masked`` or ``all``.
        head: reconstruction head, or the network's own output.
        name: of the term.

    Reference:
        K. He et al.: Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, https://arxiv.org/abs/2111.06377
        (``mse`` over the masked); Y. Tang et al., CVPR 2022, https://arxiv.org/abs/2111.14791 (``l1`` over all);
        Z. Zhou et al.: Models Genesis, Medical Image Analysis 67, 2021, https://arxiv.org/abs/2004.07882 (``mse`` over
        all).
    """

    def __init__(
        self,
        image: str = "masked",
        target: str = "image",
        mask: str | None = "mask",
        kind: Literal["l1", "mse"] = "mse",
        over: Literal["masked", "all"] = "masked",
        head: str = "reconstruction",
        name: str = "reconstruction",
    ) -> None:
        super().__init__(image, (head,))
        self.target = target
        self.mask = mask
        self.kind: Literal["l1", "mse"] = kind
        self.over: Literal["masked", "all"] = over
        self.name = name

    def forward(self, outputs: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The term."""
        mask = self.entry(entries, self.mask) if self.mask is not None and self.over == "masked" else None
        target = self.entry(entries, self.target)
        return {self.name: masked_reconstruction(outputs[self.heads[0]], target, mask, self.kind, self.over)}
