"""Whether a network and a patch size go together, found out before the first step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_ssl.utils.errors import UserError

__all__ = ["check_patch_size"]


def check_patch_size(network: nn.Module, patch_size: Sequence[int], in_channels: int, out_channels: int) -> None:
    """Send one empty patch through the network.

    Args:
        network: maps ``(1, in_channels, *patch_size)`` to ``(1, out_channels, *patch_size)``; left as it is.
        patch_size: voxels along each axis.
        in_channels: channels of the image.
        out_channels: classes, background included.

    Raises:
        UserError: when the network refuses the patch, or answers in another shape.
    """
    given = next(network.parameters())
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            answer = network(torch.zeros(1, in_channels, *patch_size, device=given.device, dtype=given.dtype))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"patch_size {list(patch_size)} does not go through this network ({reason}). Most networks want multiples "
            "of 8, 16 or 32 voxels along every axis, and in_channels as in the data."
        ) from error
    finally:
        network.train(was_training)
    expected = (1, out_channels, *patch_size)
    if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != expected:
        got = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise UserError(f"the network must answer a patch with logits {expected}, got {got}. Check network_def.")
