"""Labelled phantoms, MRI-like and CT-like, for demonstrations and tests that download nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from monai_ssl.data.phantom_anatomy import AIR, draw_anatomy, smooth_field
from monai_ssl.data.phantom_scans import check_counts, ct_scan, empty_folder, placed, save_scan
from monai_ssl.utils.files import write_json

__all__ = ["PHANTOM_CLASSES", "PHANTOM_MODALITIES", "phantom", "write_phantoms"]

PHANTOM_CLASSES = ("background", "lobe", "gland", "node")
"""Names of the label values 0, 1, 2, 3."""

PHANTOM_MODALITIES = ("MRI", "CT")
"""What a phantom can look like."""

_SMALLEST = 24  # voxels along an axis; below, the node comes down to a few voxels
# Mean intensity of a tissue and how far it strays from case to case; the order is that of the tissue codes:
#             air      fat     soft   bone   vessel  lobe   gland  node
_MRI = ((0.02, 1.00, 0.40, 0.20, 0.10, 0.70, 0.58, 0.88), (0.0, 0.06, 0.03, 0.03, 0.03, 0.03, 0.03, 0.04))
_CT = ((-1000.0, -100.0, 45.0, 380.0, 220.0, 120.0, 100.0, 165.0), (0.0, 8.0, 5.0, 60.0, 40.0, 10.0, 10.0, 10.0))
_ORIENTATIONS = ("RAS", "RAS", "LPS", "LAS")  # as likely as they are often here


def phantom(
    index: int, *, seed: int = 0, modality: str = "MRI", size: Sequence[int] = (48, 56, 40)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one labelled case: a body with a lobe, a gland, a node, and unlabelled look-alikes.

    The gland leans on the lobe and is nearly as bright; the node leans on the gland and is small. Other blobs have
    the same intensities, so that place and shape tell an organ, not its brightness alone. The lobe takes 2% to 12% of
    the volume, the gland 0.5% to 4%, the node 0.2% to 2%. A case is a function of the arguments alone, and the MRI
    and the CT of one case show the same body.

    Args:
        index: number of the case, from 0.
        seed: number of the population, from 0.
        modality: ``"MRI"`` (bias field, Rician noise, a scale of 1 to 3000 that differs from volume to volume) or
            ``"CT"`` (whole Hounsfield units, air at -1000).
        size: voxels along the right-left, posterior-anterior and inferior-superior axes, each at least 24. A case
            has up to a sixteenth more or fewer, so that nothing downstream can count on one size.

    Returns:
        Image (float32), label (uint8, values as in :data:`PHANTOM_CLASSES`) and the affine from voxels to RAS
        millimetres: spacing 0.9 to 1.1 in plane and 1.2 times that between slices, orientation RAS, LPS or LAS.

    Shape:
        image and label ``(H, W, D)``, affine ``(4, 4)``.

    Raises:
        ValueError: if ``index`` or ``seed`` is negative, ``modality`` is unknown or ``size`` is too small.
    """
    _check(modality, size, index=index, seed=seed)
    frame, anatomy, appearance = (
        np.random.Generator(np.random.Philox(child)) for child in np.random.SeedSequence([seed, index]).spawn(3)
    )
    shape = [int(n + frame.integers(-(n // 16), n // 16 + 1)) for n in size]
    tissue, label = draw_anatomy(anatomy, shape)
    image = (_mri if modality == "MRI" else _ct)(appearance, tissue).astype(np.float32)
    spacing = frame.uniform(0.9, 1.1) * np.array([1.0, 1.0, 1.2])
    flips, affine = placed(frame, shape, spacing, _ORIENTATIONS)
    return np.ascontiguousarray(image[flips]), np.ascontiguousarray(label[flips]), affine


def write_phantoms(
    folder: str | os.PathLike[str],
    *,
    cases: int = 24,
    unlabeled: int = 0,
    modality: str = "MRI",
    seed: int = 0,
    size: Sequence[int] = (48, 56, 40),
) -> Path:
    """Write phantoms as a folder in the layout of the Medical Segmentation Decathlon.

    ``imagesTr`` and ``labelsTr`` hold cases 0 to ``cases`` - 1, ``imagesUn`` the ``unlabeled`` cases after them,
    whose labels are not written anywhere. ``dataset.json`` comes last: a folder without it is not complete.

    Args:
        folder: where to write; created, and empty if it exists.
        cases: number of labelled cases, at least 1.
        unlabeled: number of cases without a label.
        modality: see :func:`phantom`.
        seed: see :func:`phantom`.
        size: see :func:`phantom`.

    Returns:
        Path of ``dataset.json``.

    Raises:
        UserError: if ``folder`` holds anything or is a file.
        ValueError: if ``cases`` is below 1, ``unlabeled`` is negative, or :func:`phantom` refuses an argument.
    """
    _check(modality, size, seed=seed, unlabeled=unlabeled)
    if cases < 1:
        raise ValueError(f"`cases` must be at least 1, got {cases}.")
    root = empty_folder(folder, ("imagesTr", "labelsTr", *(["imagesUn"] if unlabeled else [])))
    training: list[dict[str, str]] = []
    without: list[dict[str, str]] = []
    for index in range(cases + unlabeled):
        image, label, affine = phantom(index, seed=seed, modality=modality, size=size)
        file = f"phantom_{index:03d}.nii.gz"
        entry = {"image": f"./{'imagesTr' if index < cases else 'imagesUn'}/{file}"}
        save_scan(image.astype(np.int16) if modality == "CT" else image, affine, root / entry["image"])
        if index < cases:
            entry["label"] = f"./labelsTr/{file}"
            save_scan(label, affine, root / entry["label"])
        (training if index < cases else without).append(entry)
    write_json(root / "dataset.json", _listing(modality, training, without))
    return root / "dataset.json"


def _check(modality: str, size: Sequence[int], **counts: int) -> None:
    if modality not in PHANTOM_MODALITIES:
        raise ValueError(f"`modality` must be one of {', '.join(PHANTOM_MODALITIES)}, got {modality!r}.")
    check_counts(size, _SMALLEST, **counts)


def _mri(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    mean, spread = np.array(_MRI)
    image = (mean + spread * rng.uniform(-1, 1, len(mean)))[tissue]
    image *= 1 + 0.35 * gaussian_filter(rng.standard_normal(tissue.shape), 1.0)  # texture, about 5%
    image = gaussian_filter(image, rng.uniform(0.5, 0.75))  # partial volume
    image **= rng.uniform(0.9, 1.12)  # contrast, as sequence parameters change it
    image *= np.exp(rng.uniform(0.05, 0.15) * smooth_field(rng, tissue.shape, 1))  # coil sensitivity
    level = rng.uniform(0.01, 0.025)
    real, imaginary = level * rng.standard_normal((2, *tissue.shape))
    return np.asarray(np.hypot(image + real, imaginary) * 10 ** rng.uniform(0, 3.5))


def _ct(rng: np.random.Generator, tissue: np.ndarray) -> np.ndarray:
    mean, spread = np.array(_CT)
    image = (mean + spread * rng.uniform(-1, 1, len(mean)))[tissue]
    return ct_scan(rng, image, tissue != AIR, blur=(0.5, 0.75))


def _listing(modality: str, training: list[dict[str, str]], unlabeled: list[dict[str, str]]) -> dict[str, Any]:
    listing: dict[str, Any] = {
        "name": f"{modality} phantoms",
        "description": "Generated bodies with three labelled organs and unlabelled look-alikes.",
        "reference": "monai_ssl.data.phantoms",
        "licence": "CC0-1.0",
        "tensorImageSize": "3D",
        "modality": {"0": modality},
        "labels": {str(value): name for value, name in enumerate(PHANTOM_CLASSES)},
        "numTraining": len(training),
        "numTest": 0,
        "training": training,
        "test": [],
    }
    return listing | {"unlabeled": unlabeled} if unlabeled else listing
