"""Whether a network and a patch size go together, found out before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from monai_ssl.utils.errors import UserError

__all__ = ["check_patch_size", "evaluation", "try_patch", "undisturbed"]

Answer = TypeVar("Answer")


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
    answer = try_patch(network, network, in_channels, patch_size)
    expected = (1, out_channels, *patch_size)
    if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != expected:
        got = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise UserError(f"the network must answer a patch with logits {expected}, got {got}. Check network_def.")


def try_patch(
    network: nn.Module, run: Callable[[Tensor], Answer], in_channels: int, patch_size: Sequence[int]
) -> Answer:
    """What comes of one empty patch, without gradient and in evaluation mode.

    Args:
        network: where the patch goes; it is left as it is, and so is the random state.
        run: what is done with the patch.
        in_channels: channels of the patch.
        patch_size: voxels along each axis.

    Raises:
        UserError: when the patch does not go through, or has sides that are no whole numbers.
    """
    if not _counts([in_channels]):
        raise UserError(f"in_channels takes a whole number from 1 on, got {in_channels!r}.")
    if not _counts(patch_size):
        raise UserError(
            f"patch_size takes a whole number from 1 on for each axis, as [96, 96, 96], got {patch_size!r}."
        )
    given = next(network.parameters())
    patch = torch.zeros(1, in_channels, *patch_size, device=given.device, dtype=given.dtype)
    with undisturbed(network, given.device):
        try:
            return run(patch)
        except UserError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"patch_size {list(patch_size)} does not go through this network ({reason}). Most networks want "
                "multiples of 8, 16 or 32 voxels along every axis, and in_channels as in the data."
            ) from error


def _counts(values: object) -> bool:
    return isinstance(values, Sequence) and all(isinstance(value, int) and value > 0 for value in values)


@contextmanager
def undisturbed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Within the block a look at a network leaves no trace: evaluation mode, no gradient, the random state put back.

    Args:
        network: what is looked at.
        device: where it is; of a GPU the random state is put back, too.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda), torch.no_grad(), evaluation(network):
        yield


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Within the block a network is in evaluation mode; afterwards each of its modules is as it was."""
    switched = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in switched:
            module.training = True
