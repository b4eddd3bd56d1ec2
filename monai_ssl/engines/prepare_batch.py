"""From a loaded batch to plain tensors on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

__all__ = ["prepare_streams"]


def prepare_streams(
    batch: Mapping[str, Mapping[str, Any]],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> dict[str, dict[str, Tensor]]:
    """Copy the tensors of every stream to the device, without metadata.

    What is no tensor (file names) stays in ``engine.state.batch`` for messages and is left out here.

    Args:
        batch: ``{"labeled": {"image", "label", ..}, "unlabeled": {"image", ..}}``.
        device: where to.
        non_blocking: copy asynchronously where the memory is pinned.
        kwargs: further arguments of ``Tensor.to``, such as ``memory_format``.
    """
    return {
        stream: {
            key: _plain(value).to(device=device, non_blocking=non_blocking, **kwargs)
            for key, value in entries.items()
            if isinstance(value, Tensor)
        }
        for stream, entries in batch.items()
    }


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
