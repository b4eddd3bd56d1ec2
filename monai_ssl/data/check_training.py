"""The check of a data set before a training's first step: of the cases that it will read, and no others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from monai_ssl.data.check_facts import Fault
from monai_ssl.data.check_list import Case, Listing, case_name
from monai_ssl.data.check_run import check_listing
from monai_ssl.data.datalist import PARTS
from monai_ssl.utils.bundle import inside_monai_label, overrides
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.runs import warn_before_run

__all__ = ["check_scans"]

_SHOWN = 3  # kinds of warnings that get a line


def check_scans(
    parts: Mapping[str, Iterable[Mapping[str, Any]]],
    *,
    datalist: str | os.PathLike[str] | None = None,
    dataset_dir: str | os.PathLike[str] | None = None,
    channels: int | None = None,
    classes: Sequence[str] = (),
    coordinates: str | None = None,
) -> None:
    """Refuse cases with a fault that would stop a training, or falsify it, before it begins.

    Their files are read once each, which takes about as long as decompressing them: no result is kept for the next run,
    which would have to trust it. A case that is not given here, such as those of ``test`` in a training, is not opened,
    nor is the label of an unlabelled case. Warnings are logged, a line a kind, in the log of the
    run that follows too. Inside MONAI Label, where broken studies
    are passed over, nothing is checked.

    Args:
        parts: of the list, its cases with absolute paths, as :func:`~monai_ssl.data.cases.load_cases` has them.
        datalist: where the cases are from, for the message; not opened.
        dataset_dir: likewise; may be a folder of scans.
        channels: of every image; by default those of most.
        classes: names, background first, of the values in label files; without any, all whole numbers from 0 are good.
        coordinates: of boxes, ``RAS`` or ``LPS``; by default those in which more boxes of a case fit.

    Raises:
        UserError: in one line: the first fault with its file and remedy, and how many more there are.
    """
    if inside_monai_label():
        return
    cases = [_case(part, case) for part in PARTS for case in parts.get(part, ())]
    result = check_listing(Listing(cases, dict(enumerate(classes)), channels), threads=True, coordinates=coordinates)
    errors = [fault for fault in result.faults if fault.level == "error"]
    if errors:
        first, more = errors[0], len(errors) - 1
        told = [f"{_named(first)} {first.text}. {first.remedy}"]
        told += [f"There {'is 1 more error' if more == 1 else f'are {more} more errors'}."] if more else []
        raise UserError(" ".join([*told, *_listing_all(datalist, dataset_dir)]))
    chosen = {"coordinates"} & overrides().keys()  # given by a person, who knows
    _log([fault for fault in result.faults if fault.level == "warning" and fault.kind not in chosen])


def _case(part: str, entry: Mapping[str, Any]) -> Case:
    image, label = str(entry["image"]), entry.get("label") if part != "unlabeled" else None
    boxes = tuple(map(tuple, entry["box"])) if isinstance(label, list) else ()
    file = label if isinstance(label, str) else None
    return Case(part, case_name(image), image, image, file, file, entry.get("patient"), boxes)


def _named(fault: Fault) -> str:
    return f"{fault.file}:" if fault.file else f"`{fault.part}`:"


def _listing_all(datalist: str | os.PathLike[str] | None, dataset_dir: str | os.PathLike[str] | None) -> Iterator[str]:
    if datalist:
        yield f"`monai-ssl check {datalist}{f' --dataset_dir {dataset_dir}' if dataset_dir else ''}` lists all."
    elif dataset_dir and os.path.isfile(os.path.join(dataset_dir, "dataset.json")):
        yield f"`monai-ssl check {dataset_dir}` lists all."


def _log(warnings: Sequence[Fault]) -> None:
    by_kind: dict[str, list[Fault]] = {}
    for fault in warnings:
        by_kind.setdefault(fault.kind, []).append(fault)
    for faults in list(by_kind.values())[:_SHOWN]:
        first, more = faults[0], f" ({len(faults) - 1} more like it.)" if len(faults) > 1 else ""
        warn_before_run(__name__, f"{_named(first)} {first.text}. {first.remedy}{more}")
    if len(by_kind) > _SHOWN:
        text = f"there are {len(by_kind) - _SHOWN} more kinds of warnings; `monai-ssl check` lists them."
        warn_before_run(__name__, text)
