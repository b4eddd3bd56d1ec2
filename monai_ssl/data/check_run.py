"""The check of a data set: read its list, read each file once in several processes, name every fault."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monai_ssl.data.check_boxes import box_faults, coordinate_faults
from monai_ssl.data.check_case import affine_faults, geometry_faults, image_faults, label_faults
from monai_ssl.data.check_cohort import far_scans, flipped_labels, missing_classes, patients_apart, same_scans
from monai_ssl.data.check_facts import Fault, ScanFacts, Volume
from monai_ssl.data.check_list import Case, Listing, read_listing
from monai_ssl.data.check_mirror import PairReader
from monai_ssl.data.check_pool import pool_faults
from monai_ssl.data.check_processes import read_all
from monai_ssl.data.datalist import PARTS, find_datalist
from monai_ssl.data.formats import channel_files
from monai_ssl.utils.errors import UserError

__all__ = ["DataCheck", "check_data", "check_listing"]


@dataclass(frozen=True)
class DataCheck:
    """All faults of a data set.

    Args:
        faults: errors first, in the order of the list.
        cases: number of its cases.
        files: number of files that were read.
        size: of them, in bytes.
        paths: of the images, absolute, by part and file as listed.
    """

    faults: tuple[Fault, ...]
    cases: int
    files: int
    size: int
    paths: dict[tuple[str, str], str] = field(default_factory=dict)

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
    pool: bool = False,
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
        pool: also look for scans that are nearly another one, and for unlabelled scans that are unlike the labelled
            ones, for which images are read once more.
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
    more = {"jobs": jobs, "max_gigabytes": max_gigabytes, "patch_size": patch_size, "progress": progress}
    return check_listing(listing, pool=pool, **more)  # type: ignore[arg-type]


def check_listing(
    listing: Listing,
    *,
    jobs: int | None = None,
    max_gigabytes: float = 8.0,
    patch_size: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
    pool: bool = False,
    threads: bool = False,
    coordinates: str | None = None,
) -> DataCheck:
    """Name every fault of cases that are known already, and those that the listing has.

    Args:
        listing: the cases; nothing but the files that they name is read.
        jobs: see :func:`check_data`.
        max_gigabytes: likewise.
        patch_size: likewise.
        progress: likewise.
        pool: likewise.
        threads: as in :func:`~monai_ssl.data.check_processes.read_all`.
        coordinates: see :func:`~monai_ssl.data.check_boxes.box_faults`.
    """
    channels = {case.image_path: _channel_files(case, listing) for case in listing.cases}
    pairs = PairReader((case.image_path, case.label_path) for case in listing.cases if case.label_path)
    wanted: dict[str, bool] = {}
    for case in listing.cases:  # a label next to its image, whose voxels wait for it
        wanted |= {file: False for file in channels[case.image_path] if file not in wanted}
        wanted |= {case.label_path: True} if case.label_path else {}
    facts: dict[str, ScanFacts] = {}
    for found in read_all(wanted, int(max_gigabytes * 1e9), jobs, threads=threads, sampled=pairs.files):
        facts[found.path] = pairs.take(found)
        if progress is not None:
            progress(len(facts), len(wanted))
    faults = [
        *listing.faults,
        *_case_faults(listing, facts, channels, patch_size, coordinates),
        *patients_apart(listing.cases),
    ]
    faults += [*same_scans(listing.cases, facts), *missing_classes(listing.cases, facts, listing.classes)]
    placed = ((case, facts[case.image_path].volume) for case in listing.cases)
    faults += coordinate_faults((case, volume) for case, volume in placed if volume is not None and _has_place(volume))
    faults += [*far_scans(listing.cases, facts), *flipped_labels(listing.cases, pairs.found)]
    faults += pool_faults(listing.cases, facts) if pool else ()
    size = sum(found.size for found in facts.values())
    paths = {(case.part, case.image): case.image_path for case in listing.cases}
    return DataCheck(tuple(sorted(faults, key=_place(listing.cases))), len(listing.cases), len(facts), size, paths)


def _channel_files(case: Case, listing: Listing) -> list[str]:
    """Return the files of a case, a channel each; where they are not those of the list, that is one of its faults."""
    try:
        return channel_files(case.image_path, listing.channels or 1)
    except UserError as error:
        told = str(error).split(". ")[0].removeprefix(f"{os.path.dirname(case.image_path)}{os.sep}")
        listing.faults.append(Fault("channels", f"has not the channels of the list: {told}", *_of(case)))
        return [case.image_path]


def _case_faults(
    listing: Listing,
    facts: Mapping[str, ScanFacts],
    channels: Mapping[str, Sequence[str]],
    patch_size: Sequence[int] | None,
    coordinates: str | None,
) -> Iterator[Fault]:
    usual = listing.channels or _usual_channels(listing.cases, facts)
    wrong = {(fault.part, fault.file) for fault in listing.faults if fault.kind == "channels"}
    for case in listing.cases:
        first, *others = (facts[file] for file in channels[case.image_path])
        one_a_file = others or (case.part, case.image) in wrong
        for kind, text in _image_told(case, first, 1 if one_a_file else usual, patch_size, coordinates):
            yield Fault(kind, text, *_of(case))
        for other in others:
            for kind, text in _channel_told(first, other):
                yield Fault(kind, f"has a channel, {os.path.basename(other.path)}, that {text}", *_of(case))
        if case.label is not None and case.label_path is not None:
            for kind, text in _label_told(first, facts[case.label_path], listing.classes):
                yield Fault(kind, text, case.part, case.name, case.label)


def _of(case: Case) -> tuple[str, str, str]:
    return case.part, case.name, case.image


def _channel_told(first: ScanFacts, other: ScanFacts) -> Iterator[tuple[str, str]]:
    if other.problem is not None:
        yield other.problem
    if other.volume is not None:
        yield from image_faults(other.volume, 1)
        yield from affine_faults(other.volume)
        if first.volume is not None and _has_place(first.volume) and _has_place(other.volume):
            for kind, text in geometry_faults(first.volume, other.volume):
                yield kind, text.replace("its image", "its first channel")


def _image_told(
    case: Case,
    image: ScanFacts,
    channels: int | None,
    patch_size: Sequence[int] | None,
    coordinates: str | None,
) -> Iterator[tuple[str, str]]:
    if image.problem is not None:
        yield image.problem
    if image.volume is not None:
        yield from image_faults(image.volume, channels, patch_size)
        yield from affine_faults(image.volume)
        if _has_place(image.volume):
            yield from box_faults(image.volume, case.boxes, coordinates)


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
