"""The worst, the median and the best case of a run, by the figures of its own evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from monai_ssl.data.datalist import find_datalist, list_folder, read_datalist
from monai_ssl.metrics.case_influence import cpm_influences
from monai_ssl.metrics.free_response import operating_score
from monai_ssl.report.case_pictures import Case, CasePictures, Model, list_case, picture_cases
from monai_ssl.report.drawing import Drawings
from monai_ssl.report.pairs import ScoredCase, worst_median_best
from monai_ssl.report.run_sources import RunSources
from monai_ssl.report.words import operating_words, outline_words
from monai_ssl.study.measures import MEASURES, Task
from monai_ssl.utils.errors import UserError

__all__ = ["run_cases", "scored_cases"]

_LABEL = ""  # the page is about one model

Record = Mapping[str, Any]


def scored_cases(records: Sequence[Record], metric: str) -> list[ScoredCase]:
    """The cases of ``metrics.json`` that have a figure; of a detector what each contributes to the figure of all.

    Args:
        records: ``cases`` of the file.
        metric: name of the figure.
    """
    rates = MEASURES[metric].rates
    if rates:
        values: Sequence[Any] = [
            value if np.isfinite(value) else None for value in cpm_influences(records, rates=rates)
        ]
    else:
        values = [record.get("mean", {}).get(metric) for record in records]
    return [
        ScoredCase(number, PurePath(str(record["image"])).name, float(value))
        for number, (record, value) in enumerate(zip(records, values, strict=True))
        if value is not None
    ]


def run_cases(
    folder: Path,
    sources: RunSources | None,
    part: str,
    records: Sequence[Record],
    metric: str,
    drawings: Drawings,
    device: str | None,
    notes: list[str],
) -> CasePictures:
    """Show three cases with what the run's model makes of them.

    Args:
        folder: of the run; keeps the predictions.
        sources: the model and the scans; None where they are not known.
        part: of the data list that was scored.
        records: ``cases`` of ``metrics.json``.
        metric: that the cases are ranked by.
        drawings: makes the pictures.
        device: for the predictions; None leaves it to the bundle.
        notes: gets what cannot be shown.
    """
    if sources is None:
        notes.append(
            "Slices and a viewer of single cases need the scans: name the list that was scored with --datalist, and "
            "with --dataset_dir the folder that its paths are relative to."
        )
        return CasePictures()
    task, title = MEASURES[metric].task, MEASURES[metric].title
    chosen = worst_median_best(scored_cases(records, metric), metric)
    cases = _opened(sources, part, [str(record["image"]) for record in records], chosen, task, notes)
    settings = {**sources.settings, **({} if device is None else {"device": device})}
    least = operating_score(records) if task == "detection" else 0.0
    model = Model(_LABEL, "run", sources.bundle, sources.weights, folder, settings, least)
    shown = picture_cases(cases, [model], task, title, drawings, notes)
    shown.words = (
        f"Chosen by {title}. {outline_words()}"
        if task == "segmentation"
        else f"Chosen by what each scan adds to {title}. {operating_words()}"
    )
    return shown


def _opened(
    sources: RunSources,
    part: str,
    names: Sequence[str],
    chosen: Sequence[tuple[str, ScoredCase]],
    task: Task,
    notes: list[str],
) -> list[Case]:
    """The chosen cases whose files can be opened."""
    try:
        path = find_datalist(sources.datalist, sources.dataset_dir)
        entries = read_datalist(path, boxes=task == "detection").get(part, [])
        base = list_folder(path, sources.dataset_dir)
    except UserError:
        notes.append("The data list or its folder is not there or cannot be read, so single cases are not shown.")
        return []
    cases = []
    for rank, case in chosen:
        entry = _entry(entries, names, case)
        found = None if entry is None else list_case(base, entry, task)
        if found is not None:
            cases.append(Case(rank, case.name, *found, {_LABEL: case.method}))
    if len(cases) < len(chosen):
        notes.append("Scans of single cases are not where they were or cannot be read, so these cases are not shown.")
    return cases


def _entry(entries: Sequence[Mapping[str, Any]], names: Sequence[str], case: ScoredCase) -> Mapping[str, Any] | None:
    """The entry of a case: at its place where the list is the same, else the only one of its name."""
    listed = [PurePath(entry["image"]).name for entry in entries]
    if listed == list(names):
        return entries[case.number]
    return entries[listed.index(case.name)] if listed.count(case.name) == 1 else None
