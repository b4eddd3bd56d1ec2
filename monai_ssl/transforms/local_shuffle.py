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


def shuffled_runs(sizes: Tensor, seed: int) -> Tensor:
    """Shuffle the numbers 0, 1, 2, .. within consecutive runs; all orders of a run are equally likely.

    On a GPU it is one sort by run, and within a run by random keys. A CPU sorts slowly: there the runs of one size are
    rows of a matrix, and NumPy shuffles each row.

    Args:
        sizes: of the runs, on the device where the result is to be.
        seed: of the orders, which differ between a CPU and a GPU.

    Shape:
        - sizes: ``(N,)``
        - Output: ``(sizes.sum(),)``
    """
    return (_shuffled_by_size if sizes.device.type == "cpu" else _shuffled_by_sorting)(sizes, seed)


def _shuffled_by_sorting(sizes: Tensor, seed: int) -> Tensor:
    run = torch.repeat_interleave(sizes)
    generator = torch.Generator(sizes.device).manual_seed(seed)
    return ((run << 31) + torch.randint(2**31, run.shape, generator=generator, device=sizes.device)).argsort()


def _shuffled_by_size(sizes: Tensor, seed: int) -> Tensor:
    generator = np.random.Generator(np.random.SFC64(seed))
    counts = sizes.numpy()
    first = counts.cumsum() - counts
    out = np.empty(counts.sum(), dtype=np.int64)
    order = counts.argsort(kind="stable")
    for runs in np.split(order, np.flatnonzero(np.diff(counts[order])) + 1):
        entries = first[runs, None] + np.arange(counts[runs[0]])
        out[entries] = generator.permuted(entries, axis=1)
    return torch.from_numpy(out)


def local_shuffle(images: Tensor, corners: Tensor, sides: Tensor, seeds: Tensor) -> Tensor:
    """Shuffle the voxels of many windows; every window reads the image as it came, and later windows overwrite.

    This is the loop over windows without the loop: the voxels of all windows are listed in the windows' order, the list
    is shuffled within each window, and one scatter that keeps the largest finds the last entry of every voxel.

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
        - Output: as ``images``; memory beside it: about 60 bytes for every voxel of all windows of a case
    """
    shape = images.shape[2:]
    out = images.clone(memory_format=torch.contiguous_format)
    # case by case, since the lists of one fit into a processor's cache
    for case, seed in enumerate(seeds.tolist()):
        voxels = _listed(corners[case], sides[case], shape)
        entries = torch.arange(len(voxels), dtype=torch.int32, device=images.device)
        last = entries.new_full((shape.numel(),), -1)
        last.scatter_reduce_(0, voxels, entries, "amax")  # with 32 bits twenty times as fast as with 64 on a CPU
        moved = voxels.index_select(0, shuffled_runs(sides[case].prod(-1), seed))
        source = moved.index_select(0, last.index_select(0, voxels))  # alike for all entries of a voxel
        values = images[case].flatten(1).index_select(1, source)
        out[case].view(len(values), -1).scatter_(1, voxels.expand_as(values), values)
    return out


def _listed(corners: Tensor, sides: Tensor, shape: Sequence[int]) -> Tensor:
    """Numbers of the voxels in all windows, one window after the other, the last axis fastest."""
    voxels, runs = torch.zeros_like(corners[:, 0]), torch.ones_like(sides[:, 0])
    for axis, length in enumerate(shape):
        # what is listed so far, a point for every window, then a line, then a plane, is repeated along the next axis
        counts = sides[:, axis].repeat_interleave(runs)
        starts = voxels * length + corners[:, axis].repeat_interleave(runs)
        first = counts.cumsum(0) - counts
        voxels = (starts - first).repeat_interleave(counts)
        voxels += torch.arange(len(voxels), device=voxels.device)
        runs = runs * sides[:, axis]
    return voxels


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
