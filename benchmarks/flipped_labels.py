"""How many labels that were mirrored left to right `monai-ssl check` finds, and how many right ones it suspects.

    python benchmarks/flipped_labels.py --data FOLDER --output flipped_labels.json
    python benchmarks/flipped_labels.py --generated CT

Every labelled case of a list is read once. Then no label, each one alone, one in twenty, and every second one is
mirrored, several times by another draw, and what the check says is counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from monai_ssl.data.check_cohort import flipped_labels
from monai_ssl.data.check_facts import Volume
from monai_ssl.data.check_list import Case, read_listing
from monai_ssl.data.check_mirror import MirrorTest, mirror_test
from monai_ssl.data.check_scan import read_facts
from monai_ssl.data.datalist import find_datalist
from monai_ssl.data.phantoms import PHANTOM_MODALITIES, write_phantoms
from monai_ssl.utils.errors import UserError

Both = tuple[MirrorTest, MirrorTest]

_MOST_BYTES = 8_000_000_000


def read_cases(folder: Path) -> tuple[list[Case], list[Both]]:
    """Return the labelled cases of a list that can be compared, and for each what is found of it right and mirrored."""
    cases: list[Case] = []
    found: list[Both] = []
    for case in read_listing(find_datalist(folder, None)).cases:
        if case.label_path is None:
            continue
        image = read_facts(case.image_path, False, _MOST_BYTES, sampled=True).volume
        label = read_facts(case.label_path, True, _MOST_BYTES, sampled=True).volume
        if image is None or label is None:
            continue
        right, wrong = mirror_test(image, label), mirror_test(image, mirrored(label))
        if right is not None and wrong is not None:
            cases.append(case)
            found.append((right, wrong))
    if not cases:
        raise UserError(f"{folder}: has no labelled case that can be compared with its image. Name another folder.")
    return cases, found


def mirrored(label: Volume) -> Volume:
    """Return a label with its voxels in the other order along the axis nearest to left and right."""
    axes = np.asarray(label.affine)[:3, :3]
    axis = int(abs(axes[0] / np.linalg.norm(axes, axis=0)).argmax())
    return replace(label, voxels=None if label.voxels is None else np.flip(label.voxels, axis))


def measure(cases: Sequence[Case], found: Sequence[Both], draws: int) -> list[dict[str, Any]]:
    """Return the share of right labels that are suspected, and of mirrored ones, by how many there are."""
    draw, number = np.random.default_rng(0), len(cases)
    chosen: dict[str, list[list[int]]] = {"none": [[]], "1, each in turn": [[n] for n in range(number)]}
    for name, count in (("5 %", max(round(number / 20), 1)), ("half", number // 2)):
        chosen[name] = [draw.permutation(number)[:count].tolist() for _ in range(draws)]
    rows = []
    for name, sets in chosen.items():
        told = np.zeros((len(sets), number), bool)
        wrong = np.zeros_like(told)
        for row, flipped in enumerate(sets):
            wrong[row, flipped] = True
            tests = {
                (case.image_path, case.label_path or ""): both[int(wrong[row, n])]
                for n, (case, both) in enumerate(zip(cases, found, strict=True))
            }
            files = {fault.file for fault in flipped_labels(cases, tests)}
            told[row] = [case.label in files for case in cases]
        recall = float(told[wrong].mean()) if wrong.any() else None
        rows.append({"mirrored": name, "false": float(told[~wrong].mean()), "recall": recall})
    return rows


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", type=Path, help="folder with dataset.json")
    data.add_argument("--generated", choices=PHANTOM_MODALITIES, help="generated bodies of this look")
    parser.add_argument("--cases", type=int, default=100, help="number of generated bodies")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other bodies")
    parser.add_argument("--draws", type=int, default=40, help="draws of 5 %% and of half the labels")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.generated:
            write_phantoms(folder, cases=options.cases, modality=options.generated, seed=options.seed)
        cases, found = read_cases(options.data or Path(folder))
    rows = measure(cases, found, options.draws)
    table = Table("mirrored labels", "right ones suspected", "mirrored ones found", title=f"{len(cases)} labels")
    for row in rows:
        recall = "" if row["recall"] is None else f"{row['recall']:.3f}"
        table.add_row(row["mirrored"], f"{row['false']:.4f}", recall)
    Console().print(table)
    if options.output:
        options.output.write_text(json.dumps({"labels": len(cases), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
