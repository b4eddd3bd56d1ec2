"""Make a detection task of nodule cubes: crops with the nodule anywhere, and crops beside it without any.

    python docs/plans/lidc_detection.py FOLDER OUTPUT

FOLDER holds detection.json and images/ of cubes whose nodule sits at the centre; a detector would learn that place.
Of each cube OUTPUT gets a crop of 40 voxels a side at a random place that holds the nodule, and, where the nodule
leaves room, a slab of the largest part of the cube beside it. Both carry the cube's name as `patient`, so that they
stay on one side of every split. A nodule larger than a crop is left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SIDE = 40
THINNEST = 14  # voxels of a slab without a nodule that are worth a scan
SEED = 0


def main(folder: Path, output: Path) -> None:
    """Write crops and `dataset.json`."""
    (output / "images").mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    entries = []
    for entry in json.loads((folder / "detection.json").read_text())["training"]:
        path = folder / entry["image"]
        stem = path.name.removesuffix(".nii.gz")
        image = nib.load(path)
        box = np.array(entry["box"][0], dtype=float)
        if box[3:].max() > SIDE:
            continue  # larger than a crop, as one of the 100 is
        low, high = box[:3] + 0.5 - box[3:] / 2, box[:3] + 0.5 + box[3:] / 2
        start = holding(rng, low, high, image.shape)
        crop = image.slicer[tuple(slice(at, at + SIDE) for at in start)]
        save(crop, output / "images" / f"{stem}_nodule.nii.gz")
        entries.append({"image": f"images/{stem}_nodule.nii.gz", "box": entry["box"], "label": [0], "patient": stem})
        slab = beside(low, high, image.shape)
        if slab is not None:
            save(image.slicer[slab], output / "images" / f"{stem}_free.nii.gz")
            entries.append({"image": f"images/{stem}_free.nii.gz", "box": [], "label": [], "patient": stem})
    content: dict[str, Any] = {"name": "LIDC nodules, crops", "labels": {"0": "nodule"}, "training": entries}
    (output / "dataset.json").write_text(json.dumps(content, indent=1))
    free = sum(not entry["box"] for entry in entries)
    sys.stdout.write(f"{len(entries) - free} crops with a nodule, {free} without\n")


def holding(rng: np.random.Generator, low: np.ndarray, high: np.ndarray, shape: tuple[int, ...]) -> list[int]:
    """First voxel of a crop that holds the whole nodule, or where it is larger than a crop, the middle of it."""
    starts = []
    for first, last, side in zip(low, high, shape, strict=True):
        least, most = max(0, int(np.ceil(last)) - SIDE), min(side - SIDE, int(np.floor(first)))
        starts.append(int(rng.integers(least, most + 1)) if least <= most else (side - SIDE) // 2)
    return starts


def beside(low: np.ndarray, high: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...] | None:
    """The thickest slab beside the nodule, a voxel away from it, cut to the side of a crop along the other axes."""
    room = [(int(first) - 1, axis, 0) for axis, first in enumerate(low)]
    room += [
        (side - int(np.ceil(last)) - 1, axis, 1) for axis, (last, side) in enumerate(zip(high, shape, strict=True))
    ]
    thickness, axis, behind = max(room)
    if thickness < THINNEST:
        return None
    slab = [slice(0, SIDE)] * 3
    slab[axis] = slice(shape[axis] - thickness, shape[axis]) if behind else slice(0, thickness)
    return tuple(slab)


def save(image: nib.Nifti1Image, path: Path) -> None:
    """Write as it is; `slicer` has moved the origin, so that boxes in mm stay true."""
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj).astype(np.int16), image.affine), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
