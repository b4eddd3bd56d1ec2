"""Data lists for probes of nodule ratings: python lidc_lists.py FOLDER, beside FOLDER/images and FOLDER/ratings.csv.

Writes ``pool.json`` (all cubes, without labels), ``malignancy.json`` (rated 1 or 2 against 4 or 5; 3 is left out) and
``texture.json`` (rated 1 to 3, not solid, against 4 or 5) into the working folder.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path


def main(folder: Path) -> None:
    """Write the three lists."""
    with open(folder / "ratings.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    images = [f"./images/{row['name']}.nii.gz" for row in rows]
    pool = [{"image": image} for image in images]
    Path("pool.json").write_text(json.dumps({"unlabeled": pool}))
    classes: dict[str, Callable[[int], int | None]] = {
        "malignancy": lambda rating: None if rating == 3 else int(rating > 3),
        "texture": lambda rating: int(rating > 3),
    }
    for name, label in classes.items():
        ratings = [label(int(row[name])) for row in rows]
        cases = [{"image": image, "label": one} for image, one in zip(images, ratings, strict=True) if one is not None]
        Path(f"{name}.json").write_text(json.dumps({"labels": {"0": "low", "1": "high"}, "training": cases}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
