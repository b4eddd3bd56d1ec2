"""From a loaded batch to plain tensors on the device, and to what a pretext task makes of them there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Randomizable
from torch import Tensor

from monai_ssl.utils.errors import UserError

__all__ = ["PrepareStreams", "prepare_streams"]

BatchStep = Callable[[dict[str, Tensor]], dict[str, Tensor]]


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


class PrepareStreams:
    """:func:`prepare_streams`, then transforms of whole batches on the device.

    Random transforms are seeded from torch's generator, which the trainer seeds with ``(seed, step)``: a resumed run
    draws what an uninterrupted one does.

    Args:
        transforms: by stream, what is done with its batch, in this order: transforms with a ``batch`` method, such as
            those of :mod:`monai_ssl.transforms`, or any function of the dictionary that may meet a batch.

    Raises:
        UserError: when a transform refuses a batch, naming the transform.
    """

    def __init__(self, transforms: Mapping[str, Sequence[Any]]) -> None:
        self.transforms = {stream: list(steps) for stream, steps in transforms.items()}

    def __call__(
        self,
        batch: Mapping[str, Mapping[str, Any]],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> dict[str, dict[str, Tensor]]:
        """See :func:`prepare_streams`."""
        out = prepare_streams(batch, device, non_blocking, **kwargs)
        for stream, steps in self.transforms.items():
            for step in steps if stream in out else ():
                if isinstance(step, Randomizable):
                    step.set_random_state(seed=int(torch.randint(2**31 - 1, ())))
                apply: BatchStep = getattr(step, "batch", step)
                try:
                    out[stream] = apply(out[stream])
                except ValueError as error:
                    raise UserError(f"{type(step).__name__} refuses the {stream} batch: {error}") from error
        return out


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
