"""Curves and pictures of a training, as far as it has left them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ssl.handlers.progress_picture import progress_figure
from monai_ssl.report.drawing import Drawing, Drawings
from monai_ssl.report.figures import SLIM, WIDE, curves_figure, free_response_figure, score_figure
from monai_ssl.report.pairs import ScoredCase
from monai_ssl.report.tables import read_columns
from monai_ssl.study.measures import MEASURES
from monai_ssl.utils.errors import UserError
from monai_ssl.utils.keys import RunFiles

__all__ = ["file_drawing", "lead_drawing", "training_drawings"]

_FEATURES = {"feature_spread": "spread of the features", "effective_rank": "effective rank of the features"}


def training_drawings(folder: Path, name: str, words: str, drawings: Drawings, notes: list[str]) -> list[Drawing]:
    """The curves and pictures of a training: losses, features, pretext tasks, as far as they are there.

    Args:
        folder: of the run.
        name: beginning of the figures' names.
        words: what the run is called.
        drawings: makes the figures.
        notes: gets what could not be read.
    """
    found: list[Drawing | None] = []
    if (folder / RunFiles.STEPS).is_file():
        try:
            figure = progress_figure(folder / RunFiles.STEPS)
            found.append(drawings.vector(figure, f"{name}_progress", f"Curves of {words} over the steps"))
        except (UserError, ValueError):
            notes.append(f"{RunFiles.STEPS} of {words} cannot be read, so its curves are left out.")
    columns = read_columns(folder / RunFiles.EMBEDDINGS, f"{RunFiles.EMBEDDINGS} of {words}", notes)
    features = curves_figure(columns, _FEATURES)
    if features is not None:
        alt = f"How the features of {words} develop over the steps"
        caption = "Features of held-out patches: both figures near 0 mean that all patches look alike to the network."
        found.append(drawings.vector(features, f"{name}_embeddings", alt, caption))
    picture = folder / RunFiles.PRETEXT_PICTURE
    found.append(file_drawing(picture, f"{name}_pretext", f"What {words} was asked and answered", drawings, notes))
    return [drawing for drawing in found if drawing is not None]


def lead_drawing(
    metric: str,
    figures: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    cases: Sequence[ScoredCase],
    drawings: Drawings,
) -> Drawing | None:
    """The figure of a scored run: the free-response curve of a detector, else every case; None where there is none.

    Args:
        metric: name of the run's figure.
        figures: content of ``metrics.json``.
        records: its cases.
        cases: those that have a figure.
        drawings: makes the figures.
    """
    if MEASURES[metric].rates:
        wide, slim = (free_response_figure({"this run": [records]}, "this run", size) for size in (WIDE, SLIM))
        words = "Sensitivity over false positives a scan; CPM is its mean at the seven rates of the axis."
        return None if wide is None else drawings.vector(wide, "froc", words, words, slim=slim)
    if not cases:
        return None
    titles = {f"case-{case.number}": f"{case.name}: {case.method:.3f}" for case in cases}
    alt = f"{MEASURES[metric].title} of every case; the table below has the same figures"
    mean, unit = float(figures["mean"][metric]), MEASURES[metric].unit
    wide, slim = (score_figure(cases, mean, unit, size) for size in (WIDE, SLIM))
    return drawings.vector(wide, "scores", alt, "A point is a case; pointing at it names it.", titles, slim)


def file_drawing(path: Path, name: str, words: str, drawings: Drawings, notes: list[str]) -> Drawing | None:
    """A picture that a run left; None where there is none, and a note where it is broken."""
    if not path.is_file():
        return None
    try:
        return drawings.file(path, name, words, words)
    except (OSError, ValueError):
        notes.append(f"{path.name} cannot be read or is too large, so it is left out: {words}.")
        return None
