"""Rows of the tables of a study, as text, for ``study.md``, the report and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monai_ssl.study.words import p_words

__all__ = ["beside_rows", "contrast_rows", "gap_rows", "mean_rows", "not_worse_rows", "saved_words"]


def mean_rows(content: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table of means: for each budget and method the mean, its interval and every seed.

    Args:
        content: as :func:`~monai_ssl.study.table.collect` returns it, with its ``findings``.
    """
    columns = ["labels", "method", "seeds", f"mean {content['metric']}", "95 % interval"]
    rows = []
    for entry, scored in zip(content["findings"]["means"], content["scores"], strict=True):
        labels = "-".join(str(number) for number in sorted({min(scored["labels"]), max(scored["labels"])}))
        budget = entry["budget"] if entry["budget"] == labels else f"{entry['budget']} ({labels})"
        by_seed = dict(zip(entry["seeds"], entry["by_seed"], strict=True))
        cells = [budget, entry["method"], str(len(entry["seeds"])), _digits(entry["mean"]), _interval(entry)]
        rows.append([*cells, *(_digits(by_seed.get(seed)) for seed in content["seeds"])])
    return [*columns, *(f"seed {seed}" for seed in content["seeds"])], rows


def contrast_rows(content: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table of contrasts, the primary one first.

    Args:
        content: as :func:`~monai_ssl.study.table.collect` returns it, with its ``findings``.
    """
    findings = content["findings"]
    columns = ["labels", "method", "difference", "95 % interval", "p", "p (Holm)", "p (these seeds)", "seeds", "shown"]
    rows = []
    for entry in (findings["primary"], *findings["others"]):
        name = f"{entry['method']} (primary)" if entry is findings["primary"] else entry["method"]
        if "reason" in entry:
            rows.append([entry["budget"], name, *[""] * 5, str(len(entry["seeds"])), entry["reason"]])
            continue
        effect = entry["effect"]
        tests = [entry["p_value"], entry.get("p_holm"), entry["p_cases"]]
        figures = [f"{effect['mean']:+.4f}", _interval(effect), *("" if p is None else _p(p) for p in tests)]
        rows.append([entry["budget"], name, *figures, str(len(entry["seeds"])), entry["verdict"]])
    return columns, rows


def beside_rows(findings: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table of the other measures, with the difference to the baseline where there is one.

    Args:
        findings: of the study.
    """
    rows = []
    for other in findings["beside"]:
        effects = {(one["budget"], one["method"]): one["effect"] for one in other["differences"] if "effect" in one}
        for entry in other["means"]:
            effect = effects.get((entry["budget"], entry["method"]))
            difference = ["", ""] if effect is None else [f"{effect['mean']:+.4f}", _interval(effect)]
            place = [other["metric"], entry["budget"], entry["method"], str(len(entry["seeds"]))]
            rows.append([*place, _digits(entry["mean"]), _interval(entry), *difference])
    return ["measure", "labels", "method", "seeds", "mean", "95 % interval", "difference", "95 % interval"], rows


def not_worse_rows(findings: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table that says what is not worse than the baseline.

    Args:
        findings: of the study.
    """
    rows = [
        [entry["budget"], entry["method"], *_or_reason(entry, lambda e: [f"{e['bound']:+.4f}", _yes(e["shown"])])]
        for entry in findings["non_inferiority"]
    ]
    return ["labels", "method", "worse end", "not worse shown"], rows


def gap_rows(findings: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table of the shares of the gap.

    Args:
        findings: of the study.
    """
    rows = []
    for entry in findings["gap"]:
        shares = _or_reason(
            entry, lambda e: [_percent(e["fraction"]), " to ".join(_percent(e[k]) for k in ("low", "high"))]
        )
        rows.append([entry["budget"], entry["method"], *shares])
    return ["labels", "method", "of the gap", "95 % interval"], rows


def saved_words(findings: Mapping[str, Any]) -> list[str]:
    """Say of every method and budget how many labels it saves, or why that cannot be told.

    Args:
        findings: of the study.
    """
    said: list[str] = []
    for entry in findings["labels_saved"]:
        points = entry.get("points", [])
        said += [f"{entry['method']}: {point['words']}." for point in points]
        said += [f"{entry['method']}: cannot be told, {entry['reason']}."] if "reason" in entry else []
    return said


def _or_reason(entry: Mapping[str, Any], cells: Callable[[Mapping[str, Any]], list[str]]) -> list[str]:
    return ["", entry["reason"]] if "reason" in entry else cells(entry)


def _interval(entry: Mapping[str, Any]) -> str:
    return "" if entry["low"] is None else f"{entry['low']:.4f} to {entry['high']:.4f}"


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.0f} %"


def _p(value: float) -> str:
    return p_words(value).removeprefix("p ").removeprefix("= ")


def _yes(shown: bool) -> str:
    return "yes" if shown else "no"
