"""The figures of a study's page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from monai_ssl.report.drawing import Drawing, Drawings
from monai_ssl.report.figures import (
    SLIM,
    WIDE,
    audit_figure,
    contrast_figure,
    free_response_figure,
    pair_figure,
)
from monai_ssl.report.legend import put_legend
from monai_ssl.report.pairs import CasePair
from monai_ssl.report.run_drawings import file_drawing, training_drawings
from monai_ssl.report.study_files import StudyFiles
from monai_ssl.report.tables import Columns
from monai_ssl.study.curve_picture import curve_figure
from monai_ssl.study.curve_series import read_series
from monai_ssl.study.words import budget_words, joined, unit_of
from monai_ssl.utils.keys import ListParts, RunFiles

__all__ = [
    "audit_drawing",
    "contrast_drawing",
    "curve_drawing",
    "free_response_drawing",
    "overlay_drawings",
    "pair_drawing",
    "pretraining_drawings",
]

_AUDITED = 4  # methods whose pseudo-labels are drawn, the primary one first


def curve_drawing(study: StudyFiles, drawings: Drawings) -> Drawing:
    """The label-efficiency curve, close enough to tell the means apart."""
    (wide, cut), (slim, _) = (_curve(study, size) for size in (WIDE, SLIM))
    unit = unit_of(study.content["metric"])
    alt = f"Mean {unit} over the number of labelled cases, for every method; the table below has the same figures"
    ends = " Intervals that run out of the frame are cut; the table has their ends." if cut else ""
    words = f"Means with 95 % intervals for other seeds and other cases; a pale point is one seed.{ends}"
    return drawings.vector(wide, "curve", alt, words, slim=slim)


def _curve(study: StudyFiles, size: tuple[float, float]) -> tuple[Figure, bool]:
    """The curve without its titles, and whether intervals are cut."""
    figure = curve_figure(study.content)
    figure.suptitle("")
    figure.supxlabel("")
    figure.set_size_inches(*size)
    _legend_below(figure)
    return figure, _focus(study, figure)


def _legend_below(figure: Figure) -> None:
    # beside the axes a narrow window would cut it
    legend = figure.axes[0].get_legend()
    if legend is None:
        return
    handles, names = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
    legend.remove()
    put_legend(figure, handles, names)


def _focus(study: StudyFiles, figure: Figure) -> bool:
    """Leave out the far ends of intervals that would press all means and seeds together; whether there are any."""
    means = study.content["findings"]["means"]
    values = [one for mean in means for one in (mean["mean"], *mean["by_seed"]) if one is not None]
    if len(values) < 2:
        return False
    spread = (max(values) - min(values)) or 0.1
    low, high = figure.axes[0].get_ylim()
    focus = max(low, min(values) - 0.6 * spread), min(high, max(values) + 0.6 * spread)
    figure.axes[0].set_ylim(*focus)
    return any(m["low"] is not None and (m["low"] < focus[0] or m["high"] > focus[1]) for m in means)


def contrast_drawing(study: StudyFiles, drawings: Drawings) -> Drawing | None:
    """Every method against the baseline; None where nothing could be compared."""
    figure = contrast_figure(study.content)
    if figure is None:
        return None
    alt = f"Difference of every method to {study.baseline} with its interval; the table below has the same figures"
    caption = "Right of the line is higher. Orange: the contrast named beforehand; blue: shown after Holm's correction."
    return drawings.vector(figure, "contrasts", alt, caption)


def pair_drawing(study: StudyFiles, pairs: Sequence[CasePair], drawings: Drawings, detection: bool) -> Drawing | None:
    """The method over the baseline, a point a test case; None where no case has both."""
    if not pairs:
        return None
    unit = unit_of(study.content["metric"])
    axis = f"contribution to {unit}" if detection else unit
    titles = {
        f"case-{one.number}": f"{one.name}: {study.method} {one.method:.3f}, {study.baseline} {one.baseline:.3f}"
        for one in pairs
    }
    alt = f"{study.method} over {study.baseline}, a point a test case; the list of cases below has the same figures"
    contribution = " A point is what the scan contributes to the figure of all." if detection else ""
    caption = (
        f"A point is a test case with {budget_words(study.budget)}, above the line where {study.method} has more; "
        f"pointing at it names it.{contribution}"
    )
    return drawings.vector(pair_figure(pairs, study.method, study.baseline, axis), "cases", alt, caption, titles)


def overlay_drawings(study: StudyFiles, seeds: Sequence[int], drawings: Drawings) -> Iterator[Drawing]:
    """What each evaluation drew itself, where cases could not be predicted again."""
    for place, label in enumerate((study.method, study.baseline)):
        for seed in seeds[:1]:
            path = study.run(study.budget, label, seed) / ListParts.TEST / RunFiles.OVERLAY
            words = f"{label} with {budget_words(study.budget)}, seed {seed}"
            drawing = file_drawing(path, f"overlay_{place}", words, drawings, study.notes)
            if drawing is not None:
                yield drawing


def free_response_drawing(study: StudyFiles, seeds: Sequence[int], drawings: Drawings) -> Drawing | None:
    """The curves of both detectors; None where none can be drawn."""
    labels = (study.method, study.baseline)
    cases = {label: [study.cases(study.budget, label, seed) for seed in seeds] for label in labels}
    figure = free_response_figure({label: [one for one in of if one] for label, of in cases.items()}, study.method)
    if figure is None:
        return None
    words = f"Sensitivity over false positives a scan of {joined(list(labels))}"
    return drawings.vector(figure, "froc", words, f"With {budget_words(study.budget)}; a line is a seed.")


def audit_drawing(study: StudyFiles, drawings: Drawings) -> Drawing | None:
    """What the pseudo-labels were worth, of a few methods; None where nothing was audited."""
    labels = [study.method, *(one for one in study.content["methods"] if one != study.method)]
    audits: dict[str, list[Columns]] = {}
    for label in labels:
        tables = [study.table(study.budget, label, seed, RunFiles.AUDIT) for seed in study.scores(study.budget, label)]
        if len(audits) < _AUDITED and any(tables):
            audits[label] = [table for table in tables if table]
    figure = audit_figure(audits, {one.label: one.colour for one in read_series(study.content)})
    if figure is None:
        return None
    alt = f"Precision, recall and calibration of the pseudo-labels of {joined(list(audits))} over the steps"
    caption = f"On validation cases, with {budget_words(study.budget)}; a line is a seed. Calibration error: 0 is best."
    return drawings.vector(figure, "audit", alt, caption)


def pretraining_drawings(study: StudyFiles, drawings: Drawings) -> Iterator[tuple[str, list[Drawing]]]:
    """Every pretraining with its curves and pictures."""
    for number, folder in enumerate(study.pretrainings()):
        name = f"{folder.parent.name}, {folder.name}"
        yield name, training_drawings(folder, f"pretraining_{number}", name, drawings, study.notes)
