"""The encoder inside a segmentation network: its feature maps, its parameters, without another class around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from monai.networks.blocks.activation_checkpointing import ActivationCheckpointWrapper
from monai.networks.layers.simplelayers import SkipConnection
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.resnet import ResNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from monai.networks.nets.unetr import UNETR
from monai.networks.nets.vit import ViT
from torch import Tensor, nn

from monai_ssl.networks.fit import try_patch
from monai_ssl.utils.errors import UserError

__all__ = [
    "EncoderTaps",
    "encode",
    "encode_and_decode",
    "encoder_keys",
    "encoder_parameters",
    "encoder_taps",
    "feature_shapes",
]


@dataclass(frozen=True)
class EncoderTaps:
    """Where a network's encoder is.

    A network class that is not known here can have a method ``encoder_taps()`` that returns this.

    Attributes:
        maps: modules whose outputs are the feature maps, shallow to deep, in the order in which ``forward`` runs them;
            a module may give a list of maps. No later layer may change an output in place.
        parts: what else of the network the deepest map depends on: modules, and parameters that belong to no module.
        token_size: voxels of a token along each axis, where the outputs are tokens ``(B, N, F)``; a class token, which
            comes before those of the grid, belongs to no map.
    """

    maps: Sequence[nn.Module]
    parts: Sequence[nn.Module | nn.Parameter] = ()
    token_size: Sequence[int] | None = None


def _unet(network: Any) -> EncoderTaps:
    maps: list[nn.Module] = []
    block: Any = network.model
    while isinstance(block, nn.Sequential) and any(isinstance(child, SkipConnection) for child in block):
        down, skip, _ = block
        maps.append(down)
        block = skip.submodule
        if isinstance(block, ActivationCheckpointWrapper):  # of CheckpointUNet
            block = block.module
    return EncoderTaps([*maps, block])


def _basic_unet(network: Any) -> EncoderTaps:
    return EncoderTaps([network.conv_0, network.down_1, network.down_2, network.down_3, network.down_4])


def _dyn_unet(network: Any) -> EncoderTaps:
    return EncoderTaps([network.input_block, *network.downsamples, network.bottleneck])


def _seg_res_net(network: Any) -> EncoderTaps:
    return EncoderTaps(list(network.down_layers), parts=[network.convInit])


def _res_net(network: Any) -> EncoderTaps:
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    return EncoderTaps([network.act, *stages], parts=[network.conv1, network.bn1])


def _swin_unetr(network: Any) -> EncoderTaps:
    return EncoderTaps([network.swinViT])


def _vit(network: Any) -> EncoderTaps:
    embedding: Any = network.patch_embedding.patch_embeddings
    if isinstance(embedding, nn.Sequential):  # a rearrangement and a linear layer
        lengths: Any = embedding[0].axes_lengths
        token_size = [lengths[name] for name in sorted(lengths)]
    else:
        token_size = embedding.stride
    class_token = [network.cls_token] if hasattr(network, "cls_token") else []
    return EncoderTaps(
        [*network.blocks[:-1], network.norm],
        parts=[network.patch_embedding, network.blocks[-1], *class_token],
        token_size=token_size,
    )


def _unetr(network: Any) -> EncoderTaps:
    vit = network.vit
    maps = [vit.blocks[3], vit.blocks[6], vit.blocks[9], vit.norm]  # those that the decoder reads
    return EncoderTaps(maps, parts=[vit], token_size=network.patch_size)


_KNOWN: dict[type[nn.Module], Callable[[Any], EncoderTaps]] = {
    UNet: _unet,
    BasicUNet: _basic_unet,
    DynUNet: _dyn_unet,
    SegResNet: _seg_res_net,
    SwinUNETR: _swin_unetr,
    UNETR: _unetr,
    ViT: _vit,
    ResNet: _res_net,
}


def encoder_taps(network: nn.Module) -> EncoderTaps:
    """Where the encoder of a network is.

    ====================  =========================================================================================
    UNet, DynUNet         every level down to the bottom; with any strides, kernels, residual units
    BasicUNet             the first convolution and the four levels below
    SegResNet             the stages of its ``encode``
    SwinUNETR             the five hidden states of ``swinViT``, normalised where the network normalises them. The
                          convolutions between these and the decoder are the decoder's, as in its own pretraining
    UNETR                 what the decoder reads: the states behind blocks 4, 7, 10 and the last
    ViT                   the states behind every block, the last one normalised
    ResNet                the first activation and the four stages
    ====================  =========================================================================================

    Args:
        network: of one of these classes or of a class derived from one, or with a method ``encoder_taps()``.

    Raises:
        UserError: when nothing is known about the network.
    """
    own: Callable[[], EncoderTaps] | None = getattr(network, "encoder_taps", None)
    if own is not None:
        return own()
    for kind, find in _KNOWN.items():
        if isinstance(network, kind):
            return find(network)
    raise UserError(
        f"network_def: no encoder is known in {type(network).__name__}; it is known in "
        f"{', '.join(kind.__name__ for kind in _KNOWN)}. Take one of these, or give your class a method encoder_taps() "
        "that returns monai_ssl.networks.EncoderTaps(maps=[the modules whose outputs are the feature maps, shallow to "
        "deep], parts=[what else they depend on])."
    )


def encode(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The feature maps of a network's encoder; what comes behind the deepest one is not computed.

    The network runs its own ``forward``, which is left as soon as the last map is there (as torch's activation
    checkpointing leaves a recomputation). So the maps are those of a full pass by construction, and the network keeps
    its class and its parameters' names.

    Args:
        network: see :func:`encoder_taps`.
        images: a batch.

    Shape:
        - Input: ``(B, C, H, W[, D])``
        - Output: a list of ``(B, F, h, w[, d])``, shallow to deep

    Raises:
        UserError: when nothing is known about the network.
    """
    return _run(network, images, to_the_end=False)[1]


