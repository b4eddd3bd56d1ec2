"""Seconds of the data check over reading the scans once, and of the stateless loader over MONAI's plain one.

    python benchmarks/check.py --data FOLDER --rounds 7 --output check.json

`check` reads every file to its end, checksum included, and sums up its voxels, in one process; beside it Nibabel
decodes the same files once. `TwoStreamLoader` seeds the transforms of each case before it reads it; beside it MONAI's
DataLoader runs through the same data set with the same transforms, in as many batches, cached (CacheDataset) or not.
Each pair takes turns in one process, so that a slow moment of the machine hits both; what counts is the median of the
rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import (
    Compose,
    EnsureTyped,
    LoadImaged,
    NormalizeIntensityd,
    RandAffined,
    RandFlipd,
    RandSpatialCropd,
    SpatialPadd,
)
from rich.console import Console
from rich.table import Table

from monai_ssl.data import TwoStreamLoader
from monai_ssl.data.cases import load_cases
from monai_ssl.data.check_run import check_data
from monai_ssl.data.phantoms import write_phantoms

_BATCH = 2


def read_once(files: Sequence[str]) -> None:
    """Decode every file with Nibabel."""
    for file in files:
        np.asarray(nib.load(file).dataobj)  # type: ignore[attr-defined]


def transform(patch: int) -> Compose:
    """What a training does with a case, short."""
    return Compose(
        [
            LoadImaged(keys="image", image_only=True, ensure_channel_first=True),
            NormalizeIntensityd(keys="image", nonzero=True),
            SpatialPadd(keys="image", spatial_size=[patch] * 3),
            RandSpatialCropd(keys="image", roi_size=[patch] * 3, random_size=False),
            RandFlipd(keys="image", prob=0.5, spatial_axis=0),
            RandAffined(keys="image", prob=0.5, rotate_range=[0.26] * 3, padding_mode="border"),
            EnsureTyped(keys="image", track_meta=False),
        ]
    )


def loaders(
    cases: Sequence[Mapping[str, Any]], patch: int, cached: bool
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return what runs through as many batches as there are in a pass: ours, and MONAI's."""

    def dataset() -> Dataset:
        if cached:
            return CacheDataset(cases, transform(patch), cache_rate=1.0, num_workers=1, progress=False)
        return Dataset(cases, transform(patch))

    batches = len(cases) // _BATCH
    ours, theirs = TwoStreamLoader(dataset(), None, _BATCH, 0), DataLoader(dataset(), batch_size=_BATCH, shuffle=True)
    return lambda: list(islice(iter(ours), batches)), lambda: list(islice(iter(theirs), batches))


def seconds(call: Callable[[], Any]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compared(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Measure both in turn; the first round warms up."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds + 1)][1:]
    ratios = [mine / other for mine, other in pairs]
    return {
        "seconds": statistics.median(mine for mine, _ in pairs),
        "other_seconds": statistics.median(other for _, other in pairs),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def measure(datalist: Path, rounds: int, patch: int, most: int) -> dict[str, dict[str, Any]]:
    """Measure everything on the labelled cases of a list."""
    cases = load_cases(datalist, "training")
    files = [case[key] for case in cases for key in ("image", "label")]
    images = [{"image": case["image"]} for case in cases[:most]]
    return {
        "check / reading with Nibabel": compared(
            lambda: check_data(datalist, jobs=1), lambda: read_once(files), rounds
        ),
        "check --pool / reading with Nibabel": compared(
            lambda: check_data(datalist, jobs=1, pool=True), lambda: read_once(files), rounds
        ),
        "TwoStreamLoader / DataLoader + Dataset": compared(*loaders(images, patch, cached=False), rounds),
        "TwoStreamLoader / DataLoader + CacheDataset": compared(*loaders(images, patch, cached=True), rounds),
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with dataset.json; default: generated volumes")
    parser.add_argument("--cases", type=int, default=200, help="of the generated volumes")
    parser.add_argument("--loaded", type=int, default=100, help="cases that the loaders run through")
    parser.add_argument("--patch", type=int, default=32, help="voxels a side")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        datalist = options.data / "dataset.json" if options.data else write_phantoms(folder, cases=options.cases)
        cases = len(load_cases(datalist, "training"))
        rows = measure(datalist, options.rounds, options.patch, options.loaded)
    table = Table("pair", "seconds", "of the other", "ratio (median)", "rounds", title=f"{cases} cases")
    for name, row in rows.items():
        spread = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        table.add_row(name, f"{row['seconds']:.2f}", f"{row['other_seconds']:.2f}", f"{row['ratio']:.2f}", spread)
    Console().print(table)
    if options.output:
        result = {"cases": cases, "rounds": options.rounds, "rows": rows}
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
