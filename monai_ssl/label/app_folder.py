"""The folder of our app: the bundles that it serves, with their models, and the one line that MONAI Label looks for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from monai_ssl.networks.first_model import write_first_model
from monai_ssl.utils.bundle_files import copy_bundle
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write

__all__ = ["DETECTION", "LABELS", "MODELS", "PRETRAINING", "SEGMENTATION", "make_app"]

PRETRAINING, SEGMENTATION, DETECTION = "ssl_pretraining", "semi_segmentation", "focalmix_detection"
LABELS: Mapping[str, tuple[str, ...]] = {
    PRETRAINING: (),
    SEGMENTATION: (".nii", ".nii.gz", ".nrrd"),  # the last from a DICOMweb server
    DETECTION: (".json",),
}
"""Bundles that the app can serve, with the suffixes of the labels that each learns from."""
MODELS = {"segmentation": SEGMENTATION, "detection": DETECTION}
_MAIN = '''"""The app for MONAI Label; written by `monai-ssl label`."""

from monai_ssl.label.app import SSLApp

__all__ = ["SSLApp"]
'''


def make_app(
    folder: str | os.PathLike[str],
    models: Sequence[str],
    labels: Sequence[str] | None = None,
    objects: Sequence[str] | None = None,
    modality: str | None = None,
) -> list[str]:
    """Write what the server needs, and leave what is there already as it is: models, values, labels.

    Args:
        folder: of the app.
        models: keys of :data:`MODELS`.
        labels: classes of the segmentation, without background.
        objects: classes of the detection.
        modality: ``CT`` or ``MRI``.

    Returns:
        Names of the bundles that are new.

    Raises:
        UserError: when the folder belongs to something else, or a bundle that is there has other classes or another
            modality than asked for.
    """
    root = Path(folder)
    main = root / "main.py"
    if main.is_file() and "monai_ssl" not in main.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"{main}: belongs to another app. Choose another folder with --app.")
    values: dict[str, dict[str, Any]] = {name: {} for name in (PRETRAINING, *(MODELS[model] for model in models))}
    if labels and SEGMENTATION in values:
        values[SEGMENTATION]["class_names"] = ["background", *labels]
    if objects and DETECTION in values:
        values[DETECTION]["class_names"] = list(objects)
    if modality:
        for chosen in values.values():
            chosen["modality"] = modality
    root.mkdir(parents=True, exist_ok=True)
    atomic_write(main, lambda stream: stream.write(_MAIN.encode()))  # first: copy_bundle looks whether this is an app
    made = []
    for name, chosen in values.items():
        bundle = root / "model" / name
        if bundle.is_dir() and any(bundle.iterdir()):
            _check_same(bundle, chosen)
            continue
        finish = None if name == PRETRAINING else partial(write_first_model, weights="untrained")
        copy_bundle(name, bundle, finish=finish, values=chosen)
        made.append(name)
    return made


def _check_same(bundle: Path, values: Mapping[str, Any]) -> None:
    # train.yaml may take its classes from a data list
    path = next(file for name in ("inference", "train") if (file := bundle / "configs" / f"{name}.yaml").is_file())
    there = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        if there.get(key) != value:
            raise UserError(
                f"{path}: has {key} {there.get(key)}, not {value}. Its model was made for these: leave the option out, "
                "or give another folder with --app."
            )
