"""A network that is pretrained: its encoder with named heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from monai_ssl.networks.encoder import encode, encode_and_decode, encoder_keys, encoder_taps
from monai_ssl.networks.fit import try_patch
from monai_ssl.networks.heads import NetworkOutput
from monai_ssl.utils.errors import UserError

__all__ = ["PretextNetwork"]


class PretextNetwork(nn.Module):
    """A network as it is used downstream, with heads on its encoder.

    Any set of heads costs one pass of the network; the decoder takes part only where a
    :class:`~monai_ssl.networks.NetworkOutput` is asked for.

    Args:
        network: of the class that the segmentation run has, see :func:`~monai_ssl.networks.encoder_taps`; its
            parameters keep their names, under ``network.``.
        heads: by name; a :class:`~monai_ssl.networks.NetworkOutput` reads the network's output, any other module the
            list of feature maps, shallow to deep.

    Shape:
        - Input: ``(B, C, H, W[, D])``

    Raises:
        UserError: when nothing is known about the network's encoder.
    """

    def __init__(self, network: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        encoder_taps(network)
        self.network = network
        self.heads = nn.ModuleDict(heads)

    @property
    def deployed(self) -> nn.Module:
        """The bare network."""
        return self.network

    def pretrained_state(self) -> dict[str, Tensor]:
        """The entries of the bare network's state dict that :attr:`pretrained_keys` names."""
        state = self.network.state_dict()
        return {name: state[name] for name in self.pretrained_keys}

    @property
    def pretrained_keys(self) -> tuple[str, ...]:
        """Entries of the bare network's state dict that pretraining trains: all, or the encoder's.

        The rest is as random as at the start, and no weight that a downstream run should take over.
        """
        return tuple(self.network.state_dict()) if self._decoding_heads() else encoder_keys(self.network)

    def check_patch_size(self, patch_size: Sequence[int], in_channels: int) -> None:
        """Send one empty patch through what is pretrained: the encoder, and the decoder where a head reads its output.

        Args:
            patch_size: voxels along each axis.
            in_channels: channels of the image.

        Raises:
            UserError: when the patch does not go through, or comes out in another size.
        """
        names = self._decoding_heads()
        if not names:
            try_patch(self, lambda patch: encode(self.network, patch), in_channels, patch_size)
            return
        answers = try_patch(self, lambda patch: self(patch, names), in_channels, patch_size)
        wrong = [tuple(answer.shape[2:]) for answer in answers.values() if answer.shape[2:] != torch.Size(patch_size)]
        if wrong:
            raise UserError(
                f"patch_size {list(patch_size)} comes out of this network as {list(wrong[0])}. Most networks want "
                "multiples of 8, 16 or 32 voxels along every axis."
            )

    def _decoding_heads(self) -> list[str]:
        return [name for name, head in self.heads.items() if isinstance(head, NetworkOutput)]

    def forward(self, images: Tensor, heads: Sequence[str] | None = None) -> dict[str, Tensor]:
        """What the heads make of the images.

        Args:
            images: a batch.
            heads: names of those that are asked; default all.

        Returns:
            Each head's output by name.

        Raises:
            ValueError: when there is no head of a name.
        """
        names = list(self.heads) if heads is None else list(heads)
        unknown = [name for name in names if name not in self.heads]
        if unknown:
            raise ValueError(f"there is no head {unknown[0]!r}; there are {', '.join(self.heads)}.")
        decoded = set(self._decoding_heads()) & set(names)
        if decoded:
            answer, features = encode_and_decode(self.network, images)
            output = _finest(answer, images)
        else:
            features = encode(self.network, images)
        return {name: self.heads[name](output if name in decoded else features) for name in names}


def _finest(answer: Any, images: Tensor) -> Tensor:
    # in training, deep supervision gives several maps, the finest first: in a list, or stacked by DynUNet
    output: Tensor = answer[0] if isinstance(answer, (list, tuple)) else answer
    return output[:, 0] if output.ndim == images.ndim + 1 else output
