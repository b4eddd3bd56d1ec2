"""What the page of a single run says: a training, a pretraining or an evaluation of any bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ssl.metrics.free_response import operating_score
from monai_ssl.report.case_pictures import CasePictures
from monai_ssl.report.drawing import Drawing, Drawings
from monai_ssl.report.figures import audit_figure
from monai_ssl.report.protocol import versions_words
from monai_ssl.report.run_answer import next_command, score_answer, training_answer
from monai_ssl.report.run_cases import run_cases, scored_cases
from monai_ssl.report.run_drawings import file_drawing, lead_drawing, training_drawings
from monai_ssl.report.run_sources import GivenData, find_sources
from monai_ssl.report.run_status import is_pretraining, run_status
from monai_ssl.report.tables import read_cases, read_columns, read_object
from monai_ssl.report.words import figure_words, without_folders
from monai_ssl.study.measures import MEASURES
from monai_ssl.utils.keys import RunFiles

__all__ = ["run_page"]

_LONGEST_VALUE = 160  # letters of a setting
_RELIABILITY = "How often the network is right where it is as sure as this"


def run_page(folder: Path, drawings: Drawings, device: str | None, given: GivenData) -> dict[str, Any]:
    """Gather the values of ``run.html``.

    Args:
        folder: of the run.
        drawings: makes the figures.
        device: for predictions; None leaves it to the bundle.
        given: where the scans are, as far as the user says it.
    """
    notes: list[str] = []
    manifest = read_object(folder / RunFiles.MANIFEST, RunFiles.MANIFEST, notes)
    training = training_drawings(folder, "training", "this run", drawings, notes)
    values: dict[str, Any] = {
        "title": _title(manifest, folder),
        "kind": _kind(manifest, folder),
        "status": run_status(folder, manifest),
        "answer": training_answer(read_columns(folder / RunFiles.STEPS, RunFiles.STEPS, []), is_pretraining(folder)),
        "command": "",
        "lead": None,
        "cases": CasePictures(),
        "overlays": [],
        "audit": _audit(folder, drawings, notes),
        "reliability": file_drawing(folder / RunFiles.RELIABILITY, "reliability", _RELIABILITY, drawings, notes),
        "settings": _settings(manifest),
        "notes": notes,
    }
    scored = _scored(folder, notes)
    figures = read_object(scored, scored.name, notes) if scored else {}
    records = read_cases(scored, scored.name, notes) if scored and figures else []
    metric = _metric(figures, records)
    values["case_columns"], values["case_rows"] = _table(records)
    if scored and metric:
        cases = scored_cases(records, metric)
        values["answer"] = [score_answer(metric, figures, records, cases)]
        values["lead"] = lead_drawing(metric, figures, records, cases, drawings)
        sources = find_sources(folder, scored, figures, manifest, MEASURES[metric].task, given)
        part = str(figures.get("part", ""))
        values["cases"] = run_cases(folder, sources, part, records, metric, drawings, device, notes)
    if scored and not values["cases"].cases:
        overlay = scored.parent / RunFiles.OVERLAY
        found = file_drawing(overlay, "overlay", _overlay_words(figures), drawings, notes)
        values["overlays"] = [found] if found else []
    if values["lead"] is None and training:
        values["lead"], *training = training
    if (folder / RunFiles.MODEL).is_file() and not is_pretraining(folder) and "mean" not in figures:
        values["command"] = next_command(_bundle(manifest))
    return {**values, "training": training, "protocol": _protocol(manifest, figures)}


def _metric(figures: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str | None:
    """The figure that the page is about; None where the file has none that goes with its cases."""
    mean = figures.get("mean")
    known = [one for one in MEASURES if isinstance(mean, dict) and isinstance(mean.get(one), (int, float))]
    if not known or not records:
        return None
    needed = ("boxes", "classes") if MEASURES[known[0]].rates else ("mean",)
    return known[0] if all(key in record for record in records for key in needed) else None


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
    what = "Evaluation" if (folder / RunFiles.METRICS).is_file() and not manifest else "Training run"
    return f"{what} · {bundle}" if (bundle := _bundle(manifest)) else what


def _bundle(manifest: Mapping[str, Any]) -> str:
    settings = manifest.get("settings")
    return without_folders(str(settings.get("bundle_root", ""))) if isinstance(settings, dict) else ""


def _overlay_words(figures: Mapping[str, Any]) -> str:
    mean = figures.get("mean")
    if isinstance(mean, dict) and "cpm" in mean:
        return "Hits, misses and false alarms: true boxes solid, predictions dashed"
    return "Worst, median and best case: label solid, prediction dashed"


def _audit(folder: Path, drawings: Drawings, notes: list[str]) -> Drawing | None:
    figure = audit_figure({"this run": [read_columns(folder / RunFiles.AUDIT, RunFiles.AUDIT, notes)]}, {})
    if figure is None:
        return None
    words = "Precision, recall and calibration of the pseudo-labels over the steps"
    return drawings.vector(figure, "audit", words, "On validation cases. Calibration error: 0 is best.")


def _table(records: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the cases; boxes are counted where there is one false positive a scan."""
    if any("boxes" in record for record in records):
        whole = [record for record in records if "boxes" in record and "classes" in record]
        least = operating_score(whole)
        return ["case", "boxes", "found", "false alarms"], [_counts(record, least) for record in whole]
    names = list(dict.fromkeys(name for record in records for name in record.get("mean", {})))
    columns = [MEASURES[name].title if name in MEASURES else name for name in names]
    return ["case", *columns], [
        [record["image"], *(figure_words(record.get("mean", {}).get(name), 4) for name in names)] for record in records
    ]


def _counts(record: Mapping[str, Any], least: float) -> list[str]:
    entries = record["classes"].values()
    counts = [sum(score > least for one in entries for score in one[key]) for key in ("hit_scores", "false_scores")]
    return [record["image"], str(record["boxes"]), *map(str, counts)]


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
