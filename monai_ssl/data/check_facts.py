"""What ``monai-ssl check`` knows of a file, and the faults that it can tell: their level and their remedy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal, NamedTuple

import numpy as np

__all__ = ["KINDS", "Fault", "Kind", "Problem", "ScanFacts", "Volume"]


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        level: errors stop a training or falsify its result; warnings are for a person to look at.
        remedy: what to do.
    """

    level: Literal["error", "warning"]
    remedy: str


_AGAIN = "Copy or export the file again from its source."

KINDS = {
    # the list
    "list": Kind("error", "Correct the list."),
    "entry": Kind("error", "Correct this entry of the list."),
    "labels": Kind("error", 'Write `labels` as {"0": "background", "1": "spleen"}: the values 0, 1, 2, ... once each.'),
    "no_label": Kind("error", "Give the entry a `label`, or move it to `unlabeled`."),
    "same_image": Kind("error", "Keep it in one of the two parts."),
    "same_content": Kind("error", "Keep one of the two, or give all copies the same `patient` and part."),
    "leak": Kind("error", "Leave it out of `unlabeled`."),
    "same_patient": Kind("error", "Keep all cases of a patient on one side."),
    "patient_regex": Kind("error", "Correct --patient_regex, or name the `patient` in the list."),
    # a file
    "missing": Kind("error", "Correct the path, or set --dataset_dir to the folder that the list's paths start from."),
    "not_a_file": Kind("error", "Name one image file."),
    "unreadable": Kind("error", "Make the file readable, or copy it again from its source."),
    "empty": Kind("error", _AGAIN),
    "not_an_image": Kind("error", "Name an image, or convert the file to NIfTI."),
    "truncated": Kind("error", _AGAIN),
    "corrupt": Kind("error", _AGAIN),
    "trailing": Kind("error", _AGAIN),
    "short": Kind("error", _AGAIN),
    "surplus": Kind("error", "Correct its header, or export the file again from its source."),
    "series": Kind("error", "Put the slices of one series, all of them, into a folder of their own."),
    "too_large": Kind("error", "Correct its header, or raise --max_gigabytes if the volume is as large as that."),
    "header": Kind("error", "Correct its header, or export the file again from its source."),
    "voxel_type": Kind("error", "Convert the voxels to an integer or a floating-point type."),
    "non_finite": Kind("error", "Replace these voxels, or leave the case out."),
    "affine": Kind("error", "Write a correct affine into the file, or export it again from its source."),
    "sheared": Kind("error", "Resample the scan to perpendicular axes (gantry tilt)."),
    "dimensions": Kind("error", "Convert it to one 3D volume a file, or leave the case out."),
    "channels": Kind("error", "Give the file the channels that the list declares, or correct the list."),
    # an image and its label
    "shape": Kind("error", "Resample the label to the image's grid."),
    "spacing": Kind("error", "Resample the label to the image's grid, or correct the wrong header."),
    "orientation": Kind("error", "Reorient the label to the image, or correct the wrong header."),
    "shift": Kind("error", "Resample the label to the image's grid, or correct the wrong header."),
    "label_values": Kind("error", "Correct the label, or name all classes in the list's `labels`."),
    "label_fractions": Kind("error", "Write whole numbers (resample labels by nearest neighbours)."),
    "box": Kind("error", "Correct the box: centre and size in mm (cccwhd), of this image, in RAS or LPS."),
    # warnings
    "coordinates": Kind(
        "warning", "Look at a box over its image. Lists of ITK, of DICOM tools and of LUNA16 want --coordinates LPS."
    ),
    "constant": Kind("warning", "Look at the scan, and leave it out if it is blank."),
    "empty_label": Kind("warning", "Look whether the case has been labelled."),
    "flipped_label": Kind(
        "warning", "Look at the label over its image; if it is mirrored, write it again with the image's affine."
    ),
    "missing_class": Kind("warning", "Add a labelled case with this class, or leave the class out of `labels`."),
    "far_spacing": Kind("warning", "Look whether the scan belongs to the others and its header is right."),
    "far_intensity": Kind("warning", "Look whether the scan has the unit and modality of the others."),
    "small": Kind("warning", "Lower --patch_size, or expect this scan to be padded."),
    "duplicate": Kind("warning", "List it once."),
    "near_duplicate": Kind("warning", "Look at both, and list one of them if they are one scan."),
    "near_leak": Kind("warning", "Look at both: if they are one scan, this is a leak; leave it out of the training."),
    "outlier": Kind(
        "warning", "Look at the scan, and leave it out with --exclude if it does not belong to the others."
    ),
    "some_patients": Kind("warning", "Name the `patient` of every case, or give --patient_regex."),
    "unchecked": Kind("warning", "Convert it to NIfTI to have it checked."),
}
"""Every kind of fault by its name."""


@dataclass(frozen=True)
class Fault:
    """One fault of a data set.

    Args:
        kind: one of :data:`KINDS`.
        text: what is wrong, as the end of a sentence about the file or the entry.
        part: of the list; empty for the list itself.
        case: the case's name.
        file: as the list writes it.
    """

    kind: str
    text: str
    part: str = ""
    case: str = ""
    file: str = ""

    @property
    def level(self) -> str:
        """``error`` or ``warning``."""
        return KINDS[self.kind].level

    @property
    def remedy(self) -> str:
        """What to do."""
        return KINDS[self.kind].remedy

    def as_dict(self) -> dict[str, str]:
        """Return all of it for a JSON file."""
        return {"level": self.level, **asdict(self), "remedy": self.remedy}


class Problem(NamedTuple):
    """Why a file could not be read: a kind of :data:`KINDS`, and in words."""

    kind: str
    text: str


@dataclass(frozen=True)
class Volume:
    """The voxels of a file in numbers.

    Args:
        shape: as stored, without further axes of length 1 after the third.
        affine: 4 x 4, voxel to millimetres; NaN where the header gives none.
        digest: SHA-256 of an image's values as float32, in the order of the file; empty for a label.
        minimum: of the finite values, NaN if there is none; so the next three.
        maximum: of the finite values.
        mean: of the finite values.
        std: of the finite values.
        non_finite: number of NaN and infinite values.
        values: of a label, its values and how often each occurs, up to a number of them; empty for an image.
        voxels: some of them in float32, every n-th along each axis, of the first channel; None where nobody wants them.
    """

    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    digest: str
    minimum: float
    maximum: float
    mean: float
    std: float
    non_finite: int
    values: dict[float, int]
    voxels: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class ScanFacts:
    """A file after it was read once: its volume, or why there is none.

    Args:
        path: absolute.
        size: in bytes.
        volume: None if it could not be read.
        problem: None if it was read without a fault.
    """

    path: str
    size: int = 0
    volume: Volume | None = None
    problem: Problem | None = None

    def __post_init__(self) -> None:
        if self.problem is not None and self.problem.kind not in KINDS:
            raise ValueError(f"`problem` must be of a kind of KINDS, got {self.problem.kind!r}.")
