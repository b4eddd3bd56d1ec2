"""A pretraining's reconstructions of scans it hides parts of, window by window."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Randomizable
from torch import Tensor, nn

from monai_ssl.networks.pretext_network import PretextNetwork
from monai_ssl.networks.transfer import load_weights

__all__ = ["MaskedRestoration", "load_restoration"]

logger = logging.getLogger(__name__)

_HEAD = "reconstruction"


class MaskedRestoration(nn.Module):
    """Windows as the network saw them in training, and what it makes of them.

    Every call draws from the same seed, so that what is hidden of a scan does not depend on other scans.

    Args:
        network: has a head ``reconstruction``; put into evaluation mode.
        masking: what training does to the entry ``masked``, which begins as a copy of ``image``: transforms of batches,
            as for :class:`~monai_ssl.engines.PrepareStreams`. Empty for an autoencoder.
        seed: of what is hidden.

    Shape:
        - Input: ``(B, C, H, W[, D])``, windows of the training's patch size
        - Output: ``(B, 2 C, H, W[, D])``, the masked input before the reconstruction

    Raises:
        ValueError: when there is no such head.
    """

    def __init__(self, network: PretextNetwork, masking: Sequence[Any] = (), seed: int = 0) -> None:
        super().__init__()
        if _HEAD not in network.heads:
            raise ValueError(f"`network` must have a head {_HEAD!r}, got {', '.join(network.heads)}.")
        self.network = network.eval()
        self.masking = list(masking)
        self.seed = seed

    def train(self, mode: bool = True) -> MaskedRestoration:
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Both."""
        # a mask may be filled from another case: a single window lends from its mirror image
        windows = images if len(images) > 1 else torch.cat([images, images.flip(2)])
        entries: dict[str, Tensor] = {"image": windows, "masked": windows}
        for step in self.masking:
            if isinstance(step, Randomizable):
                step.set_random_state(seed=self.seed)
            entries = getattr(step, "batch", step)(entries)
        masked = entries["masked"][: len(images)]
        return torch.cat([masked, self.network(masked, [_HEAD])[_HEAD].to(masked.dtype)], dim=1)


def load_restoration(
    network: nn.Module,
    heads: Mapping[str, nn.Module],
    weights: str | os.PathLike[str],
    masking: Sequence[Any] = (),
    seed: int = 0,
) -> MaskedRestoration | None:
    """The reconstructions of the pretraining whose ``pretext.pt`` lies beside the weights, if it made any.

    Args:
        network: the bare network; it is copied.
        heads: those of the pretraining, by name.
        weights: its ``model.pt``.
        masking: see :class:`MaskedRestoration`.
        seed: see :class:`MaskedRestoration`.

    Returns:
        None, with a line in the log, where there is no ``pretext.pt`` or no head ``reconstruction``.

    Raises:
        UserError: when ``pretext.pt`` does not fit the network and its heads.
    """
    path = Path(weights).with_name("pretext.pt")
    if not path.is_file():
        logger.info(f"{path}: is not there, so that there are no reconstructions")
        return None
    if _HEAD not in heads:
        logger.info(f"{path}: this pretraining has no head {_HEAD!r}, so that there are no reconstructions")
        return None
    pretext = PretextNetwork(copy.deepcopy(network), heads)
    load_weights(pretext, path)
    return MaskedRestoration(pretext, masking, seed)
