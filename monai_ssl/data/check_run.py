"""The check of a data set: read its list, read each file once in several processes, name every fault."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai_ssl.data.check_boxes import box_faults
from monai_ssl.data.check_case import affine_faults, geometry_faults, image_faults, label_faults
from monai_ssl.data.check_cohort import far_scans, missing_classes, patients_apart, same_scans
from monai_ssl.data.check_facts import Fault, ScanFacts, Volume
from monai_ssl.data.check_list import Case, Listing, read_listing
from monai_ssl.data.check_processes import read_all
from monai_ssl.data.datalist import PARTS, find_datalist
from monai_ssl.utils.errors import UserError

__all__ = ["DataCheck", "check_data"]


@dataclass(frozen=True)
class DataCheck:
    """All faults of a data set.

    Args:
        faults: errors first, in the order of the list.
        cases: number of its cases.
        files: number of files that were read.
        size: of them, in bytes.
    """

    faults: tuple[Fault, ...]
    cases: int
    files: int
    size: int

    @property
    def errors(self) -> int:
        """Number of errors."""
        return sum(fault.level == "error" for fault in self.faults)

    @property
    def warnings(self) -> int:
        """Number of warnings."""
        return len(self.faults) - self.errors

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for a JSON file."""
        counts = {"cases": self.cases, "files": self.files, "errors": self.errors, "warnings": self.warnings}
        return {**counts, "faults": [fault.as_dict() for fault in self.faults]}


def check_data(
    datalist: str | os.PathLike[str] | None,
    dataset_dir: str | os.PathLike[str] | None = None,
    *,
    jobs: int | None = None,
    max_gigabytes: float = 8.0,
    patch_size: Sequence[int] | None = None,
    patient_regex: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataCheck:
    """Name every fault of a data set; each file is read once.

    Files of ``validation`` and ``test`` are read as well, and nothing of them comes out but faults. The label of an
    unlabelled case is never opened.

    Args:
        datalist: as in :func:`~monai_ssl.data.datalist.find_datalist`.
        dataset_dir: folder that the list's paths are relative to; if None, the list's own folder.
        jobs: as in :func:`~monai_ssl.data.check_processes.read_all`.
        max_gigabytes: of one file's voxels; a header that claims more is refused before they are read.
        patch_size: of a training, three lengths in voxels; smaller volumes are told.
        patient_regex: finds the patient in a file name where the list names none.
        progress: called with the number of files that are read and of all, from time to time.

    Raises:
        UserError: if there is no list, or an argument is out of range.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"`jobs` must be at least 1, got {jobs}.")
    if not max_gigabytes > 0:
        raise UserError(f"`max_gigabytes` must be above 0, got {max_gigabytes:g}.")
    if patch_size is not None and (len(patch_size) != 3 or min(patch_size) < 1):
        raise UserError(f"`patch_size` must be three lengths from 1, got {list(patch_size)}.")
    listing = read_listing(find_datalist(datalist, dataset_dir), dataset_dir, patient_regex)
    wanted = {case.image_path: False for case in listing.cases}
    wanted |= {case.label_path: True for case in listing.cases if case.label_path}
    facts: dict[str, ScanFacts] = {}
    for found in read_all(wanted, int(max_gigabytes * 1e9), jobs):
        facts[found.path] = found
        if progress is not None:
            progress(len(facts), len(wanted))
    faults = [*listing.faults, *_case_faults(listing, facts, patch_size), *patients_apart(listing.cases)]
    faults += [*same_scans(listing.cases, facts), *missing_classes(listing.cases, facts, listing.classes)]
    faults += far_scans(listing.cases, facts)
    size = sum(found.size for found in facts.values())
    return DataCheck(tuple(sorted(faults, key=_place(listing.cases))), len(listing.cases), len(facts), size)


def _case_faults(listing: Listing, facts: Mapping[str, ScanFacts], patch_size: Sequence[int] | None) -> Iterator[Fault]:
    channels = listing.channels or _usual_channels(listing.cases, facts)
    for case in listing.cases:
        image = facts[case.image_path]
        for kind, text in _image_told(case, image, channels, patch_size):
            yield Fault(kind, text, case.part, case.name, case.image)
        if case.label is not None and case.label_path is not None:
            for kind, text in _label_told(image, facts[case.label_path], listing.classes):
                yield Fault(kind, text, case.part, case.name, case.label)


def _image_told(
    case: Case, image: ScanFacts, channels: int | None, patch_size: Sequence[int] | None
) -> Iterator[tuple[str, str]]:
    if image.problem is not None:
        yield image.problem
    if image.volume is not None:
        yield from image_faults(image.volume, channels, patch_size)
        yield from affine_faults(image.volume)
        if _has_place(image.volume):
            yield from box_faults(image.volume, case.boxes)


def _label_told(image: ScanFacts, label: ScanFacts, classes: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    if label.problem is not None:
        yield label.problem
    if label.volume is not None:
        yield from label_faults(label.volume, classes)
        yield from affine_faults(label.volume)
        if image.volume is not None and _has_place(image.volume) and _has_place(label.volume):
            yield from geometry_faults(image.volume, label.volume)


def _has_place(volume: Volume) -> bool:
    return "affine" not in dict(affine_faults(volume))


def _usual_channels(cases: Sequence[Case], facts: Mapping[str, ScanFacts]) -> int | None:
    volumes = (facts[case.image_path].volume for case in cases)
    found = Counter(volume.shape[3] if len(volume.shape) == 4 else 1 for volume in volumes if volume is not None)
    return found.most_common(1)[0][0] if found else None


def _place(cases: Sequence[Case]) -> Callable[[Fault], tuple[bool, int, int]]:
    order = {(case.part, case.name): number for number, case in reversed(list(enumerate(cases)))}
    parts = {"": -1, **{part: number for number, part in enumerate(PARTS)}}
    return lambda fault: (fault.level != "error", parts[fault.part], order.get((fault.part, fault.case), -1))
