"""Mixing of cases in a batch: cuboids cut from another case (CutMix, copy-paste), and weighted means (mixup).

Drawing is apart from applying: one draw serves images, labels and whatever else belongs to the cases. All draws are
made on the CPU by torch's generator and moved to the device after, so that a seed draws the same on every device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["checked_volume", "cuboid_mask", "cut_mix", "draw_partners", "draw_weights", "mix_up"]

Device = torch.device | str | None


def draw_partners(count: int, device: Device = None) -> Tensor:
    """Draw for each case of a batch the one it is mixed with: a permutation without a case that is its own partner.

    The permutation is one random cycle through all cases, so that every other case is a partner equally often. A
    batch of one has no other case: its case is its own partner.

    Args:
        count: number of cases, 1 or more.
        device: of the output.

    Shape:
        - Output: ``(count,)``, int64

    Raises:
        ValueError: when ``count`` is below 1.
    """
    _check_count(count)
    order = torch.randperm(count)
    partners = torch.empty_like(order)
    partners[order] = order.roll(1)
    return partners.to(device)


def draw_weights(count: int, alpha: float = 0.2, dominant: bool = False, device: Device = None) -> Tensor:
    r"""Draw for each case its own weight in a mix.

    .. math:: \lambda \sim \mathrm{Beta}(\alpha, \alpha), \qquad \text{dominant: } \max(\lambda, 1 - \lambda)

    Args:
        count: number of cases, 1 or more.
        alpha: above 0. Below 1 one of the two cases prevails (0.2 is that of interpolation consistency training), 1 is
            uniform, above 1 both weigh much the same.
        dominant: let the case itself weigh at least as much as its partner, which keeps it in its place in the batch.
        device: of the output.

    Shape:
        - Output: ``(count,)``, float32

    Raises:
        ValueError: when ``count`` or ``alpha`` is out of range.

    Reference:
        H. Zhang et al.: mixup: Beyond Empirical Risk Minimization, ICLR 2018, https://arxiv.org/abs/1710.09412; with
        the larger weight D. Berthelot et al.: MixMatch, NeurIPS 2019, https://arxiv.org/abs/1905.02249, equation 9.
    """
    _check_count(count)
    if not alpha > 0:
        raise ValueError(f"`alpha` must be above 0, got {alpha}.")
    weights = torch.distributions.Beta(*torch.tensor([alpha, alpha], dtype=torch.float64)).sample((count,))
    if dominant:
        weights = torch.maximum(weights, 1.0 - weights)
    return weights.to(device, torch.float32)


def cuboid_mask(
    shape: Sequence[int],
    count: int = 1,
    sides: float | Sequence[float] | None = None,
    volume: Sequence[float] | None = None,
    device: Device = None,
) -> Tensor:
    r"""Draw masks that are true within one cuboid each, which lies anywhere inside the volume.

    .. math:: s_a = \max(1, \mathrm{round}(f_a L_a)), \qquad
        f_a \text{ given, or } f_a = v^{1/A},\ v \sim U(v_{min}, v_{max})

    with side :math:`s_a` along axis :math:`a` of length :math:`L_a`, for :math:`A` axes. The first voxel is uniform
    over all places at which the cuboid lies inside, so that it has the drawn size.

    Args:
        shape: of the volumes, in voxels.
        count: number of masks: 1 for a whole batch, to which it broadcasts, or one a case.
        sides: part of the volume's sides, in (0, 1], one number or one for each axis; 2/3 is that of bidirectional
            copy-paste, 8/27 of the volume.
        volume: least and largest part of the volume, in [0, 1], drawn anew for each mask; (0, 1) is CutMix's
            Beta(1, 1). Exactly one of ``sides`` and ``volume`` is given.
        device: of the output.

    Shape:
        - Output: ``(count, 1, H, W[, D])``, bool

    Raises:
        ValueError: when an argument is out of range, or not exactly one of ``sides`` and ``volume`` is given.

    Reference:
        S. Yun et al.: CutMix, ICCV 2019, https://arxiv.org/abs/1905.04899, where a box that sticks out is cut off and
        so smaller than drawn. Y. Bai et al.: Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation,
        CVPR 2023, https://arxiv.org/abs/2305.00673, whose mask is 0 within the cuboid, and whose code rounds down and
        leaves out the last place of each axis.
    """
    _check_count(count)
    axes = len(shape)
    if (sides is None) == (volume is None):
        raise ValueError(f"exactly one of `sides` and `volume` must be given, got {sides} and {volume}.")
    if volume is not None:
        least, greatest = checked_volume(volume)
        drawn = least + (greatest - least) * torch.rand(count, 1, dtype=torch.float64)
        parts = (drawn ** (1.0 / axes)).expand(count, axes)
    else:
        given = [*sides] if isinstance(sides, Sequence) else [sides] * axes
        if len(given) != axes or not all(part is not None and 0.0 < part <= 1.0 for part in given):
            raise ValueError(f"`sides` must be in (0, 1], one number or one for each of {axes} axes, got {sides}.")
        parts = torch.tensor([given] * count, dtype=torch.float64)
    lengths = torch.tensor(list(shape))
    extents = (parts * lengths).round().long().clamp_min(1)
    starts = (torch.rand(count, axes, dtype=torch.float64) * (lengths - extents + 1)).long()
    return _inside(starts.to(device), (starts + extents).to(device), shape)


def checked_volume(volume: Sequence[float], name: str = "volume") -> tuple[float, float]:
    """Least and greatest part of a volume that a cuboid takes, as they were given.

    Args:
        volume: the two numbers.
        name: of the argument that they came by.

    Raises:
        ValueError: when they are not two numbers in [0, 1], the least first.
    """
    if len(volume) != 2 or not 0.0 <= volume[0] <= volume[1] <= 1.0:
        raise ValueError(f"`{name}` must be two numbers in [0, 1], the least first, got {volume}.")
    return volume[0], volume[1]


def cut_mix(tensors: Sequence[Tensor], mask: Tensor, partners: Tensor | Sequence[Tensor]) -> list[Tensor]:
    r"""Replace the masked voxels of every case with its partner's, in any number of tensors alike.

    .. math:: x_v \leftarrow m_v\, x'_v + (1 - m_v)\, x_v

    Labels, probabilities and confidences must be cut by the same mask as their images: give them together.

    Args:
        tensors: what belongs to the cases, of any dtypes; not changed.
        mask: true where the partner's voxel comes in.
        partners: number of each case's partner in the batch, or the partners themselves, a tensor for each of
            ``tensors`` (labelled cases for unlabelled ones, say).

    Shape:
        - tensors, partners: ``(B, C, H, W[, D])``, C of each its own; or partners ``(B,)``, int64
        - mask: ``(B or 1, 1, H, W[, D])``, bool
        - Output: as ``tensors``

    Raises:
        ValueError: when the shapes do not agree, or ``mask`` is not bool.

    Reference:
        S. Yun et al.: CutMix, ICCV 2019, https://arxiv.org/abs/1905.04899; for semi-supervised segmentation
        G. French et al., BMVC 2020, https://arxiv.org/abs/1906.01916.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"`mask` must be bool, got {mask.dtype}.")
    mixed = []
    for own, other in _pairs(tensors, partners):
        if own.dim() < 3 or mask.shape not in ((len(own), 1, *own.shape[2:]), (1, 1, *own.shape[2:])):
            raise ValueError(f"`mask` must be (B or 1, 1, ...) beside {tuple(own.shape)}, got {tuple(mask.shape)}.")
        mixed.append(torch.where(mask, other, own))
    return mixed


