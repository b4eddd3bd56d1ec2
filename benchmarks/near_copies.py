"""How many changed copies of scans `monai-ssl check --pool` finds, and how many pairs of different scans it tells.

    python benchmarks/near_copies.py --data FOLDER --output near_copies.json

Every labelled image of a list is one scan. All pairs of them are compared as they are; then copies of the first of
them, changed in one way, are compared with their originals at the threshold that the list has.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from monai_ssl.data.cases import load_images
from monai_ssl.data.check_alike import alike_pairs, sketch
from monai_ssl.data.check_pool import ras_volume

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _crop(most: int) -> Change:
    def crop(volume: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        cuts = draw.integers(0, most + 1, (3, 2))
        return volume[tuple(slice(a, n - b) for (a, b), n in zip(cuts, volume.shape, strict=True))]

    return crop


def _contrast(volume: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    scaled = (volume - volume.min()) / (np.ptp(volume) + 1e-9)
    return scaled ** draw.uniform(0.6, 1.6) * draw.uniform(1, 3000) - 1000


CHANGES: dict[str, Change] = {
    "resampled to 0.6 to 1.5": lambda volume, draw: ndimage.zoom(volume, draw.uniform(0.6, 1.5, 3), order=1),
    "another contrast": _contrast,
    "noise of 0.1 deviations": lambda volume, draw: volume + draw.normal(0, 0.1 * volume.std(), volume.shape),
    "mirrored": lambda volume, draw: volume[::-1] if draw.random() < 0.5 else volume[:, ::-1, ::-1],
    "cropped by 0 to 1 voxels a side": _crop(1),
    "cropped by 0 to 2 voxels a side": _crop(2),
    "cropped by 0 to 3 voxels a side": _crop(3),
}


def measure(volumes: list[np.ndarray], copies: int) -> dict[str, Any]:
    """Return pairs of different scans that are told, and the share of copies that are, by change."""
    sketches, draw, found = [sketch(volume) for volume in volumes], np.random.default_rng(0), {}
    for name, change in CHANGES.items():
        hits = 0
        for number, volume in enumerate(volumes[:copies]):
            pairs = alike_pairs([*sketches, sketch(change(volume, draw))])
            hits += (number, len(volumes)) in [pair[:2] for pair in pairs]
        found[name] = hits / min(copies, len(volumes))
    every = alike_pairs(sketches, -1.0)
    told = len(alike_pairs(sketches))
    return {"scans": len(volumes), "pairs": len(every), "told": told, "highest": every[0][2], "recall": found}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with dataset.json")
    parser.add_argument("--copies", type=int, default=60, help="scans that are changed")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    images = load_images(None, options.data, ("training",))
    result = measure([ras_volume(case["image"]) for case in images], options.copies)
    table = Table("copy", "found", title=f"{result['scans']} scans")
    for name, share in result["recall"].items():
        table.add_row(name, f"{share:.2f}")
    table.add_row(f"{result['pairs']} pairs of different scans, told", str(result["told"]))
    table.add_row("their highest correlation", f"{result['highest']:.2f}")
    Console().print(table)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
