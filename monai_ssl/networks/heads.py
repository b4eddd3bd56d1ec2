"""Heads of pretext tasks: what turns an encoder's feature maps into a class, a vector, an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from monai_ssl.utils.errors import UserError

__all__ = ["ClassificationHead", "NetworkOutput", "ProjectionHead", "ReconstructionHead"]

Shapes = Sequence[Sequence[int]]


class ClassificationHead(nn.Module):
    r"""Logits of a class, from the deepest feature map averaged over space.

    .. math:: W \, [\mathrm{mean}(F_1), \dots, \mathrm{mean}(F_V)] + b

    with the V tiles of a case one behind the other. With ``hidden`` a layer and a ReLU come before.

    Args:
        shapes: of the feature maps, from :func:`~monai_ssl.networks.feature_shapes`.
        classes: number of classes.
        tiles: number V of tiles that a case consists of; jigsaw 27, relative position 2, else 1. The images of tiles
            ``(B, V, C, H, W, D)`` go through the encoder as ``images.flatten(0, 1)``.
        hidden: width of the layer before; 0 for none, as in Tang et al. for rotation.

    Shape:
        - Input: a list of feature maps, the deepest ``(B * V, F, h, w[, d])``
        - Output: ``(B, classes)``

    Raises:
        ValueError: when ``classes`` is below 2, ``tiles`` below 1 or ``hidden`` below 0.

    Reference:
        Y. Tang et al.: Self-Supervised Pre-Training of Swin Transformers for 3D Medical Image Analysis, CVPR 2022,
        https://arxiv.org/abs/2111.14791. Its code classifies by the first token alone, one corner of the crop; here
        all positions count. A. Taleb et al.: 3D Self-Supervised Methods for Medical Imaging, NeurIPS 2020,
        https://arxiv.org/abs/2006.03829, for tiles.
    """

    def __init__(self, shapes: Shapes, classes: int, tiles: int = 1, hidden: int = 0) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"`classes` must be 2 or more, got {classes}.")
        if tiles < 1:
            raise ValueError(f"`tiles` must be 1 or more, got {tiles}.")
        self.tiles = tiles
        self.layers = _perceptron(shapes[-1][0] * tiles, hidden, classes, None)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The logits."""
        pooled = _pooled(features)
        if len(pooled) % self.tiles:
            raise ValueError(f"the head reads cases of {self.tiles} tiles, and {len(pooled)} is no multiple of that.")
        logits: Tensor = self.layers(pooled.reshape(len(pooled) // self.tiles, -1))
        return logits


class ProjectionHead(nn.Module):
    """A vector to be compared with others, from the deepest feature map averaged over space; not normalised.

    Args:
        shapes: of the feature maps, from :func:`~monai_ssl.networks.feature_shapes`.
        channels: length of the vector; Swin UNETR has 512.
        hidden: width of a layer with ReLU before; 0 for a linear head, as in Swin UNETR. SimCLR and BYOL have one.
        norm: behind the hidden layer: none, ``"batch"``, or ``"layer"``, which needs no large batch.

    Shape:
        - Input: a list of feature maps, the deepest ``(B, F, h, w[, d])``
        - Output: ``(B, channels)``

    Raises:
        ValueError: when ``channels`` is below 1, ``hidden`` below 0, ``norm`` unknown or given without ``hidden``.

    Reference:
        Y. Tang et al.: Self-Supervised Pre-Training of Swin Transformers for 3D Medical Image Analysis, CVPR 2022,
        https://arxiv.org/abs/2111.14791. Its code projects the second token alone; here all positions count, as in
        T. Chen et al.: A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020,
        https://arxiv.org/abs/2002.05709.
    """

    def __init__(
        self,
        shapes: Shapes,
        channels: int = 512,
        hidden: int = 0,
        norm: Literal["batch", "layer"] | None = None,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"`channels` must be 1 or more, got {channels}.")
        self.layers = _perceptron(shapes[-1][0], hidden, channels, norm)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The vector."""
        vector: Tensor = self.layers(_pooled(features))
        return vector


class ReconstructionHead(nn.Module):
    """An image, upsampled from the deepest feature map alone.

    Every stage doubles the size (less where an axis is there already) and halves the width: convolution, upsampling,
    instance norm, LeakyReLU; at last a convolution of one voxel. The norm comes behind the upsampling, since a deepest
    map of a single voxel has nothing to normalise.

    The decoder of the network stays untrained. Where it shall be pretrained too, take :class:`NetworkOutput`.

    Args:
        shapes: of the feature maps, from :func:`~monai_ssl.networks.feature_shapes`.
        channels: channels of the image.
        patch_size: voxels along each axis.
        upsample: ``"interpolate"`` (linear), or ``"transposed"`` (transposed convolutions wherever a stage doubles a
            size: torch has no deterministic gradient of trilinear interpolation on a GPU).

    Shape:
        - Input: a list of feature maps, the deepest ``(B, F, h, w[, d])``
        - Output: ``(B, channels, H, W[, D])``

    Raises:
        ValueError: when ``upsample`` is unknown, ``patch_size`` is smaller than the map, or a map is of another size
            than the head was built for.

    Reference:
        Y. Tang et al.: Self-Supervised Pre-Training of Swin Transformers for 3D Medical Image Analysis, CVPR 2022,
        https://arxiv.org/abs/2111.14791; the ``vae`` head of its code, which has the norm before the upsampling.
    """

    def __init__(
        self,
        shapes: Shapes,
        channels: int,
        patch_size: Sequence[int],
        upsample: Literal["interpolate", "transposed"] = "interpolate",
    ) -> None:
        super().__init__()
        if upsample not in ("interpolate", "transposed"):
            raise ValueError(f"`upsample` must be 'interpolate' or 'transposed', got {upsample!r}.")
        self.shape = tuple(shapes[-1])
        width, *size = self.shape
        if len(patch_size) != len(size):
            raise ValueError(f"`patch_size` must have the map's {len(size)} axes, got {list(patch_size)}.")
        if any(now > end for now, end in zip(size, patch_size, strict=True)):
            raise ValueError(f"`patch_size` must not be below the deepest map's {size}, got {list(patch_size)}.")
        convolution, transposed, norm, linear = _LAYERS[len(size)]
        layers: list[nn.Module] = []
        while size != list(patch_size):
            following = [min(2 * now, end) for now, end in zip(size, patch_size, strict=True)]
            narrower = max(width // 2, min(width, 8))
            resize = nn.Upsample(tuple(following), mode=linear, align_corners=False)
            if upsample == "interpolate":
                layers += [convolution(width, narrower, 3, padding=1), resize]
            else:
                factor = tuple(2 if end == 2 * now else 1 for now, end in zip(size, following, strict=True))
                layers += [transposed(width, narrower, factor, stride=factor)]
                if [now * step for now, step in zip(size, factor, strict=True)] != following:
                    layers += [resize]
            layers += [norm(narrower), nn.LeakyReLU()]
            width, size = narrower, following
        self.layers = nn.Sequential(*layers, convolution(width, channels, 1))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The image."""
        if tuple(features[-1].shape[1:]) != self.shape:
            got = tuple(features[-1].shape[1:])
            raise ValueError(f"the head was built for a deepest map {self.shape}, got {got}: another patch_size.")
        image: Tensor = self.layers(features[-1])
        return image


class NetworkOutput(nn.Module):
    """The network's own output, decoder included; has no parameters.

    For tasks that restore or classify every voxel and pretrain the decoder too (masked autoencoders on a U-Net, Models
    Genesis, VolumeFusion). The network is built with as many ``out_channels`` as the task needs; a segmentation
    network built alike, with ``out_channels`` of its own, then takes over all weights but those of its last layer.

    Args:
        channels: of the output: those of the image where it is restored, the number of classes where voxels are
            classified.

    Shape:
        - Input: ``(B, channels, H, W[, D])``
        - Output: the same

    Raises:
        UserError: when the network answers with no image, or with another number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, output: Tensor) -> Tensor:
        """The output."""
        if output.dim() < 4:
            raise UserError(
                f"network_def: this task needs a decoder, and the network answers with {tuple(output.shape)} and no "
                "image. Take one with a decoder, or a method that pretrains an encoder, such as masked_inpainting."
            )
        if output.shape[1] != self.channels:
            raise UserError(
                f"network_def: this task needs an output of {self.channels} channels, got {output.shape[1]}. "
                f"Set network_def#out_channels to {self.channels} for pretraining."
            )
        return output


_LAYERS: dict[int, tuple[Any, Any, Any, str]] = {
    2: (nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d, "bilinear"),
    3: (nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d, "trilinear"),
}


def _pooled(features: Sequence[Tensor]) -> Tensor:
    return features[-1].float().flatten(2).mean(dim=2)


def _perceptron(width: int, hidden: int, out: int, norm: str | None) -> nn.Sequential:
    if hidden < 0:
        raise ValueError(f"`hidden` must be 0 or more, got {hidden}.")
    if norm not in (None, "batch", "layer"):
        raise ValueError(f"`norm` must be None, 'batch' or 'layer', got {norm!r}.")
    if hidden == 0:
        if norm is not None:
            raise ValueError(f"`norm` {norm!r} comes behind a hidden layer: set `hidden`.")
        return nn.Sequential(nn.Linear(width, out))
    norms: list[nn.Module] = []
    if norm is not None:
        norms = [nn.BatchNorm1d(hidden) if norm == "batch" else nn.LayerNorm(hidden)]
    return nn.Sequential(nn.Linear(width, hidden), *norms, nn.ReLU(), nn.Linear(hidden, out))
