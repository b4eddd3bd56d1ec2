"""Rounds of self-training: labels for all unlabelled scans, made by the network as it is, that it then learns from."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import Invertd
from monai.utils import MetaKeys
from torch import Tensor, nn

from monai_ssl.data.formats import ending_of
from monai_ssl.data.probe_cases import common_folder
from monai_ssl.losses.confidence import confidence_mask
from monai_ssl.networks.fit import undisturbed
from monai_ssl.objectives.pseudo_label import IGNORE
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.files import atomic_write
from monai_ssl.utils.predictions import predicted_classes

__all__ = ["PseudoLabelRounds", "round_starts"]

logger = logging.getLogger(__name__)

_TABLE = "kept.csv"
_ALL = "(all cases)"
# where the voxels are: both of NIfTI's ways to say it, since readers differ in which one they trust
_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


class Scans(Protocol):
    """What ``dataset`` and ``scans`` must offer; :class:`monai_ssl.data.ScanDataset` does."""

    data: Sequence[Mapping[str, Any]]
    transform: Any

    def __getitem__(self, index: int) -> Any: ...

    def set_data(self, data: Sequence[Any]) -> None: ...


def round_starts(total_steps: int, epoch_length: int, rounds: int) -> list[int]:
    """Steps after which the rounds 1, 2, .. begin: whole epochs, as near to equal parts of the run as they can be.

    Args:
        total_steps: of the run, a multiple of ``epoch_length``.
        epoch_length: steps of an epoch.
        rounds: number of rounds with pseudo-labels; round 0, without, is one more part. 0 gives none.

    Raises:
        UserError: when ``rounds`` is negative, or there are fewer epochs than parts.
    """
    epochs, parts = total_steps // epoch_length, rounds + 1
    if rounds < 0:
        raise UserError(f"rounds must be 0 or more, got {rounds}.")
    if epochs < parts:
        raise UserError(
            f"{rounds} rounds of pseudo-labels, after one without, need {parts} epochs or more; {total_steps} steps "
            f"with epoch_length {epoch_length} are {epochs}. Take more steps, a smaller epoch_length or fewer rounds."
        )
    return [(2 * number * epochs + parts) // (2 * parts) * epoch_length for number in range(1, parts)]


class PseudoLabelRounds:
    """Labels all unlabelled scans when a round begins, and has them loaded with these labels from then on.

    Round ``r`` begins before the first step of an epoch, after ``starts[r - 1]`` steps. The network that makes labels
    (``objective.labeler``) goes over every scan as a whole, in evaluation mode. Its probabilities, not its labels, are
    brought back to the scan's own voxels; there the most probable class is the label where its probability is above
    ``objective.label_threshold``, and 255 ("not labelled") elsewhere. In ``<folder>/round_<r>/`` come

    - ``<case>.nii.gz``, uint8, with the scan's shape and place in space. ``<case>`` is the path of the scan below the
      folder that all scans have in common, so that equal names in different folders stay apart;
    - ``kept.csv``: for each case and class, and for ``(all cases)``, the voxels ``predicted`` as this class, those of
      them that are ``kept``, and their ``share``, empty where none is predicted. It is written last: where it is, the
      round is complete.

    Then the data set's cases are ``{"image": scan, "label": pseudo-label}``, and the loader begins anew at the present
    step. The weights go on from where they are. Labels of an unlabelled case that are not the run's own never get in.

    The random state is left as it is. A run that is resumed where a round begins makes its labels again, and one that
    is resumed within a round reads them from the folder; both end, bit for bit, like a run that was not interrupted.
    With several processes each labels a part of the scans, which all must see in one folder.

    It warns of classes of which not a voxel is kept in any scan. Place it after :class:`~monai_ssl.handlers.Resume` and
    :class:`~monai_ssl.handlers.TeacherUpdate`, before :class:`~monai_ssl.handlers.CheckpointWriter`.

    Args:
        dataset: what the trainer's loader reads unlabelled patches from; its transforms must take an optional
            ``label`` along, with nearest neighbours where they interpolate.
        scans: the same cases as a whole, in the voxels and intensities of the network, by an invertible ``transform``.
        inferer: is called with a batch of images and a network and returns logits; as in validation, a sliding window.
        folder: where the rounds' folders go.
        starts: of :func:`round_starts`; empty for no rounds.
        class_names: names of all classes, background first.

    Raises:
        ValueError: when there are more than 255 classes, or the two data sets hold other cases.
        UserError: when an unlabelled case has a label, a scan cannot be read or the network answers with other classes;
            or, at the start of a resumed run, when labels that it needs are missing.
    """

    def __init__(
        self,
        dataset: Scans,
        scans: Scans,
        inferer: Callable[[Tensor, nn.Module], Any],
        folder: str | os.PathLike[str],
        starts: Sequence[int],
        class_names: Sequence[str],
    ) -> None:
        if len(class_names) > IGNORE:
            raise ValueError(
                f"`class_names` must be {IGNORE} or fewer, as {IGNORE} is no class, got {len(class_names)}."
            )
        images = [str(case["image"]) for case in dataset.data]
        if images != [str(case["image"]) for case in scans.data]:
            raise ValueError("`dataset` and `scans` must hold the same cases in the same order.")
        for case in dataset.data:
            if "label" in case:
                raise UserError(f"{case['image']}: an unlabelled case may have no label, got {case['label']}.")
        self.dataset, self.scans = dataset, scans
        self.inferer = inferer
        self.folder = Path(folder)
        self.starts = list(starts)
        self.class_names = list(class_names)
        self.names = _case_names(images)
        self._invert = Invertd(keys="pred", transform=scans.transform, orig_keys="image", nearest_interp=False)

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._resume)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin_if_due)

    def _resume(self, engine: Any) -> None:
        step = engine.state.iteration
        number = sum(start < step for start in self.starts)
        # where a round begins, its labels are made again
        if number and step not in self.starts and step < engine.total_steps:
            self._check_complete(number)
            self._use(number)

    def _begin_if_due(self, engine: Any) -> None:
        step = engine.state.iteration
        if step not in self.starts:
            return
        number, device = self.starts.index(step) + 1, engine.state.device
        with undisturbed(engine.objective, device):
            self._label(engine.objective, number, device)
            self._use(number)
        # an epoch begins here, so nothing is lost of ignite's count of its steps
        engine.data_loader.start_at(step)
        engine.set_data(engine.data_loader)

    def _label(self, objective: Any, number: int, device: torch.device) -> None:
        """Write the round's folder."""
        first, folder = idist.get_rank() == 0, self._round(number)
        if first and folder.exists():  # of a run that was killed in here, or replaced
            (folder / _TABLE).unlink(missing_ok=True)
            shutil.rmtree(folder)
        idist.barrier()
        counts: dict[str, Tensor] = {}
        places = {str(case["image"]): index for index, case in enumerate(self.scans.data)}
        for image, index in list(places.items())[idist.get_rank() :: idist.get_world_size()]:
            scan = self.scans[index]["image"]
            labels, counts[image] = self._predict(objective, scan, device)
            _write_label(self._file(number, image), labels, image, scan.meta[MetaKeys.ORIGINAL_AFFINE])
        counts = {image: table for part in _gather(counts) for image, table in part.items()}
        if first:
            self._report(number, counts)
            rows = [*((self.names[image], counts[image]) for image in places), (_ALL, _total(counts))]
            _write_table(folder / _TABLE, rows, self.class_names)
        idist.barrier()

    def _predict(self, objective: Any, image: Any, device: torch.device) -> tuple[Tensor, Tensor]:
        """Labels in the scan's own voxels, and how many are predicted and kept of each class."""
        logits = self.inferer(image[None].as_subclass(Tensor).to(device), objective.labeler)
        classes = len(self.class_names)
        if logits.shape[1] != classes:
            raise UserError(
                f"the network answers with {logits.shape[1]} classes and `class_names` has {classes}: "
                f"{', '.join(self.class_names)}."
            )
        p = MetaTensor(torch.softmax(logits[0].float(), 0).cpu())  # the inverse needs room, GPUs have less
        p = self._invert({"image": image, "pred": p})["pred"].as_subclass(Tensor)
        predicted, kept = predicted_classes(p, dim=0), confidence_mask(p[None], objective.label_threshold)[0, 0]
        counts = [torch.bincount(part.flatten(), minlength=classes) for part in (predicted, predicted[kept])]
        return torch.where(kept, predicted, IGNORE).to(torch.uint8), torch.stack(counts, 1)

    def _report(self, number: int, counts: Mapping[str, Tensor]) -> None:
        predicted, kept = _total(counts).T
        logger.info(
            f"round {number} of {len(self.starts)}: {len(counts)} unlabelled scans labelled, "
            f"{int(kept.sum()) / int(predicted.sum()):.1%} of their voxels kept"
        )
        missing = [name for name, count in zip(self.class_names, kept.tolist(), strict=True) if not count]
        if missing:
            logger.warning(
                f"round {number}: no voxel of {', '.join(missing)} is kept in any unlabelled scan. Pseudo-labels may "
                "teach that there is none: lower the threshold, or take more steps, so that rounds begin later."
            )

    def _use(self, number: int) -> None:
        """From now on the unlabelled cases have the labels of this round."""
        images = [str(case["image"]) for case in self.scans.data]
        self.dataset.set_data([{"image": image, "label": str(self._file(number, image))} for image in images])

    def _check_complete(self, number: int) -> None:
        files = [self._round(number) / _TABLE, *(self._file(number, image) for image in self.names)]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise UserError(
                f"{missing[0]}: is not there, and {len(missing) - 1} more of the {len(files)} files of round {number}, "
                "in which the checkpoint lies. Put the folder back, or start anew with --overwrite true."
            )

    def _round(self, number: int) -> Path:
        return self.folder / f"round_{number}"

    def _file(self, number: int, image: str) -> Path:
        return self._round(number) / f"{self.names[image]}.nii.gz"


