"""Single cases on a page: predicted again by the models that are compared, as slices, and as volumes for the viewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_ssl.handlers.detection_pictures import PREDICTION, TRUTH
from monai_ssl.handlers.pictures import COLOURS
from monai_ssl.report.box_pictures import Boxes, box_volumes, draw_boxes, read_boxed_scan
from monai_ssl.report.drawing import Drawing, Drawings
from monai_ssl.report.label_pictures import draw_labels, label_volumes
from monai_ssl.report.predictions import predict
from monai_ssl.report.scans import is_scan, read_scan
from monai_ssl.report.tables import read_object
from monai_ssl.report.words import figure_words
from monai_ssl.study.measures import Task
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import RunFiles

__all__ = ["Case", "CasePictures", "Model", "ShownCase", "list_case", "picture_cases"]


@dataclass(frozen=True)
class Model:
    """A trained model that predicts the cases again.

    Attributes:
        label: what the page calls it; empty where the page is about it alone.
        key: of the names of its pictures.
        bundle: that it was trained with.
        weights: file.
        folder: keeps the predictions.
        settings: of its evaluation.
        least: score above which a predicted box is shown.
    """

    label: str
    key: str
    bundle: Path
    weights: Path
    folder: Path
    settings: Mapping[str, Any]
    least: float = 0.0


@dataclass(frozen=True)
class Case:
    """A case that is to be shown.

    Attributes:
        rank: why it is shown, such as ``Worst``.
        name: file name.
        image: the scan.
        truth: entry of the data list, with the path of its label or its boxes.
        figures: by the label of a model the case's figure.
    """

    rank: str
    name: str
    image: Path
    truth: Mapping[str, Any]
    figures: Mapping[str, float]


@dataclass(frozen=True)
class ShownCase:
    """A case on the page.

    Attributes:
        rank: why it is shown, such as ``Worst``.
        name: file name.
        pictures: for each model its words and its slices.
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
        words: how they were chosen, and how to read their pictures.
        classes: names and colours of what is drawn on the scans.
        cases: those that could be shown.
    """

    words: str = ""
    classes: list[tuple[str, str]] = field(default_factory=list)
    cases: list[ShownCase] = field(default_factory=list)


def list_case(folder: Path, entry: Any, task: Task) -> tuple[Path, dict[str, Any]] | None:
    """The scan of a data list's entry and the entry with the path of its label; None where one cannot be opened.

    Args:
        folder: that the paths of the list are relative to.
        entry: of the list.
        task: what the label is of: in a detection it may be boxes.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        return None
    image, label = folder / entry["image"], entry.get("label")
    if not is_scan(image):
        return None
    if isinstance(label, str):
        return (image, {**entry, "label": folder / label}) if is_scan(folder / label) else None
    return (image, entry) if task == "detection" and isinstance(entry.get("box"), list) else None


def picture_cases(
    cases: Sequence[Case], models: Sequence[Model], task: Task, unit: str, drawings: Drawings, notes: list[str]
) -> CasePictures:
    """Predict cases again where that was not done before, and draw them.

    Whatever stands in the way becomes a note, and the rest is shown.

    Args:
        cases: to be shown; their scans can be opened.
        models: that predict, the one that the page is about first.
        task: of the models.
        unit: of the figures.
        drawings: makes the pictures.
        notes: gets what cannot be shown.
    """
    shown = CasePictures()
    predicted: dict[str, dict[Path, Path]] = {}
    for model in models if cases else ():
        images = [case.image for case in cases]
        try:
            predicted[model.label] = predict(model.bundle, model.weights, model.folder, images, model.settings, task)
        except (UserError, OSError):
            notes.append(f"{model.label or 'The model'} could not predict the cases again, so its slices are left out.")
    if not predicted:
        return shown
    names = _class_names(models[0].weights, notes)
    labels = [(name, COLOURS[place % len(COLOURS)]) for place, name in enumerate(names[1:])]
    shown.classes = labels if task == "segmentation" else [("true box", TRUTH), ("prediction", PREDICTION)]
    for case in cases:
        made = [(model, predicted[model.label][case.image]) for model in models if model.label in predicted]
        try:
            if task == "segmentation":
                shown.cases.append(_show_labels(case, made, len(labels), unit, drawings))
            else:
                shown.cases.append(_show_boxes(case, made, names, drawings))
        except (UserError, OSError, ValueError, EOFError):
            notes.append(f"{case.name} cannot be shown, since its files cannot be read or do not fit.")
    return shown


def _class_names(weights: Path, notes: list[str]) -> list[str]:
    path = weights.parent / RunFiles.PREPROCESSING
    names = read_object(path, path.name, notes).get("class_names", ["background", "foreground"])
    return [str(name) for name in names]


def _show_labels(
    case: Case, made: Sequence[tuple[Model, Path]], classes: int, unit: str, drawings: Drawings
) -> ShownCase:
    scan = read_scan(case.image, Path(case.truth["label"]), {model.label: path for model, path in made})
    pictures = []
    for model, _ in made:
        figure = draw_labels(scan, model.label, classes)
        alt = f"{_whose(case.name, model)}: axial, coronal and sagittal slice, label solid, prediction dashed"
        words = _whose(f"{unit} {figure_words(case.figures[model.label])}", model)
        pictures.append((words, drawings.picture(figure, _name(case, model), alt)))
    return ShownCase(case.rank, case.name, pictures, {"name": f"{case.rank}: {case.name}", **label_volumes(scan)})


def _show_boxes(case: Case, made: Sequence[tuple[Model, Path]], names: list[str], drawings: Drawings) -> ShownCase:
    settings = made[0][0].settings
    threshold, coordinates = float(settings.get("iou_threshold", 0.1)), str(settings.get("coordinates", "RAS"))
    files = {model.label: Boxes(path, model.least) for model, path in made}
    scan = read_boxed_scan(case.image, case.truth, coordinates, files, len(names), threshold)
    pictures = []
    for model, _ in made:
        figure, words = draw_boxes(scan, model.label, names)
        alt = f"{_whose(case.name, model)}: slices through boxes, true ones solid, predictions dashed"
        pictures.append((_whose(words, model), drawings.picture(figure, _name(case, model), alt)))
    return ShownCase(case.rank, case.name, pictures, {"name": f"{case.rank}: {case.name}", **box_volumes(scan)})


def _whose(words: str, model: Model) -> str:
    return f"{model.label}: {words}" if model.label else words


def _name(case: Case, model: Model) -> str:
    return f"case_{case.rank.split()[0].lower()}_{model.key}"
