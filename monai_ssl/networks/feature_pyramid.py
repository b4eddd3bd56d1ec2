"""Feature pyramid over a residual network: what a detector's heads read."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork
from monai.networks.nets.resnet import ResNet
from torch import Tensor, nn

from monai_ssl.networks.encoder import EncoderTaps, feature_shapes
from monai_ssl.utils.errors import UserError

__all__ = ["FeaturePyramid"]


class FeaturePyramid(nn.Module):
    r"""Feature maps of one width at several resolutions, each with what the coarser ones know.

    .. math:: M_l = \mathrm{conv}_1(C_l) + \mathrm{up}(M_{l+1}), \qquad P_l = \mathrm{conv}_3(M_l)

    with :math:`C_l` the output of stage :math:`l` of the residual network. Unlike MONAI's extractor it needs no
    torchvision and has no pooled level on top.

    Args:
        backbone: a ResNet of MONAI. It becomes :attr:`encoder` and is changed: stages behind the deepest level, and its
            classification layer, are dropped, so that every parameter has a gradient.
        levels: stages that are read, out of 1 to 4, ascending. Stage 1 has the stride of the first convolution, twice
            that with the max pooling; every further stage doubles it.
        channels: width :math:`F` of all maps.

    Attributes:
        encoder: the backbone; its parameters have the names that a pretraining of the same network gives them.
        out_channels: see ``channels``; MONAI's RetinaNet asks for it.
        strides: of each level along each axis, in voxels.

    Shape:
        - Input: ``(B, C, H, W[, D])``, multiples of the coarsest strides
        - Output: a list of ``(B, F, h, w[, d])``, the finest level first

    Raises:
        UserError: when the backbone is none of MONAI's ResNets, or halves its maps otherwise than its strides say.
        ValueError: when ``levels`` is out of range.

    Reference:
        T.-Y. Lin et al.: Feature Pyramid Networks for Object Detection, CVPR 2017, https://arxiv.org/abs/1612.03144.
    """

    def __init__(self, backbone: ResNet, levels: Sequence[int] = (1, 2, 3), channels: int = 32) -> None:
        super().__init__()
        if not levels or list(levels) != sorted(set(levels)) or not set(levels) <= {1, 2, 3, 4}:
            raise ValueError(f"`levels` must be different stages out of 1, 2, 3, 4, ascending, got {list(levels)}.")
        if not isinstance(backbone, ResNet):
            raise UserError(f"network_def: the backbone must be a ResNet of MONAI, got {type(backbone).__name__}.")
        self.levels = tuple(levels)
        self.out_channels = channels
        self.encoder = backbone
        for stage in range(self.levels[-1] + 1, 5):
            setattr(backbone, f"layer{stage}", nn.Identity())
        backbone.fc = None
        first = [int(step) * (1 if backbone.no_max_pool else 2) for step in backbone.conv1.stride]
        self.strides = tuple(tuple(step * 2 ** (level - 1) for step in first) for level in self.levels)
        shapes = self._shapes()
        self.pyramid = FeaturePyramidNetwork(len(first), [shape[0] for shape in shapes], channels)

    def encoder_taps(self) -> EncoderTaps:
        """Where the encoder is: its first activation and its stages."""
        encoder = self.encoder
        stages = [getattr(encoder, f"layer{stage}") for stage in range(1, self.levels[-1] + 1)]
        return EncoderTaps([encoder.act, *stages], parts=[encoder.conv1, encoder.bn1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps."""
        encoder = self.encoder
        features = encoder.act(encoder.bn1(encoder.conv1(images)))
        if not encoder.no_max_pool:
            features = encoder.maxpool(features)
        maps = {}
        for stage in range(1, self.levels[-1] + 1):
            features = getattr(encoder, f"layer{stage}")(features)
            if stage in self.levels:
                maps[str(stage)] = features
        return list(self.pyramid(maps).values())

    def _shapes(self) -> list[tuple[int, ...]]:
        # of two cells of the coarsest level, as some norms refuse a single one
        patch_size = [2 * stride for stride in self.strides[-1]]
        found = feature_shapes(self.encoder, self.encoder.conv1.in_channels, patch_size)
        shapes = [found[level] for level in self.levels]
        for shape, strides in zip(shapes, self.strides, strict=True):
            expected = tuple(side // stride for side, stride in zip(patch_size, strides, strict=True))
            if shape[1:] != expected:
                raise UserError(
                    f"network_def: the backbone makes {list(shape[1:])} voxels of {patch_size}, where its strides "
                    f"{list(strides)} make {list(expected)}. Give it an odd conv1_t_size."
                )
        return shapes
