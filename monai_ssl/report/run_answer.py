"""What a run found, how sure that is, and what to do next, in a sentence or two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_ssl.metrics.free_response import operating_score
from monai_ssl.metrics.segmentation import LOWER_IS_BETTER
from monai_ssl.report.pairs import ScoredCase
from monai_ssl.report.tables import Columns
from monai_ssl.study.intervals import mean_interval
from monai_ssl.study.measures import MEASURES
from monai_ssl.study.words import number_of
from monai_ssl.utils.keys import RunFiles

__all__ = ["next_command", "score_answer", "training_answer"]

_LEVEL = 0.95


def score_answer(metric: str, figures: Mapping[str, Any], records: Sequence[Any], cases: Sequence[ScoredCase]) -> str:
    """The figure of a run with its interval, and which case to look at first.

    Args:
        metric: name of the figure.
        figures: content of ``metrics.json``.
        records: its cases.
        cases: those that have a figure, at least one.
    """
    title, part = MEASURES[metric].title, figures.get("part", "list")
    mean, detection = float(figures["mean"][metric]), bool(MEASURES[metric].rates)
    sign = -1 if metric in LOWER_IS_BETTER else 1
    worst = min(cases, key=lambda case: (sign * case.method, case.name)) if cases else None
    over = f"{number_of(len(records), 'case')} of the {part} part"
    low, high = _interval(metric, figures, cases)
    sure = "" if low is None else f" (95 % interval for other cases {low:.3f} to {high:.3f})"
    if detection:
        least = operating_score(records)
        entries = [entry for record in records for entry in record["classes"].values()]
        hits = sum(score > least for entry in entries for score in entry["hit_scores"])
        boxes = sum(record["boxes"] for record in records)
        found = f", {hits} of {boxes} box{'' if boxes == 1 else 'es'} found at one false positive a scan"
        first = "" if worst is None else f"; look at {worst.name} first, which costs most."
        return f"{title} {mean:.3f}{sure} over {over}{found}{first or '.'}"
    first = "" if worst is None else f"; look at {worst.name} first, the worst with {worst.method:.3f}."
    return f"Mean {title} {mean:.3f}{sure} over {over}{first or '.'}"


def training_answer(columns: Columns, pretraining: bool) -> list[str]:
    """What a training without figures can say: its loss, and that this is no score.

    Args:
        columns: of ``steps.csv``.
        pretraining: whether its weights are there to start from.
    """
    loss = columns.get("loss", np.array([]))
    known = loss[np.isfinite(loss)]
    if not len(known):
        return ["Nothing was measured yet."]
    share = max(1, len(known) // 20)
    first, last = known[:share].mean(), known[-share:].mean()
    steps = number_of(len(loss), "step")
    said = f"After {steps} the training loss is {last:.3f}; over its first steps it was {first:.3f}."
    if pretraining:
        return [
            said,
            "A loss does not say whether the weights help. Next: train from them and from scratch, with the same few "
            "labels, and compare; a study does both.",
        ]
    return [
        said,
        "A loss is no score: how good the model is was not measured. Next: evaluate it, and write this page anew.",
    ]


def next_command(bundle: str) -> str:
    """The commands that score a training and write its page anew.

    Args:
        bundle: name of the bundle; empty where it is not known.
    """
    place = f"$(monai-ssl path {bundle})" if bundle else "THE_BUNDLE"
    return (
        f"BUNDLE={place}\n"
        "python -m monai.bundle run --bundle_root $BUNDLE --config_file $BUNDLE/configs/evaluate.yaml \\\n"
        f"    --weights RUN/{RunFiles.MODEL} --dataset_dir DATA --datalist LIST --output_dir RUN/test\n"
        "monai-ssl report RUN --overwrite --dataset_dir DATA --datalist LIST"
    )


def _interval(
    metric: str, figures: Mapping[str, Any], cases: Sequence[ScoredCase]
) -> tuple[float, float] | tuple[None, None]:
    if MEASURES[metric].rates:
        intervals = figures.get("intervals")
        pair = intervals.get(metric) if isinstance(intervals, dict) else None
        return (float(pair[0]), float(pair[1])) if pair else (None, None)
    if len(cases) < 2:
        return None, None
    interval = mean_interval([[case.method for case in cases]], level=_LEVEL)
    return max(interval.low, 0.0), min(interval.high, MEASURES[metric].most)
