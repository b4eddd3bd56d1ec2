"""Heads on the stages of a network's decoder: the same segmentation predicted at several scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from monai.networks.blocks.activation_checkpointing import ActivationCheckpointWrapper
from monai.networks.layers.simplelayers import SkipConnection
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from monai.networks.nets.unetr import UNETR
from torch import Tensor, nn

from monai_ssl.networks.fit import try_patch
from monai_ssl.utils.errors import UserError

__all__ = ["DecoderTaps", "PyramidNetwork", "decoder_taps"]


@dataclass(frozen=True)
class DecoderTaps:
    """Where a network's decoder is.

    A network class that is not known here can have a method ``decoder_taps()`` that returns this.

    Attributes:
        last: the layer whose output are the network's logits.
        stages: modules whose outputs are the coarser feature maps of the decoder, fine to coarse, down to the
            bottom. No later layer may change an output in place.
        heads: the network's own layers from a stage's feature map to logits, for the first of the stages.
    """

    last: nn.Module
    stages: Sequence[nn.Module]
    heads: Sequence[nn.Module] = ()


def _unet(network: Any) -> DecoderTaps:
    ups: list[nn.Module] = []
    block: Any = network.model
    while isinstance(block, nn.Sequential) and any(isinstance(child, SkipConnection) for child in block):
        _, skip, up = block
        ups.append(up)
        block = skip.submodule
        if isinstance(block, ActivationCheckpointWrapper):  # of CheckpointUNet
            block = block.module
    return DecoderTaps(ups[0], [*ups[1:], block])


def _basic_unet(network: Any) -> DecoderTaps:
    return DecoderTaps(network.final_conv, [network.upcat_2, network.upcat_3, network.upcat_4, network.down_4])


def _dyn_unet(network: Any) -> DecoderTaps:
    heads = list(network.deep_supervision_heads) if network.deep_supervision else []
    return DecoderTaps(network.output_block, [*network.upsamples[:-1][::-1], network.bottleneck], heads)


def _seg_res_net(network: Any) -> DecoderTaps:
    return DecoderTaps(network.conv_final, [*network.up_layers[:-1][::-1], network.down_layers[-1]])


def _swin_unetr(network: Any) -> DecoderTaps:
    return DecoderTaps(network.out, [network.decoder2, network.decoder3, network.decoder4, network.decoder5])


def _unetr(network: Any) -> DecoderTaps:
    return DecoderTaps(network.out, [network.decoder3, network.decoder4, network.decoder5])


_KNOWN: dict[type[nn.Module], Callable[[Any], DecoderTaps]] = {
    UNet: _unet,
    BasicUNet: _basic_unet,
    DynUNet: _dyn_unet,
    SegResNet: _seg_res_net,
    SwinUNETR: _swin_unetr,
    UNETR: _unetr,
}


def decoder_taps(network: nn.Module) -> DecoderTaps:
    """Where the decoder of a network is.

    ================  =============================================================================================
    UNet              what goes up from every level, and the bottom; with any strides, kernels, residual units
    BasicUNet         the decoder blocks below the full resolution, and the bottom
    DynUNet           what goes up from every level, and the bottom; its own deep supervision heads where it has them
    SegResNet         the stages of its ``decode``, and the bottom
    SwinUNETR, UNETR  the decoder blocks below the full resolution
    ================  =============================================================================================

    Args:
        network: of one of these classes or of a class derived from one, or with a method ``decoder_taps()``.

    Raises:
        UserError: when nothing is known about the network.
    """
    own: Callable[[], DecoderTaps] | None = getattr(network, "decoder_taps", None)
    if own is not None:
        return own()
    for kind, find in _KNOWN.items():
        if isinstance(network, kind):
            return find(network)
    raise UserError(
        f"network_def: no decoder is known in {type(network).__name__}; it is known in "
        f"{', '.join(kind.__name__ for kind in _KNOWN)}. Take one of these, or give your class a method decoder_taps() "
        "that returns monai_ssl.networks.DecoderTaps(last=the layer whose output are the logits, stages=[the modules "
        "whose outputs are the decoder's coarser feature maps, fine to coarse])."
    )


class PyramidNetwork(nn.Module):
    r"""A segmentation network that predicts at several scales of its decoder.

    .. code-block:: text

        h_0 the layer before the network's own logits, h_1 .. h_S-1 its coarser feature maps
        logits_0 = last(dropout_0(h_0))                              what the bare network answers
        logits_s = upsampled(head_s(dropout_s(h_s)))                 to the size of logits_0, linear

    The heads are convolutions of one voxel, or the network's own (DynUNet with deep supervision). The dropout drops
    whole channels, in training alone; what goes on inside the network is not dropped, but for the input of its last
    layer. The coarser scales cost next to nothing before they are upsampled, and a map of logits in memory each
    afterwards. Torch has no deterministic gradient of trilinear interpolation on a GPU.

    Args:
        network: see :func:`decoder_taps`; its parameters keep their names, under ``network.``.
        in_channels: channels of the image.
        patch_size: voxels along each axis; with an empty patch the widths of the feature maps are found out.
        dropout: share of the channels dropped before each scale's logits, the finest scale first; as many numbers as
            scales. MONAI's UNet of the bundles (four levels, strides of 2) has its scales at 1, 1/2, 1/4 and 1/8.

    Attributes:
        heads: those that are not the network's own. They are made on the network's device.

    Shape:
        - Input: ``(B, in_channels, H, W[, D])``
        - Output: a list of ``(B, C, H, W[, D])``, finest scale first

    Raises:
        UserError: when nothing is known about the network's decoder, it has too few scales, or refuses the patch.
        ValueError: when ``dropout`` is out of range.

    Reference:
        X. Luo et al.: Efficient Semi-supervised Gross Target Volume of Nasopharyngeal Carcinoma Segmentation via
        Uncertainty Rectified Pyramid Consistency, MICCAI 2021, https://arxiv.org/abs/2012.07042. The rates are those
        of the authors' 3D code, which hands the dropped maps to the next finer stage too; its 2D code drops before
        the heads alone, as here, so that the deployed network is trained on features as it has them in use.
    """

    def __init__(
        self,
        network: nn.Module,
        in_channels: int,
        patch_size: Sequence[int],
        dropout: Sequence[float] = (0.1, 0.2, 0.3, 0.5),
    ) -> None:
        super().__init__()
        if len(dropout) < 2 or not all(0.0 <= rate < 1.0 for rate in dropout):
            raise ValueError(f"`dropout` must be numbers in [0, 1) for 2 scales or more, got {list(dropout)}.")
        taps = decoder_taps(network)
        if len(dropout) > 1 + len(taps.stages):
            raise UserError(
                f"network_def: {len(dropout)} scales are asked for and this {type(network).__name__} has "
                f"{1 + len(taps.stages)}. Give it more levels, or name fewer rates in `dropout`."
            )
        convolution, drop, self.upsampling = _LAYERS[len(patch_size)]
        self.network = network
        self.dropouts = nn.ModuleList(drop(rate) for rate in dropout)
        finest, maps = try_patch(network, self._run, in_channels, patch_size)
        own = len(taps.heads)  # beyond the scales asked for, they are not read
        self.heads = nn.ModuleList(convolution(each.shape[1], finest.shape[1], 1) for each in maps[own:])
        self.heads.to(device=finest.device, dtype=finest.dtype)

    @property
    def deployed(self) -> nn.Module:
        """The bare network: the finest scale."""
        return self.network

    def forward(self, images: Tensor) -> list[Tensor]:
        """The logits of all scales, the finest first."""
        finest, maps = self._run(images)
        heads = [*decoder_taps(self.network).heads[: len(maps)], *self.heads]
        logits = [finest]
        for head, drop, features in zip(heads, list(self.dropouts)[1:], maps, strict=True):
            coarse = head(drop(features))
            logits.append(F.interpolate(coarse, finest.shape[2:], mode=self.upsampling, align_corners=False))
        return logits

    def _run(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        taps = decoder_taps(self.network)
        read = [taps.last, *taps.stages[: len(self.dropouts) - 1]]
        found: dict[int, Tensor] = {}

        def remember(index: int) -> Callable[..., None]:
            return lambda module, inputs, output: found.update({index: output})

        handles = [module.register_forward_hook(remember(index)) for index, module in enumerate(read)]
        handles.append(taps.last.register_forward_pre_hook(lambda module, inputs: (self.dropouts[0](inputs[0]),)))
        try:
            self.network(images)
        finally:
            for handle in handles:
                handle.remove()
        idle = [index for index in range(len(read)) if index not in found]
        if idle:
            what = "last" if idle[0] == 0 else f"stages[{idle[0] - 1}]"
            raise UserError(f"network_def: {type(self.network).__name__} does not run its decoder_taps().{what}.")
        return found[0], [found[index] for index in range(1, len(read))]


_LAYERS: dict[int, tuple[Any, Any, str]] = {
    2: (nn.Conv2d, nn.Dropout2d, "bilinear"),
    3: (nn.Conv3d, nn.Dropout3d, "trilinear"),
}
