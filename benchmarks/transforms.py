"""Volumes a second of our transforms, and of the nearest ones of MONAI and TorchIO on the same work.

    python benchmarks/transforms.py --size 96 --rounds 20 --output transforms.json

One volume, and a batch of eight: ours takes the batch in one call, the others volume by volume, as they are made. All
take turns within one process; what counts is the median of the rounds. The last column is how many plain copies of the
same volumes fit into the time: a transform that reads and writes every voxel once cannot be below 1. TorchIO is
measured where it is installed (``pip install torchio``).
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.transforms import RandCoarseDropout, RandCoarseShuffle, RandHistogramShift, RandRotate90
from rich.console import Console
from rich.table import Table
from torch import Tensor

from monai_ssl.transforms import (
    RandBlockMask,
    RandLocalShuffle,
    RandMonotoneIntensity,
    RandPatchSwap,
    RandRightAngleRotation,
)

Call = Callable[[Tensor], Any]


def pairs(size: int) -> dict[str, dict[str, Any]]:
    """By task: our transform and its twins, set to the same work."""
    block, windows, swaps = size // 6, 200, 20
    holes = round(0.3 * 6**3)  # three tenths of the blocks
    found: dict[str, dict[str, Any]] = {
        f"mask {holes} blocks of {block}": {
            "ours": RandBlockMask(0.3, block),
            "MONAI RandCoarseDropout": RandCoarseDropout(holes, block, fill_value=0, prob=1),
        },
        f"shuffle {windows} windows": {
            "ours": RandLocalShuffle(windows, prob=1),
            # at its largest from the first call on, since it ratchets upward
            "MONAI RandCoarseShuffle": RandCoarseShuffle(windows, max(2, size // 20), prob=1),
        },
        "rotate by right angles": {
            "ours": RandRightAngleRotation("plane"),
            "MONAI RandRotate90": RandRotate90(prob=1, spatial_axes=(1, 2)),
        },
        "monotone intensity": {
            "ours": RandMonotoneIntensity(prob=1, range=None),
            "MONAI RandHistogramShift": RandHistogramShift(prob=1),
        },
        f"swap {swaps} pairs of patches": {"ours": RandPatchSwap(swaps, 8)},
    }
    try:
        torchio: Any = importlib.import_module("torchio")
    except ImportError:
        return found
    found[f"swap {swaps} pairs of patches"]["TorchIO RandomSwap"] = torchio.RandomSwap(8, swaps)
    found["monotone intensity"]["TorchIO RandomGamma"] = torchio.RandomGamma()
    return found


def seconds(call: Call, images: Tensor) -> float:
    """Time of one call; a device has finished by then."""
    start = time.perf_counter()
    call(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def one_by_one(transform: Any) -> Call:
    """A transform of one volume, on each of a batch."""
    return lambda images: [transform(image) for image in images]


def measure(size: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """Median seconds of every transform, for one volume and for eight."""
    rows = []
    for count in (1, 8):
        images = torch.randn(count, 1, size, size, size, device=device)
        copy = statistics.median(seconds(Tensor.clone, images) for _ in range(2 * rounds))
        for task, transforms in pairs(size).items():
            calls = {
                name: transform.batch if name == "ours" and count > 1 else one_by_one(transform)
                for name, transform in transforms.items()
                if device == "cpu" or not name.startswith("TorchIO")
            }
            times: dict[str, list[float]] = {name: [] for name in calls}
            for round_ in range(rounds + 1):
                for name, call in calls.items():
                    taken = seconds(call, images)
                    if round_:  # the first warms up
                        times[name].append(taken)
            for name, taken_all in times.items():
                median = statistics.median(taken_all)
                rows.append(
                    {
                        "task": task,
                        "transform": name,
                        "volumes": count,
                        "volumes_per_second": count / median,
                        "times_of_ours": median / statistics.median(times["ours"]),
                        "copies": median / copy,
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=96, help="voxels a side")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    rows = measure(given.size, given.rounds, given.device)
    table = Table("task", "volumes", "transform", "volumes a second", "time over ours", "time over a copy")
    for row in rows:
        figures = f"{row['volumes_per_second']:.1f}", f"{row['times_of_ours']:.2f}", f"{row['copies']:.1f}"
        table.add_row(row["task"], str(row["volumes"]), row["transform"], *figures)
    Console(width=140).print(table)
    if given.output:
        given.output.write_text(json.dumps({"size": given.size, "device": given.device, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
