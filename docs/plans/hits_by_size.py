"""Which sizes a detector knows: python hits_by_size.py STUDY METHOD BUDGET, METHOD as its folder is.

Of every seed's detector of METHOD at BUDGET in STUDY that was tested, a seed a row: how many labelled objects it was
trained with, and how many of the test objects it finds at one false positive a scan, by the longest side of the box in
mm. A scan may have one box at most.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect
from pathlib import Path
from typing import Any

BORDERS = (10, 28)  # mm
NAMES = ("below 10 mm", "10 to 28 mm", "28 mm and more")


def main(study: Path, method: str, budget: str) -> None:
    """Write the table to the terminal."""
    held_out = json.loads((study / "splits/held_out.json").read_text())["test"]
    sizes = {Path(case["image"]).name: _size(case) for case in held_out}
    _write(["seed", *(f"{what}, {name}" for name in NAMES for what in ("labelled", "found"))])
    _write(["---"] * (1 + 2 * len(NAMES)))
    for metrics in sorted((study / "runs" / budget / method).glob("seed*/test/metrics.json")):
        seed = metrics.parts[-3]
        split = json.loads((study / "splits" / budget / f"{seed}.json").read_text())
        labeled = [_size(case) for case in split["training"]]
        cases = json.loads(metrics.read_text())["cases"]
        false = sorted((score for case in cases for score in _scores(case, "false_scores")), reverse=True)
        least = false[len(cases)] if len(false) > len(cases) else 0.0
        found = [sizes[case["image"]] for case in cases if max(_scores(case, "hit_scores"), default=0.0) > least]
        counts = zip(_binned(labeled), _binned(found), _binned(sizes.values()), strict=True)
        _write([seed, *(cell for known, hits, all_ in counts for cell in (str(known), f"{hits} of {all_}"))])


def _size(case: dict[str, Any]) -> float | None:
    boxes = case["box"]
    if len(boxes) > 1:
        raise SystemExit(f"{case['image']}: {len(boxes)} boxes, and at most one can be told from the others.")
    return max(boxes[0][3:]) if boxes else None


def _scores(case: dict[str, Any], kind: str) -> list[float]:
    return [score for scores in case["classes"].values() for score in scores[kind]]


def _binned(sizes: Any) -> list[int]:
    counts = [0] * len(NAMES)
    for size in sizes:
        if size is not None:
            counts[bisect(BORDERS, size)] += 1
    return counts


def _write(cells: list[str]) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:4])
