"""``study.md``: the answer first, then every figure that it rests on, then what it leaves open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monai_ssl.study.measures import MEASURES
from monai_ssl.study.table_rows import beside_rows, contrast_rows, gap_rows, mean_rows, not_worse_rows, saved_words
from monai_ssl.study.words import budget_words, joined, unit_of

__all__ = ["BESIDE_WORDS", "write_markdown"]

BESIDE_WORDS = (
    "Of the same runs, with intervals for other seeds and other cases. The study was not made for these: they decide "
    "nothing, and are not corrected for their number."
)


def write_markdown(content: Mapping[str, Any]) -> str:
    """Return the text for people.

    Args:
        content: as :func:`~monai_ssl.study.table.collect` returns it, with its ``findings``.
    """
    parts = [
        ["# What the study shows", *content["findings"]["answer"]],
        ["## Every figure", *_figures(content)],
        ["## Against the baseline", *_contrasts(content)],
        *_not_worse(content["findings"]),
        ["## Share of the gap", *_gap(content)],
        ["## Labels saved", *_labels_saved(content["findings"])],
        *_beside(content["findings"]),
        ["## What this does not show", _listed(content["findings"]["limits"])],
    ]
    return "\n\n".join(paragraph for part in parts for paragraph in part) + "\n"


def _figures(content: Mapping[str, Any]) -> list[str]:
    left_out, chosen = len(content["findings"]["left_out_cases"]), content["chosen"]
    cases = f"{len(content['cases']) - left_out} of {len(content['cases'])}" if left_out else len(content["cases"])
    other = f", but for {', '.join(chosen)}: chosen on a fifth of the labels, which count as labels" if chosen else ""
    metric = content["metric"]
    pretrained = joined([name for one in content.get("pretrainings", []) for name in one["methods"]])
    first = f" {pretrained} went through a pretraining before." if pretrained else ""
    choosing = joined(list(content.get("acquisitions", [])))
    alone = f", but for the later cases of {choosing}, which are chosen" if choosing else ""
    said = [
        f"{_of_cases(metric, f'{cases} test cases')}, the same for every run. Last checkpoint after "
        f"{content['steps']} optimiser steps, for every method{other}.{first} A seed is another labelled subset and "
        f"another initialisation, shared by the methods{alone}. The interval is for other seeds and other cases.",
        _table(*mean_rows(content)),
    ]
    if "screen" in content:
        said.append(content["screen"]["note"])
    said += _alike(content)
    reasons = {(one["budget"], one["method"]): one["reason"] for one in content["impossible"]}
    return [*said, *(f"Without {method} at {budget}: {why}." for (budget, method), why in reasons.items())]


def _alike(content: Mapping[str, Any]) -> list[str]:
    same: dict[tuple[str, str], list[str]] = {}
    for one in content.get("alike", []):
        same.setdefault((one["budget"], one["as"]), []).append(one["method"])
    return [
        f"With {budget_words(budget)} the model of {joined(methods)} is that of {other}, so no comparison has it again."
        for (budget, other), methods in same.items()
    ]


def _of_cases(metric: str, cases: str) -> str:
    if metric in MEASURES and MEASURES[metric].task == "detection":
        return f"{metric} ({MEASURES[metric].title}) of {cases} together"
    return f"Mean {metric} ({unit_of(metric)}) over {cases}"


def _contrasts(content: Mapping[str, Any]) -> list[str]:
    return [
        f"Differences to {content['primary']['baseline']} in {content['findings']['unit']}, paired by seed and case. "
        "Interval and p are for other seeds and other cases, and decide; the last p, of a t test over cases, holds for "
        "these seeds alone.",
        _table(*contrast_rows(content)),
        content["findings"]["family"],
    ]


def _not_worse(findings: Mapping[str, Any]) -> Iterable[list[str]]:
    entries = findings["non_inferiority"]
    if not entries:
        return
    yield [
        "## Not worse",
        f"Not worse than the baseline by {entries[0]['margin']:g} {findings['unit']} is shown where the worse end of "
        "the interval of the difference lies within. Each stands alone, not corrected for their number.",
        _table(*not_worse_rows(findings)),
    ]


def _beside(findings: Mapping[str, Any]) -> Iterable[list[str]]:
    if findings.get("beside"):
        yield ["## Other measures", BESIDE_WORDS, _table(*beside_rows(findings))]


def _gap(content: Mapping[str, Any]) -> list[str]:
    entries, ceiling = content["findings"]["gap"], content["ceiling"]
    if not entries or ceiling is None:
        return ["There is no ceiling: the baseline has one budget alone."]
    fixed = any(entry.get("ceiling_fixed") for entry in entries)
    luck = " The ceiling is a single run, whose luck is in no interval." if fixed else ""
    return [
        f"Of the way from {content['primary']['baseline']} to the same with {budget_words(ceiling)}, the ceiling. The "
        f"fractions are not corrected for their number.{luck}",
        _table(*gap_rows(content["findings"])),
    ]


def _labels_saved(findings: Mapping[str, Any]) -> list[str]:
    law = findings["power_law"]
    check = f"{law['words']}." if "words" in law else f"none, since {law['reason']}."
    by_law = [
        f"{entry['method']} with {point['labels']} labels {point['by_power_law']:.1f}"
        for entry in findings["labels_saved"]
        for point in entry.get("points", [])
        if point["by_power_law"] is not None
    ]
    law_says = f" By it the methods are worth, in labels of the baseline: {', '.join(by_law)}." if by_law else ""
    return [
        "How many labels the baseline needs to be as good, read off its curve without going beyond what was measured. "
        "A method's claims hold for its whole curve at once, but are not corrected for the number of methods.",
        _listed(saved_words(findings)),
        f"A power law as a check only: {check}{law_says}",
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]])


def _listed(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
