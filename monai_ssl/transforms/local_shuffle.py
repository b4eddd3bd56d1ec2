"""Local shuffling: voxels change places inside many small windows; what is lost is texture, what stays is shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_ssl.transforms.base import Params, RandBatchTransform, RandBatchTransformd, stacked

__all__ = [
    "RandLocalShuffle",
    "RandLocalShuffleD",
    "RandLocalShuffleDict",
    "RandLocalShuffled",
    "local_shuffle",
    "shuffled_runs",
]


def shuffled_runs(sizes: Tensor, seeds: Tensor) -> Tensor:
    """Shuffle the numbers 0, 1, 2, .. within consecutive runs; all orders of a run are equally likely.

    One sort by run, and within a run by random keys, which are made on the device.

    Args:
        sizes: of the runs of every case.
        seeds: of every case's keys.

    Shape:
        - sizes: ``(B, N)``
        - seeds: ``(B,)``
        - Output: ``(sizes.sum(),)``; the first run of a case follows the last one of the case before
    """
    keys = [
        torch.randint(2**31, (count,), generator=torch.Generator(sizes.device).manual_seed(seed), device=sizes.device)
        for count, seed in zip(sizes.sum(1).tolist(), seeds.tolist(), strict=True)
    ]
    return ((torch.repeat_interleave(sizes.flatten()) << 31) + torch.cat(keys)).argsort()


def local_shuffle(images: Tensor, corners: Tensor, sides: Tensor, seeds: Tensor) -> Tensor:
    """Shuffle the voxels of many windows; every window reads the image as it came, and later windows overwrite.

    This is the loop over windows without the loop: the voxels of all windows are listed in the windows' order, one sort
    shuffles the list within each window, and one scatter that keeps the largest finds the last entry of every voxel.

    Invariants: every value comes from the last window over its voxel, so none travels farther than a window's side; no
    two voxels with the same last window get the same one; a voxel outside all windows stays. A window that no later one
    overlaps keeps its histogram. The volume as a whole does not: what a later window overwrites may be lost.

    Args:
        images: the batch; not changed.
        corners: the windows' first voxels, in the order of writing.
        sides: their sides, from 1; every window lies inside the volume.
        seeds: of every case's permutations.

    Shape:
        - images: ``(B, C, H, W[, D])``
        - corners, sides: ``(B, N, 2 or 3)``
        - seeds: ``(B,)``
        - Output: as ``images``; memory beside it: about 80 bytes for every voxel of every window
    """
    shape, device = images.shape[2:], images.device
    strides = torch.tensor([shape[axis + 1 :].numel() for axis in range(len(shape))], device=device)
    first = torch.arange(len(images), device=device)[:, None] * shape.numel()
    origins, edges = ((corners * strides).sum(-1) + first).flatten(), sides.flatten(0, 1)

    sizes = sides.prod(-1)
    window = torch.repeat_interleave(sizes.flatten())
    entry = torch.arange(len(window), device=device)
    rest = entry - (sizes.flatten().cumsum(0) - sizes.flatten())[window]  # place in the window, the last axis fastest
    voxel = origins[window]
    for axis in range(len(shape) - 1, 0, -1):
        side = edges[:, axis][window]
        slower = rest // side
        voxel += (rest - slower * side) * strides[axis]
        rest = slower
    voxel += rest * strides[0]

    last = torch.full((len(images) * shape.numel(),), -1, dtype=torch.int32, device=device)
    last.scatter_reduce_(0, voxel, entry.int(), "amax")  # with 32 bits twenty times as fast as with 64 on a CPU
    moved = voxel[shuffled_runs(sizes, seeds)]
    source = torch.where(last >= 0, moved[last.clamp(min=0)], torch.arange(len(last), device=device))
    index = (source.view(len(images), -1) - first)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).view(images.shape)


class RandLocalShuffle(RandBatchTransform):
    """Shuffle voxels inside many small windows.

    Along an axis of L voxels a window's side is uniform over 1 to ``fraction`` times L, rounded down, and its place
    uniform over all that lie inside the volume.

    Args:
        windows: number of windows. Sides grow with the volume, so 10,000 cover a voxel 1.25 times on average in a large
            3D volume and 1.9 times at 64 x 64 x 32, the paper's. In 2D it is 25 times: give ``density``.
        density: mean number of windows over a voxel, above 0; where given, it sets the number of windows.
        fraction: largest side of a window, as a part of the volume's side, in (0, 1].
        prob: see :class:`RandBatchTransform`; the paper's 0.5.

    Shape:
        - Input: ``(C, H, W[, D])``
        - Output: the same

    Raises:
        ValueError: when an argument is out of range, or every window of a volume would be a single voxel.

    Reference:
        Z. Zhou et al.: Models Genesis, Medical Image Analysis 67, 2021, https://arxiv.org/abs/2004.07882; first as
        Models Genesis: Generic Autodidactic Models for 3D Medical Image Analysis, MICCAI 2019,
        https://arxiv.org/abs/1908.06912. As there, windows read the volume as it came.
    """

    def __init__(
        self, windows: int = 10_000, density: float | None = None, fraction: float = 0.1, prob: float = 0.5
    ) -> None:
        super().__init__(prob)
        if windows < 1:
            raise ValueError(f"`windows` must be 1 at least, got {windows}.")
        if density is not None and density <= 0:
            raise ValueError(f"`density` must be above 0, got {density}.")
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"`fraction` must be in (0, 1], got {fraction}.")
        self.windows, self.density, self.fraction = windows, density, fraction

    def draw(self, shape: Sequence[int]) -> Params:
        """Draw the windows, and a seed for their permutations."""
        lengths = np.asarray(shape[1:])
        largest = np.maximum(1, np.floor(lengths * self.fraction + 1e-6)).astype(int)
        if largest.max() < 2:
            raise ValueError(
                f"`fraction` {self.fraction} leaves windows of one voxel in a volume of {tuple(shape[1:])}:"
                " make it larger."
            )
        count = self.windows
        if self.density is not None:
            count = max(1, round(self.density * float(np.prod(2 * lengths / (1 + largest)))))
        sides = self.R.randint(1, largest + 1, (count, len(lengths)))
        return {
            "sides": sides,
            "corners": self.R.randint(0, lengths - sides + 1),
            "seed": int(self.R.randint(2**31 - 1)),
        }

    def apply(self, images: Tensor, params: Sequence[Params]) -> tuple[Tensor, dict[str, Tensor]]:
        """Shuffle inside the windows."""
        corners, sides = (stacked(params, name, images.device) for name in ("corners", "sides"))
        return local_shuffle(images, corners, sides, stacked(params, "seed")), {}


class RandLocalShuffled(RandBatchTransformd):
    """Dictionary twin of :class:`RandLocalShuffle`.

    Args:
        keys: images whose voxels are shuffled, alike in all.
        windows: see :class:`RandLocalShuffle`.
        density: see :class:`RandLocalShuffle`.
        fraction: see :class:`RandLocalShuffle`.
        prob: see :class:`RandLocalShuffle`.
        allow_missing_keys: leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        windows: int = 10_000,
        density: float | None = None,
        fraction: float = 0.1,
        prob: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandLocalShuffle(windows, density, fraction, prob), None, allow_missing_keys)


RandLocalShuffleD = RandLocalShuffleDict = RandLocalShuffled
