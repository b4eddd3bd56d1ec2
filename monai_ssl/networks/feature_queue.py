"""A queue of keys from earlier batches: negatives for a contrastive loss whose batch is small."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FeatureQueue"]


class FeatureQueue(nn.Module):
    """The last keys of a momentum encoder, first in, first out, each with the scan that it came from.

    Everything is a buffer, so that the queue moves with its objective, is part of its state dict and a resumed run goes
    on with the same negatives. No gradient ever reaches it. Take :meth:`negatives` for the loss, and :meth:`enqueue`
    the batch's keys after it: a key that is in the queue already would be its own query's negative. A backward pass
    may come after that, since the negatives are a copy. In distributed training every rank has to put in the keys of
    all, gathered, because DDP hands the first rank's buffers round.

    Args:
        size: number of slots :math:`K`. A larger queue holds more negatives and older ones; with a few hundred scans
            some thousand slots hold each scan many times already.
        features: number of features of a key.

    Shape:
        - keys: :math:`(K, F)`, of unit length
        - groups: :math:`(K,)`, int64, the scan of each
        - filled: :math:`(K,)`, bool, false where a slot has not been used yet
        - position: scalar, int64, the slot that is written next

    Raises:
        ValueError: when an argument is out of range.

    Reference:
        K. He et al.: Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020,
        https://arxiv.org/abs/1911.05722, section 3.2, where it holds 65536 keys, in the authors' code random ones at
        first; here it starts empty.
    """

    keys: Tensor
    groups: Tensor
    filled: Tensor
    position: Tensor

    def __init__(self, size: int, features: int) -> None:
        super().__init__()
        for name, value in (("size", size), ("features", features)):
            if value != int(value) or value < 1:
                raise ValueError(f"`{name}` must be a whole number from 1, got {value}.")
        self.register_buffer("keys", torch.zeros(size, features))
        self.register_buffer("groups", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def forward(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`negatives`."""
        return self.negatives(groups)

    def negatives(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """The keys of all slots, and which of them are negatives of each query.

        Args:
            groups: scan of each query, the same number for a scan in every epoch, such as its place in the data list.

        Returns:
            The keys, a copy, and for each query where a slot is in use and its scan another one.

        Shape:
            - groups: :math:`(B,)`, whole numbers
            - Output: :math:`(K, F)` and :math:`(B, K)`, bool
        """
        if groups.ndim != 1:
            raise ValueError(f"`groups` must be one number a query, (B,), got {tuple(groups.shape)}.")
        other = groups.to(self.groups.device)[:, None] != self.groups
        return self.keys.clone(), other & self.filled

    @torch.no_grad()
    def enqueue(self, keys: Tensor, groups: Tensor) -> None:
        """Put the keys of a batch into the slots that were written longest ago.

        Args:
            keys: features from the momentum encoder; normalised here.
            groups: scan of each.

        Shape:
            - keys: :math:`(B, F)`, with B at most K
            - groups: :math:`(B,)`, whole numbers

        Raises:
            ValueError: when the shapes do not agree, or there are more keys than slots.
        """
        size, features = self.keys.shape
        if keys.ndim != 2 or keys.shape[1] != features or not 0 < len(keys) <= size:
            raise ValueError(f"`keys` must be (B, {features}) with B from 1 to {size}, got {tuple(keys.shape)}.")
        if groups.shape != keys.shape[:1]:
            raise ValueError(f"`groups` must be one number a key, ({len(keys)},), got {tuple(groups.shape)}.")
        slots = (self.position + torch.arange(len(keys), device=self.position.device)) % size
        self.keys[slots] = F.normalize(keys.float(), dim=-1).to(self.keys)
        self.groups[slots] = groups.to(self.groups)
        self.filled[slots] = True
        self.position.copy_((self.position + len(keys)) % size)
