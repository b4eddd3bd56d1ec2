"""What the page of a study says, top to bottom."""

from __future__ import annotations

from typing import Any

from monai_ssl.report.case_pictures import CasePictures
from monai_ssl.report.drawing import Drawings
from monai_ssl.report.pairs import paired_cases, shared_seeds
from monai_ssl.report.protocol import study_protocol
from monai_ssl.report.study_cases import study_cases
from monai_ssl.report.study_drawings import (
    audit_drawing,
    contrast_drawing,
    curve_drawing,
    free_response_drawing,
    overlay_drawings,
    pair_drawing,
    pretraining_drawings,
)
from monai_ssl.report.study_files import StudyFiles
from monai_ssl.report.words import figure_words
from monai_ssl.study.markdown import BESIDE_WORDS
from monai_ssl.study.measures import MEASURES
from monai_ssl.study.table_rows import (
    beside_rows,
    contrast_rows,
    gap_rows,
    mean_rows,
    not_worse_rows,
    saved_words,
)
from monai_ssl.study.words import budget_words, joined, number_of, unit_of

__all__ = ["study_page"]


def study_page(study: StudyFiles, drawings: Drawings, device: str | None) -> dict[str, Any]:
    """Gather the values of ``study.html``.

    Args:
        study: the study.
        drawings: makes the figures.
        device: for predictions; None leaves it to the bundle.
    """
    content = study.content
    findings, detection = content["findings"], bool(MEASURES[content["metric"]].rates)
    seeds = shared_seeds(study)
    pairs = paired_cases(study, seeds)
    cases = CasePictures()
    if seeds:
        cases = study_cases(study, paired_cases(study, seeds[:1]), seeds[0], drawings, device)
    unit = unit_of(content["metric"])
    return {
        "title": f"{study.method} against {study.baseline}",
        "kind": f"Label-efficiency study · {study.plan.bundle.name}" if study.plan else "Label-efficiency study",
        "answer": [*findings["answer"], _next(study)],
        "status": _status(study),
        "open_runs": [one for one in study.open_runs() if one.reason],
        "facts": _facts(study),
        "command": "",
        "lead": curve_drawing(study, drawings),
        "means": mean_rows(content),
        "runs": _runs(study),
        "run_columns": _run_columns(content["metric"]),
        "contrast_drawing": contrast_drawing(study, drawings),
        "contrasts": contrast_rows(content),
        "family": findings["family"],
        "not_worse": not_worse_rows(findings) if findings["non_inferiority"] else None,
        "gap": gap_rows(findings) if findings["gap"] and content.get("ceiling") is not None else None,
        "beside": beside_rows(findings) if findings.get("beside") else None,
        "beside_words": BESIDE_WORDS,
        "saved": _saved(study, own=True),
        "saved_others": _saved(study, own=False),
        "pairs": pair_drawing(study, pairs, drawings, detection),
        "pair_rows": [
            [one.name, *(figure_words(v, 4) for v in (one.method, one.baseline)), f"{one.method - one.baseline:+.4f}"]
            for one in pairs
        ],
        "pair_columns": ["case", study.method, study.baseline, "difference"],
        "seed_words": joined([str(seed) for seed in seeds]),
        "cases": cases,
        "overlays": [] if cases.cases else list(overlay_drawings(study, seeds, drawings)),
        "free_response": free_response_drawing(study, seeds, drawings) if detection else None,
        "audit": audit_drawing(study, drawings),
        "pretrainings": list(pretraining_drawings(study, drawings)),
        "protocol": study_protocol(study),
        "limits": findings["limits"],
        "notes": study.notes,
        "unit": unit,
    }


def _status(study: StudyFiles) -> str:
    finished, open_runs = len(study.content["runs"]), study.open_runs()
    if not open_runs:
        return ""
    failed = sum(bool(one.reason) for one in open_runs)
    told = f" {number_of(failed, 'run')} failed." if failed else ""
    whole = number_of(finished + len(open_runs), "run")
    so_far = (
        f"{finished} of {whole} are there, and all below is of them alone." if finished else f"no run of {whole} yet."
    )
    return f"Unfinished: {so_far}{told} Called again, the study goes on where it stopped."


def _next(study: StudyFiles) -> str:
    """What to do with the answer."""
    primary = study.content["findings"]["primary"]
    if study.open_runs():
        return "Next: finish the open runs with the same command; until then the answer may change."
    if len(primary.get("seeds", ())) < 2:
        return "Next: plan more seeds. One is a single draw of labels, and nothing here holds for another."
    if not primary.get("found"):
        return "Next: look at the worst case below, then plan more seeds or test cases, which narrow the interval."
    return "Next: look at the worst case and at the limits below before the figure is quoted."


def _facts(study: StudyFiles) -> list[tuple[str, str]]:
    content = study.content
    primary, unit = content["findings"]["primary"], unit_of(content["metric"])
    facts = []
    if "effect" in primary:
        effect = primary["effect"]
        told = f"{effect['mean']:+.3f} {unit} ({effect['low']:.3f} to {effect['high']:.3f})"
        facts.append((f"difference with {budget_words(study.budget)}", told))
    for entry in content["findings"]["labels_saved"]:
        for point in entry.get("points", []):
            if (entry["method"], point["budget"]) == (study.method, study.budget):
                worth = f"{point['side']}{point['equivalent']:.1f} of {study.baseline}"
                facts.append((f"worth of {budget_words(study.budget)}", worth))
    scored = len(content["cases"]) - len(content["findings"]["left_out_cases"])
    return [*facts, ("runs", str(len(content["runs"]))), ("test cases", str(scored))]


def _run_columns(metric: str) -> list[str]:
    return ["labels", "method", "seed", metric, "unlabelled", "steps", "stage"]


def _runs(study: StudyFiles) -> list[list[str]]:
    content = study.content
    return [
        [
            row["budget"] if row["budget"] == str(row["labels"]) else f"{row['labels']} ({row['budget']})",
            row["method"],
            str(row["seed"]),
            figure_words(row["mean"], 4),
            str(row["unlabeled"]),
            str(row["steps"]),
            row["stage"],
        ]
        for row in content["runs"]
    ]


def _saved(study: StudyFiles, *, own: bool) -> list[str]:
    findings = study.content["findings"]
    kept = [one for one in findings["labels_saved"] if (one["method"] == study.method) == own]
    return saved_words({**findings, "labels_saved": kept})