def _case_names(images: Sequence[str]) -> dict[str, str]:
    """The path of each scan below the folder of all, without its ending unless it would be another scan's name then."""
    base = common_folder([{"image": image} for image in images])
    paths = {image: os.path.relpath(image, base) for image in images}
    short = {image: path[: len(path) - len(ending_of(path))] for image, path in paths.items()}
    names = list(short.values())
    return {image: paths[image] if names.count(name) > 1 else name for image, name in short.items()}


def _write_label(path: Path, labels: Tensor, image: str, affine: Any) -> None:
    label = nib.Nifti1Image(labels.numpy(), np.asarray(affine, dtype=np.float64), dtype=np.uint8)
    scan: Any = nib.load(image) if ending_of(image).lower() in (".nii", ".nii.gz") else None
    if isinstance(scan, nib.Nifti1Pair):
        for field in _GEOMETRY:
            label.header[field] = scan.header[field]
    path.parent.mkdir(parents=True, exist_ok=True)
    # without a time in it, so that a resumed run writes the same bytes
    content = gzip.compress(label.to_bytes(), compresslevel=1, mtime=0)
    atomic_write(path, lambda stream: stream.write(content))


def _write_table(path: Path, cases: Sequence[tuple[str, Tensor]], class_names: Sequence[str]) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(["case", "class", "predicted", "kept", "share"])
    for case, counts in cases:
        for name, (predicted, kept) in zip(class_names, counts.tolist(), strict=True):
            writer.writerow([case, name, predicted, kept, kept / predicted if predicted else ""])
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda target: target.write(stream.getvalue().encode()))


def _total(counts: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(counts.values())).sum(0)


def _gather(counts: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    if idist.get_world_size() == 1:
        return [counts]
    gathered: list[dict[str, Tensor]] = [{} for _ in range(idist.get_world_size())]
    torch.distributed.all_gather_object(gathered, counts)
    return gathered