def encode_and_decode(network: nn.Module, images: Tensor) -> tuple[Any, list[Tensor]]:
    """What a network answers, and the feature maps of its encoder, from one pass.

    Args:
        network: see :func:`encoder_taps`.
        images: a batch.

    Returns:
        The answer, and the maps as :func:`encode` gives them.

    Shape:
        - Input: ``(B, C, H, W[, D])``

    Raises:
        UserError: when nothing is known about the network.
    """
    return _run(network, images, to_the_end=True)


def encoder_parameters(network: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that the deepest feature map depends on, as ``network.named_parameters()`` has them.

    The blocks of ViT and UNETR hold a ``norm_cross_attn`` that no pass of MONAI's uses; it is named, too, and never has
    a gradient.

    Args:
        network: see :func:`encoder_taps`.
    """
    mine = _identities(network)
    return tuple(name for name, parameter in network.named_parameters() if id(parameter) in mine)


def encoder_keys(network: nn.Module) -> tuple[str, ...]:
    """Names of the encoder's entries in ``network.state_dict()``.

    Buffers are among them, and every name of an entry that has several (DynUNet's).

    Args:
        network: see :func:`encoder_taps`.
    """
    mine = _identities(network)
    return tuple(name for name, value in network.state_dict(keep_vars=True).items() if id(value) in mine)


def feature_shapes(network: nn.Module, in_channels: int, patch_size: Sequence[int]) -> list[tuple[int, ...]]:
    """Shapes of a network's feature maps, found out with one empty patch.

    Args:
        network: see :func:`encoder_taps`; left as it is, and so is the random state.
        in_channels: channels of the image.
        patch_size: voxels along each axis.

    Returns:
        ``(F, h, w[, d])`` of each map, shallow to deep, without the batch's axis.

    Raises:
        UserError: when nothing is known about the network, or when it refuses the patch.
    """
    encoder_taps(network)
    features = try_patch(network, lambda patch: encode(network, patch), in_channels, patch_size)
    return [tuple(feature.shape[1:]) for feature in features]


class _LastMapIsThere(Exception):  # noqa: N818 - a signal, and no error
    """Leaves a network's ``forward``."""


def _run(network: nn.Module, images: Tensor, to_the_end: bool) -> tuple[Any, list[Tensor]]:
    taps = encoder_taps(network)
    found: dict[int, Any] = {}

    def remember(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            found.setdefault(index, output)
            if not to_the_end and len(found) == len(taps.maps):
                raise _LastMapIsThere

        return hook

    answer = None
    handles = [module.register_forward_hook(remember(index)) for index, module in enumerate(taps.maps)]
    try:
        answer = network(images)
    except _LastMapIsThere:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if len(found) < len(taps.maps):
        idle = next(index for index in range(len(taps.maps)) if index not in found)
        raise UserError(f"network_def: {type(network).__name__} does not run module {idle} of its encoder_taps().maps.")
    outputs = [found[index] for index in range(len(taps.maps))]
    flat = [value for output in outputs for value in (output if isinstance(output, (list, tuple)) else [output])]
    if taps.token_size is not None:
        grid = [size // token for size, token in zip(images.shape[2:], taps.token_size, strict=True)]
        flat = [_on_a_grid(tokens, grid) for tokens in flat]
    return answer, flat


def _on_a_grid(tokens: Tensor, grid: Sequence[int]) -> Tensor:
    return tokens[:, -math.prod(grid) :].transpose(1, 2).unflatten(2, list(grid))


def _identities(network: nn.Module) -> set[int]:
    taps = encoder_taps(network)
    found: set[int] = set()
    for part in (*taps.maps, *taps.parts):
        values = part.state_dict(keep_vars=True).values() if isinstance(part, nn.Module) else [part]
        found.update(map(id, values))
    return found