def mix_up(tensors: Sequence[Tensor], weights: Tensor, partners: Tensor | Sequence[Tensor]) -> list[Tensor]:
    r"""Weighted mean of every case and its partner, in any number of tensors alike.

    .. math:: x \leftarrow \lambda\, x + (1 - \lambda)\, x'

    With a weight of 1 a case comes back bit by bit, with 0 its partner does.

    Args:
        tensors: what belongs to the cases, in floating point; not changed.
        weights: the case's own weight :math:`\lambda`, in [0, 1]; see :func:`draw_weights`.
        partners: see :func:`cut_mix`.

    Shape:
        - tensors, partners: ``(B, ...)``; or partners ``(B,)``, int64
        - weights: ``(B,)``
        - Output: as ``tensors``

    Raises:
        ValueError: when the shapes do not agree, or a tensor is not in floating point.

    Reference:
        H. Zhang et al.: mixup: Beyond Empirical Risk Minimization, ICLR 2018, https://arxiv.org/abs/1710.09412; as a
        consistency V. Verma et al.: Interpolation Consistency Training, IJCAI 2019, https://arxiv.org/abs/1903.03825.
    """
    mixed = []
    for own, other in _pairs(tensors, partners):
        if not own.is_floating_point():
            raise ValueError(f"`tensors` must be floating point (one-hot for class numbers), got {own.dtype}.")
        if weights.shape != own.shape[:1]:
            raise ValueError(f"`weights` must be ({len(own)},), one a case, got {tuple(weights.shape)}.")
        share = (1.0 - weights).to(own).view(-1, *[1] * (own.dim() - 1))
        mixed.append(torch.lerp(own, other.to(own.dtype), share))
    return mixed


def _inside(starts: Tensor, stops: Tensor, shape: Sequence[int]) -> Tensor:
    inside = torch.ones((), dtype=torch.bool, device=starts.device)
    for axis, length in enumerate(shape):
        at = torch.arange(length, device=starts.device).view(length, *[1] * (len(shape) - axis - 1))
        low, high = (edge[:, axis].view(-1, *[1] * (len(shape) + 1)) for edge in (starts, stops))
        inside = inside & (at >= low) & (at < high)
    return inside


def _pairs(tensors: Sequence[Tensor], partners: Tensor | Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    if isinstance(tensors, Tensor):
        raise ValueError("`tensors` must be a sequence of tensors, got one tensor.")
    if isinstance(partners, Tensor):
        for own in tensors:
            if partners.shape != own.shape[:1]:
                raise ValueError(f"`partners` must be ({len(own)},), one a case, got {tuple(partners.shape)}.")
        return [(own, own[partners]) for own in tensors]
    shapes, others = ([tuple(tensor.shape) for tensor in side] for side in (tensors, partners))
    if shapes != others:
        raise ValueError(f"`partners` must have the tensors' shapes {shapes}, got {others}.")
    return list(zip(tensors, partners, strict=True))


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"`count` must be 1 or more, got {count}.")
