"""CT-like chests with nodules among vessels, for detection demonstrations and tests that download nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from monai_ssl.data.chest_anatomy import AIR, draw_chest, draw_nodules, draw_vessels
from monai_ssl.data.phantom_scans import check_counts, ct_scan, empty_folder, placed, save_scan
from monai_ssl.utils.files import write_json

__all__ = ["NODULE_CLASSES", "nodule_phantom", "write_nodule_phantoms"]

NODULE_CLASSES = ("nodule",)
"""Names of the classes 0, .. of boxes."""

_SMALLEST = 40  # voxels along an axis; below, a lung does not hold three nodules
_ORIENTATIONS = ("RAS", "LPS", "LAS", "RAI")


def nodule_phantom(
    index: int, *, seed: int = 0, healthy: bool | None = None, size: Sequence[int] = (56, 56, 48)
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw one chest: two lungs with branching vessels and stray tubes, and no to three nodules.

    Nodules are ellipsoids of 4 to 12 mm wholly in a lung, no two closer than 2.5 mm, about half of them on a vessel.
    Vessels are as bright and as thick, so that a nodule is told by its shape, not by its brightness. A case is a
    function of the arguments alone; with and without nodules it shows the same chest.

    Args:
        index: number of the case, from 0.
        seed: number of the population, from 0.
        healthy: whether there are no nodules, or at least one; by default a quarter of the cases is healthy.
        size: voxels along the right-left, posterior-anterior and inferior-superior axes, each at least 40. A case
            has up to a sixteenth more or fewer, so that nothing downstream can count on one size.

    Returns:
        Image (float32, whole Hounsfield units, air at -1000), mask (uint8, the nodules numbered from 1), their boxes in
        that order (centre and size in mm, RAS, to the outer borders of the mask's voxels), and the affine from voxels
        to RAS millimetres: spacing 0.9 to 1.1 in plane and 1.2 times that between slices, orientation RAS, LPS, LAS or
        RAI.

    Shape:
        image and mask ``(H, W, D)``, boxes ``(N, 6)``, affine ``(4, 4)``.

    Raises:
        ValueError: if ``index`` or ``seed`` is negative, or ``size`` is too small.
    """
    check_counts(size, _SMALLEST, index=index, seed=seed)
    frame, anatomy, disease, appearance = (
        np.random.Generator(np.random.Philox(child)) for child in np.random.SeedSequence([seed, index]).spawn(4)
    )
    shape = [int(n + frame.integers(-(n // 16), n // 16 + 1)) for n in size]
    spacing = frame.uniform(0.9, 1.1) * np.array([1.0, 1.0, 1.2])
    intensity, lung = draw_chest(anatomy, shape)
    vessels = draw_vessels(anatomy, intensity, lung, spacing)
    count = int(disease.integers(1, 4))
    drawn_healthy = disease.uniform() < 0.25
    count = 0 if (drawn_healthy if healthy is None else healthy) else count
    mask = draw_nodules(disease, intensity, lung, vessels, spacing, count)
    image = ct_scan(appearance, intensity, intensity > AIR, blur=(0.4, 0.6)).astype(np.float32)
    flips, affine = placed(frame, shape, spacing, _ORIENTATIONS)
    image, mask = np.ascontiguousarray(image[flips]), np.ascontiguousarray(mask[flips])
    return image, mask, _boxes(mask, affine), affine


def write_nodule_phantoms(
    folder: str | os.PathLike[str],
    *,
    cases: int = 24,
    unlabeled: int = 0,
    healthy: float = 0.5,
    seed: int = 0,
    size: Sequence[int] = (56, 56, 48),
) -> Path:
    """Write chests with nodules as a folder with a detection list.

    ``imagesTr`` holds cases 0 to ``cases`` - 1, a quarter of them healthy, ``imagesUn`` the ``unlabeled`` cases after
    them, whose boxes are not written anywhere. ``detection.json`` comes last: a folder without it is not complete.

    Args:
        folder: where to write; created, and empty if it exists.
        cases: number of labelled cases, at least 1.
        unlabeled: number of cases without a label.
        healthy: share of the unlabelled cases that have no nodule, in [0, 1], spread evenly over them.
        seed: see :func:`nodule_phantom`.
        size: see :func:`nodule_phantom`.

    Returns:
        Path of ``detection.json``.

    Raises:
        UserError: if ``folder`` holds anything or is a file.
        ValueError: if ``cases`` is below 1, ``unlabeled`` is negative, ``healthy`` is no share, or
            :func:`nodule_phantom` refuses an argument.
    """
    check_counts(size, _SMALLEST, seed=seed, unlabeled=unlabeled)
    if cases < 1:
        raise ValueError(f"`cases` must be at least 1, got {cases}.")
    if not 0.0 <= healthy <= 1.0:
        raise ValueError(f"`healthy` must be in [0, 1], got {healthy}.")
    root = empty_folder(folder, ("imagesTr", *(["imagesUn"] if unlabeled else [])))
    training: list[dict[str, Any]] = []
    without: list[dict[str, Any]] = []
    for index in range(cases + unlabeled):
        place = index - cases
        until, before = (math.floor(round(count * healthy, 9)) for count in (place + 1, place))
        chosen = None if place < 0 else until > before
        image, _, boxes, affine = nodule_phantom(index, seed=seed, healthy=chosen, size=size)
        entry: dict[str, Any] = {"image": f"./{'imagesTr' if place < 0 else 'imagesUn'}/chest_{index:03d}.nii.gz"}
        save_scan(image.astype(np.int16), affine, root / entry["image"])
        if place < 0:
            training.append({**entry, "box": np.round(boxes, 4).tolist(), "label": [0] * len(boxes)})
        else:
            without.append(entry)
    write_json(root / "detection.json", _listing(training, without))
    return root / "detection.json"


def _boxes(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Boxes around the numbered objects, from the outer border of their first voxels to that of their last."""
    rows = []
    for place in find_objects(mask):
        first, stop = np.array([part.start for part in place]), np.array([part.stop for part in place])
        centre = affine[:3, :3] @ ((first + stop - 1) / 2) + affine[:3, 3]
        rows.append([*centre, *(np.abs(affine[:3, :3]) @ (stop - first))])
    return np.array(rows).reshape(-1, 6)


def _listing(training: list[dict[str, Any]], unlabeled: list[dict[str, Any]]) -> dict[str, Any]:
    listing: dict[str, Any] = {
        "name": "Chest phantoms",
        "description": "Generated chests with nodules among vessels.",
        "reference": "monai_ssl.data.nodule_phantoms",
        "licence": "CC0-1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "box_mode": "cccwhd, millimetres, RAS",
        "labels": {str(value): name for value, name in enumerate(NODULE_CLASSES)},
        "numTraining": len(training),
        "numTest": 0,
        "training": training,
        "test": [],
    }
    return listing | {"unlabeled": unlabeled} if unlabeled else listing
