"""What the page of a single run says: a training, a pretraining or an evaluation of any bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_ssl.report.drawing import Drawing, Drawings
from monai_ssl.report.figures import audit_figure, free_response_figure
from monai_ssl.report.protocol import versions_words
from monai_ssl.report.run_drawings import file_drawing, training_drawings
from monai_ssl.report.tables import read_cases, read_columns, read_object
from monai_ssl.report.words import figure_words, without_folders
from monai_ssl.study.measures import MEASURES
from monai_ssl.study.words import number_of
from monai_ssl.utils.keys import RunFiles

__all__ = ["is_run", "run_page"]

_SIGNS = (RunFiles.MANIFEST, RunFiles.STEPS, RunFiles.METRICS)
_LONGEST_VALUE = 160  # letters of a setting


def is_run(folder: Path) -> bool:
    """Whether a folder holds what a training or an evaluation leaves."""
    return any((folder / name).is_file() for name in _SIGNS)


def run_page(folder: Path, drawings: Drawings) -> dict[str, Any]:
    """Gather the values of ``run.html``.

    Args:
        folder: of the run.
        drawings: makes the figures.
    """
    notes: list[str] = []
    manifest = read_object(folder / RunFiles.MANIFEST, RunFiles.MANIFEST, notes)
    scored = _scored(folder, notes)
    cases = read_cases(scored, scored.name, notes) if scored else []
    figures = read_object(scored, scored.name, []) if scored else {}
    training = training_drawings(folder, "training", "this run", drawings, notes)
    overlay = None
    if scored:
        overlay = file_drawing(scored.parent / RunFiles.OVERLAY, "overlay", _overlay_words(figures), drawings, notes)
    reliability = "How often the network is right where it is as sure as this"
    return {
        "title": _title(manifest, folder),
        "kind": _kind(manifest, folder),
        "answer": [_answer(figures, cases, folder, notes)],
        "status": _status(folder),
        "training": training,
        "free_response": _free_response(cases, drawings),
        "audit": _audit(folder, drawings, notes),
        "overlay": overlay,
        "reliability": file_drawing(folder / RunFiles.RELIABILITY, "reliability", reliability, drawings, notes),
        "case_columns": ["case", *_metrics(cases)],
        "case_rows": [[case["image"], *_row(case, _metrics(cases))] for case in cases],
        "protocol": _protocol(manifest, figures),
        "settings": _settings(manifest),
        "notes": notes,
    }


def _title(manifest: Mapping[str, Any], folder: Path) -> str:
    fingerprint = manifest.get("fingerprint")
    target = fingerprint.get("objective::_target_") if isinstance(fingerprint, dict) else None
    return f"{str(target).rpartition('.')[2]}, {folder.name}" if target else folder.name


def _scored(folder: Path, notes: list[str]) -> Path | None:
    """The figures of the run: of a test rather than of a validation, in the folder rather than below it."""
    below = sorted(folder.glob(f"*/{RunFiles.METRICS}"))
    candidates = [folder / RunFiles.METRICS, folder / "test" / RunFiles.METRICS, *below]
    found = [path for path in candidates if path.is_file()]
    if found:
        return found[0]
    validation = folder / RunFiles.VALIDATION_METRICS
    if validation.is_file():
        notes.append("The run was not scored on test cases; its figures are of validation cases.")
        return validation
    return None


def _kind(manifest: Mapping[str, Any], folder: Path) -> str:
    settings = manifest.get("settings")
    bundle = settings.get("bundle_root") if isinstance(settings, dict) else None
    what = "Evaluation" if (folder / RunFiles.METRICS).is_file() and not manifest else "Training run"
    return f"{what} · {without_folders(str(bundle))}" if bundle else what


def _answer(figures: Mapping[str, Any], cases: Sequence[Mapping[str, Any]], folder: Path, notes: list[str]) -> str:
    mean = figures.get("mean")
    name = next((one for one in MEASURES if isinstance(mean, dict) and mean.get(one) is not None), None)
    if name is not None and isinstance(mean, dict):
        of = f"{number_of(len(cases), 'case')} of the {figures.get('part', 'list')} part"
        if MEASURES[name].rates:
            return f"{MEASURES[name].title} {mean[name]:.3f} over {of} together."
        values = [value for case in cases if (value := case.get("mean", {}).get(name)) is not None]
        spread = f", single cases from {min(values):.3f} to {max(values):.3f}" if values else ""
        return f"Mean {MEASURES[name].title} {mean[name]:.3f} over {of}{spread}."
    columns = read_columns(folder / RunFiles.STEPS, RunFiles.STEPS, notes)
    loss = columns.get("loss", np.array([]))
    known = loss[np.isfinite(loss)]
    if len(known):
        share = max(1, len(known) // 20)
        first, last = known[:share].mean(), known[-share:].mean()
        return f"After {len(loss)} steps the training loss is {last:.3f}; over its first steps it was {first:.3f}."
    return "Nothing was measured yet."


def _status(folder: Path) -> str:
    if (folder / RunFiles.MANIFEST).is_file() and not (folder / RunFiles.MODEL).is_file():
        return "Unfinished: there is no model yet, and the curves end where the training is."
    return ""


def _overlay_words(figures: Mapping[str, Any]) -> str:
    mean = figures.get("mean")
    if isinstance(mean, dict) and "cpm" in mean:
        return "Hits, misses and false alarms: true boxes solid, predictions dashed"
    return "Worst, median and best case: label solid, prediction dashed"


def _free_response(cases: Sequence[Mapping[str, Any]], drawings: Drawings) -> Drawing | None:
    if not cases or not all("boxes" in case and "classes" in case for case in cases):
        return None
    figure = free_response_figure({"this run": [cases]}, "this run")
    return None if figure is None else drawings.vector(figure, "froc", "Sensitivity over false positives a scan")


def _audit(folder: Path, drawings: Drawings, notes: list[str]) -> Drawing | None:
    figure = audit_figure({"this run": [read_columns(folder / RunFiles.AUDIT, RunFiles.AUDIT, notes)]}, {})
    if figure is None:
        return None
    words = "Precision, recall and calibration of the pseudo-labels over the steps"
    return drawings.vector(figure, "audit", words, "On validation cases. Calibration error: 0 is best.")


def _metrics(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for case in cases for name in case.get("mean", {}))) or (
        ["boxes", "found", "false alarms"] if any("boxes" in case for case in cases) else []
    )


def _row(case: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    if "boxes" in case:
        classes = case.get("classes", {}).values()
        counts = [sum(len(one.get(key, ())) for one in classes) for key in ("hit_scores", "false_scores")]
        return [str(case["boxes"]), *map(str, counts)]
    return [figure_words(case.get("mean", {}).get(name), 4) for name in metrics]


def _protocol(manifest: Mapping[str, Any], figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    said = [("Started", str(manifest["started"]))] if "started" in manifest else []
    for key, name in (("part", "Part of the list"), ("weights", "Weights"), ("list", "Data list")):
        if key in figures:
            said.append((name, without_folders(str(figures[key]))))
    return [*said, *versions_words(manifest)]


def _settings(manifest: Mapping[str, Any]) -> list[list[str]]:
    """What decides the run's outcome, as far as it is a plain value."""
    fingerprint = manifest.get("fingerprint")
    if not isinstance(fingerprint, dict):
        return []
    plain = {name: str(value) for name, value in fingerprint.items() if not str(value).startswith(("$", "@", "%"))}
    return [
        [name.replace("::", "#"), without_folders(value)]
        for name, value in plain.items()
        if len(value) < _LONGEST_VALUE
    ]
