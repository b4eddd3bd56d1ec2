"""A look at a label as soon as it arrives, while its author is still there."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import yaml

__all__ = ["unfit_values"]


def unfit_values(label: str | os.PathLike[str], bundle: str | os.PathLike[str]) -> str:
    """Say in a line what keeps a label map from training, or nothing.

    Args:
        label: NIfTI file.
        bundle: folder of the segmentation, whose ``class_names`` count.

    Returns:
        The line, empty where the label fits.
    """
    path = Path(label)
    names = yaml.safe_load((Path(bundle) / "configs" / "inference.yaml").read_text(encoding="utf-8"))["class_names"]
    try:
        values = np.unique(np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj))
    except Exception as error:  # whatever a broken file brings
        return f"{path.name}: the label cannot be read ({' '.join(str(error).split())[:200]}). Save it again."
    strange = [value for value in values if value not in range(len(names))]
    if strange:
        known = ", ".join(f"{value} {name}" for value, name in enumerate(names))
        return f"{path.name}: has the value {strange[0]:g}; there are {known}. It is kept: correct it before training."
    return ""
