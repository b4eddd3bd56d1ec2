"""Training of a bundle in our app: choices that an annotator understands, progress, and no study seen twice."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import monai.bundle
import SimpleITK
import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.others.generic import device_list

from monai_ssl.label.holdout import hold_out
from monai_ssl.label.options import (
    ALL_STUDIES,
    LABELED_STUDIES,
    LAST_MODEL,
    PRETRAINING,
    TrainingOptions,
    read_options,
)
from monai_ssl.label.progress import training_stats
from monai_ssl.utils.bundle import is_untrained
from monai_ssl.utils.config_values import check_values
from monai_ssl.utils.errors import UserError, show_user_errors_as_one_line

__all__ = ["SSLTrainTask"]

logger = logging.getLogger(__name__)

_HOLDOUT = "holdout.json"  # beside the weights


class SSLTrainTask(BundleTrainTask):  # type: ignore[misc]
    """Trains one bundle in a process of its own, as MONAI Label starts it.

    Args:
        path: the bundle's folder.
        conf: of the server.
        labels: suffixes of the labels that the bundle learns from; none: it learns without.
    """

    def __init__(self, path: str, conf: dict[str, str], labels: tuple[str, ...]) -> None:
        super().__init__(path, conf)
        self.labels = labels
        self.defaults = TrainingOptions(device=device_list()[0])

    def config(self) -> dict[str, Any]:
        """The choices, as clients show them."""
        choices = {"steps": self.defaults.steps, "device": device_list()}
        if self.labels:
            choices |= {
                "learn_from": [ALL_STUDIES, LABELED_STUDIES],
                "start_from": [LAST_MODEL, PRETRAINING],
                "validation": self.defaults.validation,
            }
        return choices

    def stats(self) -> dict[str, Any]:
        """See :func:`~monai_ssl.label.progress.training_stats`."""
        return training_stats(Path(self.bundle_path) / "models")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train to the end.

        Raises:
            UserError: for a value of the request that is no choice, or as the bundle's training does.
        """
        show_user_errors_as_one_line()
        check_values({name: value for name, value in request.items() if name != "bundle_path"})
        options = read_options(request, self.defaults)
        training, validation = self._studies(datastore, options)
        logger.info(f"{self.name}: {options}; {len(training)} labelled studies, and {len(validation)} for validation")
        configs = [self.bundle_config_path]
        if self.labels and options.learn_from == LABELED_STUDIES:
            configs.append(str(Path(self.bundle_path) / "configs" / "methods" / "supervised.yaml"))
        overrides = {
            "bundle_root": self.bundle_path,
            "device": options.device,
            "max_steps": options.steps,
            "epoch_length": options.epoch_length,
            **self._lists(training, validation),
        }
        if self.labels:
            overrides["train#handlers"] = self._handlers(options)
            # the accuracy that clients show: a few times a training, and at its end
            overrides["val_interval"] = options.epoch_length * math.ceil(options.steps / options.epoch_length / 4)
        monai.bundle.run(meta_file=self.bundle_metadata_path, config_file=configs, **overrides)
        return {}

    @property
    def name(self) -> str:
        """Of the bundle."""
        return Path(self.bundle_path).name

    def _studies(self, datastore: Datastore, options: TrainingOptions) -> tuple[list[Any], list[Any]]:
        """Cases for training and for validation, as a data list has them."""
        cases = {
            Path(case["image"]).name: {"image": case["image"], "label": case["label"]}
            for case in datastore.datalist()
            if str(case["label"]).endswith(self.labels)
        }
        if not self.labels or not cases:
            return [], []
        path = Path(self.bundle_path) / "models" / _HOLDOUT
        path.parent.mkdir(exist_ok=True)
        training, validation = hold_out(path, list(cases), options.validation)
        if "detection" in self.name:
            cases = {name: _with_boxes(case) for name, case in cases.items()}
        else:
            cases = {name: _with_nifti(case, path.with_name("labels")) for name, case in cases.items()}
        return [cases[name] for name in training], [cases[name] for name in validation]

    def _lists(self, training: list[Any], validation: list[Any]) -> dict[str, Any]:
        # without labels the bundle asks the server's store itself, as it does for unlabelled studies
        return {"train#dataset#data": training, "validate#dataset#data": validation} if self.labels else {}

    def _handlers(self, options: TrainingOptions) -> list[Any]:
        """The bundle's own, after one that loads the model that is there."""
        handlers = list(self.bundle_config.get("train")["handlers"])
        model = os.path.join(self.bundle_path, "models", self.const.model_pytorch())
        if options.start_from == LAST_MODEL and os.path.isfile(model) and not is_untrained(model):
            loader = {"_target_": "CheckpointLoader", "load_path": model, "load_dict": {"model": "$@network"}}
            handlers.insert(0, {**loader, "map_location": torch.device("cpu"), "strict": True})
        return handlers


def _with_nifti(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A case whose label is NIfTI on the image's grid.

    MONAI Label turns DICOM segmentations into NRRD, which Nibabel cannot read and which lacks slices without a mask.
    """
    label = Path(case["label"])
    if label.suffix != ".nrrd":
        return case
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{label.stem}.nii.gz"
    try:
        mask, image = SimpleITK.ReadImage(str(label)), SimpleITK.ReadImage(case["image"])
        whole = SimpleITK.Resample(mask, image, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0)
        SimpleITK.WriteImage(whole, str(target))
    except RuntimeError as error:
        raise UserError(f"{label}: this label or its study cannot be read. Save the label again.") from error
    return {**case, "label": str(target)}


def _with_boxes(case: dict[str, Any]) -> dict[str, Any]:
    """A case of a data list from one whose label is a file of markups, with boxes in LPS."""
    try:
        markups = json.loads(Path(case["label"]).read_text(encoding="utf-8"))["markups"]
        boxes = [[float(value) for value in (*box["center"], *box["size"])] for box in markups]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{case['label']}: is no file of boxes (markups with center and size): {error!r}. Save the boxes of this "
            "study again."
        ) from error
    return {"image": case["image"], "box": boxes, "label": [0] * len(boxes)}
