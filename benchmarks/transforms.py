"""Volumes a second of our transforms, and of the nearest ones of MONAI and TorchIO on the same work.

    python benchmarks/transforms.py --size 96 --rounds 20 --output transforms.json

The same work is as many hidden blocks, windows, boxes, swapped patches of the same size (where ours draws sizes, theirs
has the mean), the same set of rotations, and the same result: new volumes, the input as it came, eight volumes as one
batch. So a twin that writes into its input gets a copy of it, and eight results are stacked; "bare" is the twin without
both, as a lone call of it. Ours takes the batch in one call, the others volume by volume, as they are made.

On a CPU the seconds are those of one thread's own time, so that other processes hardly count. All take turns within one
process; what counts is the median of the rounds. A block of the size of a scan is freed at first, as in any process
that has loaded one: from then on the allocator keeps its pages. The limit is a plain copy, which reads and writes every
voxel once. TorchIO is measured where it is installed (``pip install torchio``).
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
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
    RandPainting,
    RandPatchSwap,
    RandRightAngleRotation,
)

OURS = "ours"


def pairs(size: int) -> dict[str, dict[str, Any]]:
    """By task: our transform and its twins, set to the same work."""
    block, windows, swaps, boxes = size // 6, 200, 20, 5
    holes = round(0.3 * 6**3)  # three tenths of the blocks; MONAI's may overlap
    largest = size // 10 | 1  # odd, so that the mean of 1 to it is a whole number of voxels
    uniform: dict[str, Any] = {"fill_value": (0.0, 1.0), "prob": 1}
    found: dict[str, dict[str, Any]] = {
        f"mask {holes} blocks of {block}": {
            OURS: RandBlockMask(0.3, block),
            "MONAI RandCoarseDropout": RandCoarseDropout(holes, block, fill_value=0, prob=1),
        },
        f"shuffle {windows} windows": {
            OURS: RandLocalShuffle(windows, fraction=largest / size, prob=1),
            # of fixed size: those that it draws only grow from call to call
            "MONAI RandCoarseShuffle": RandCoarseShuffle(windows, (1 + largest) // 2, prob=1),
        },
        "rotate by right angles": {
            OURS: RandRightAngleRotation("plane"),
            "MONAI RandRotate90": RandRotate90(prob=1, max_k=4, spatial_axes=(1, 2)),
        },
        "monotone intensity": {
            OURS: RandMonotoneIntensity(prob=1, range=None),
            "MONAI RandHistogramShift": RandHistogramShift(prob=1),
        },
        f"swap {swaps} pairs of patches": {OURS: RandPatchSwap(swaps, 8)},
        f"noise in {boxes} boxes": {
            OURS: RandPainting(1, again=1, prob=1),
            "MONAI RandCoarseDropout": RandCoarseDropout(boxes, size // 4, **uniform),
        },
        f"noise around {boxes} boxes": {
            OURS: RandPainting(0, again=1, prob=1),
            "MONAI RandCoarseDropout": RandCoarseDropout(boxes, size // 2, dropout_holes=False, **uniform),
        },
    }
    try:
        torchio: Any = importlib.import_module("torchio")
    except ImportError:
        return found
    found[f"swap {swaps} pairs of patches"]["TorchIO RandomSwap"] = torchio.RandomSwap(8, swaps)
    found["monotone intensity"]["TorchIO RandomGamma"] = torchio.RandomGamma()
    return found


def seconds(call: Callable[[Tensor], Any], images: Tensor) -> float:
    """Time of one call: the process's own on a CPU; a device has finished by then."""
    clock = time.perf_counter if images.is_cuda else time.process_time
    start = clock()
    call(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def one_by_one(transform: Any, images: Tensor) -> list[Tensor]:
    """A transform of one volume, on each of a batch."""
    return [transform(image) for image in images]


def as_ours(transform: Any, images: Tensor) -> Tensor:
    """The same, with the result that ours has: the input is left alone, and several volumes are one batch."""
    # as RandCoarseDropout and RandCoarseShuffle write into their input
    copied = images.clone() if isinstance(transform, (RandCoarseDropout, RandCoarseShuffle)) else images
    results = one_by_one(transform, copied)
    return results[0] if len(results) == 1 else torch.stack(results)


def calls_of(name: str, transform: Any, count: int) -> dict[str, Callable[[Tensor], Any]]:
    """What is measured of a transform: the same work, and of a twin the bare one."""
    if name == OURS:
        return {"full": transform.batch if count > 1 else partial(one_by_one, transform)}
    return {"full": partial(as_ours, transform), "bare": partial(one_by_one, transform)}


def measure(size: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """Median seconds of every transform, for one volume and for eight."""
    if device == "cpu":
        torch.set_num_threads(1)
        torch.empty(2**25 - 2**20, dtype=torch.uint8)  # freed at once: the largest block that glibc learns from
    rows = []
    for count in (1, 8):
        images = torch.randn(count, 1, size, size, size, device=device)
        spoilt = images.clone()  # for those that write into it
        copy = statistics.median(seconds(Tensor.clone, images) for _ in range(2 * rounds))
        rows.append({"task": "limit", "transform": "copy", "volumes": count, "volumes_per_second": count / copy})
        for task, transforms in pairs(size).items():
            calls = {
                (name, kind): call
                for name, transform in transforms.items()
                if device == "cpu" or not name.startswith("TorchIO")
                for kind, call in calls_of(name, transform, count).items()
            }
            times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
            for round_ in range(rounds + 1):
                for key, call in calls.items():
                    taken = seconds(call, spoilt if key[1] == "bare" else images)
                    if round_:  # the first warms up
                        times[key].append(taken)
            medians = {key: statistics.median(taken) for key, taken in times.items()}
            for (name, kind), median in medians.items():
                if kind == "bare":
                    continue
                bare = medians.get((name, "bare"), median)
                rows.append(
                    {
                        "task": task,
                        "transform": name,
                        "volumes": count,
                        "volumes_per_second": count / median,
                        "bare_volumes_per_second": count / bare,
                        "times_of_ours": median / medians[OURS, "full"],
                        "bare_times_of_ours": bare / medians[OURS, "full"],
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
    columns = {
        "volumes a second": "volumes_per_second",
        "bare": "bare_volumes_per_second",
        "time over ours": "times_of_ours",
        "bare over ours": "bare_times_of_ours",
        "time over a copy": "copies",
    }
    table = Table("task", "volumes", "transform", *columns)
    for row in rows:
        figures = (f"{row[key]:.{0 if 'second' in key else 2}f}" if key in row else "" for key in columns.values())
        table.add_row(row["task"], str(row["volumes"]), row["transform"], *figures)
    Console(width=150).print(table)
    if given.output:
        given.output.write_text(json.dumps({"size": given.size, "device": given.device, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
