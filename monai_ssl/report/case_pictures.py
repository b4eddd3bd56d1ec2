"""The worst, the median and the best test case of a study: slices, and volumes for the viewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from monai_ssl.handlers.pictures import COLOURS, draw_plane, take_picture
from monai_ssl.report.drawing import Drawing, Drawings
from monai_ssl.report.pairs import CasePair, worst_median_best
from monai_ssl.report.predictions import predict
from monai_ssl.report.scans import Scan, is_scan, read_scan, volume_text
from monai_ssl.report.study_files import StudyFiles
from monai_ssl.report.tables import read_object
from monai_ssl.report.words import figure_words
from monai_ssl.study.measures import task_of
from monai_ssl.study.plan import Plan
from monai_ssl.study.splits import HELD_OUT
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = ["CasePictures", "ShownCase", "picture_cases"]


@dataclass(frozen=True)
class ShownCase:
    """A case on the page.

    Attributes:
        rank: why it is shown, such as ``Worst``.
        name: file name.
        pictures: for each method its words and its slices.
        volumes: for the viewer.
    """

    rank: str
    name: str
    pictures: Sequence[tuple[str, Drawing]]
    volumes: Mapping[str, Any]


@dataclass
class CasePictures:
    """What is shown of single cases.

    Attributes:
        seed: of the models.
        classes: names and colours of the foreground classes.
        cases: those that could be shown.
    """

    seed: int | None = None
    classes: list[tuple[str, str]] = field(default_factory=list)
    cases: list[ShownCase] = field(default_factory=list)


def picture_cases(
    study: StudyFiles, pairs: Sequence[CasePair], seed: int, drawings: Drawings, device: str | None
) -> CasePictures:
    """Predict the cases again where that was not done before, and draw them.

    Whatever stands in the way becomes one of the study's notes, and the rest is shown.

    Args:
        study: a study of segmentations.
        pairs: its test cases, with the figures of this seed.
        seed: of the models that predict.
        drawings: makes the pictures.
        device: for the predictions; None leaves it to the bundle.
    """
    shown = CasePictures(seed)
    plan, chosen = study.plan, worst_median_best(pairs, study.content["metric"])
    if plan is None or task_of(plan.bundle) != "segmentation" or not chosen:
        return shown
    listed = read_object(study.folder / HELD_OUT, study.name_of(study.folder / HELD_OUT), study.notes)
    entries = listed.get(ListParts.TEST, [])
    files = {pair.number: _files(plan.data.parent, entries, pair.number) for _, pair in chosen}
    known = {number: found for number, found in files.items() if found is not None}
    if len(known) < len(files):
        study.notes.append(
            "Scans of single cases are not where they were or cannot be read, so these cases are not shown."
        )
    predicted: dict[str, dict[Path, Path]] = {}
    for label in (study.method, study.baseline):
        try:
            predicted[label] = _predict(study, plan, label, seed, [image for image, _ in known.values()], device)
        except (UserError, OSError):
            study.notes.append(f"{label} could not predict the cases again, so its slices are left out.")
    shown.classes = _classes(study, seed)
    for rank, pair in chosen:
        paths = {label: found[known[pair.number][0]] for label, found in predicted.items() if pair.number in known}
        if paths:
            try:
                scan = read_scan(*known[pair.number], paths)
            except (OSError, ValueError, EOFError):
                study.notes.append(f"{pair.name} cannot be shown, since its files cannot be read or do not fit.")
                continue
            shown.cases.append(_show(study, rank, pair, scan, shown.classes, drawings))
    return shown


def _files(folder: Path, entries: Sequence[Any], number: int) -> tuple[Path, Path] | None:
    entry = entries[number] if number < len(entries) else {}
    names = [entry.get(key) for key in ("image", "label")] if isinstance(entry, dict) else []
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        return None
    image, label = (folder / str(name) for name in names)
    return (image, label) if is_scan(image) and is_scan(label) else None


def _predict(
    study: StudyFiles, plan: Plan, label: str, seed: int, images: Sequence[Path], device: str | None
) -> dict[Path, Path]:
    method = next(one for one in plan.methods if one.label == label)
    settings = {**plan.settings, **method.settings, **plan.evaluation, **method.evaluation}
    settings |= {} if device is None else {"device": device}
    place = (study.budget, label, seed)
    return predict(plan.bundle, study.training(*place), study.run(*place), images, settings)


def _classes(study: StudyFiles, seed: int) -> list[tuple[str, str]]:
    path = study.training(study.budget, study.method, seed) / RunFiles.PREPROCESSING
    names = read_object(path, study.name_of(path), study.notes).get("class_names", ["background", "foreground"])[1:]
    return [(str(name), COLOURS[place % len(COLOURS)]) for place, name in enumerate(names)]


def _show(
    study: StudyFiles, rank: str, pair: CasePair, scan: Scan, classes: Sequence[tuple[str, str]], drawings: Drawings
) -> ShownCase:
    pictures = []
    for place, (label, score) in enumerate(((study.method, pair.method), (study.baseline, pair.baseline))):
        if label in scan.predictions:
            taken = take_picture(pair.name, score, scan.image, scan.label, scan.predictions[label], scan.affine)
            figure = Figure(figsize=(6.0, 2.0), facecolor="black", dpi=160)
            grid = figure.add_gridspec(1, 3, left=0.0, right=1.0, top=1.0, bottom=0.0, wspace=0.01)
            for column, plane in enumerate(taken.planes):
                draw_plane(figure.add_subplot(grid[0, column]), plane, len(classes))
            alt = f"{pair.name}, {label}: axial, coronal and sagittal slice, label solid, prediction dashed"
            words = f"{label}: {study.content['findings']['unit']} {figure_words(score)}"
            name = f"case_{rank.split()[0].lower()}_{('method', 'baseline')[place]}"
            pictures.append((words, drawings.picture(figure, name, alt)))
    small = scan.cut()
    layers = {"Label": small.label, **{f"Prediction of {name}": part for name, part in small.predictions.items()}}
    volumes = {
        "name": f"{rank}: {pair.name}",
        "focus": small.focus(),
        "image": volume_text(small.image, small.affine, grey=True),
        "layers": [
            {"name": name, "data": volume_text(part, small.affine, grey=False)} for name, part in layers.items()
        ],
    }
    return ShownCase(rank, pair.name, pictures, volumes)
