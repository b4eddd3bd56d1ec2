"""What a study's intervals are worth where its figure is CPM, which is no mean over cases: simulated detectors.

    python benchmarks/cpm_coverage.py --studies 500 --output cpm_coverage.json

A scan has a box with a chance of 3/4, and a Poisson number of things that look like one, 6 on average. The score of a
candidate is a sum of normal draws: its scan's and its own, both shared by all detectors, and one of this detector
alone. A box's score has besides the quality of the detector, which is a common one and a part of the seed's (shared by
both methods) and of the detector's own, and how much the method likes the scan. So the free-response curve of endless
scans is known in closed form, and with it the true CPM.

Every study goes through what a real one does: the influence of each scan on CPM, then the crossed interval of seeds
and cases. Beside it stands a percentile bootstrap that draws scans and seeds. A share of n studies has a standard
error of sqrt(p (1 - p) / n): 1 % for 95 % of 500.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table
from scipy import stats
from scipy.optimize import brentq

from monai_ssl.metrics.case_influence import cpm_influences
from monai_ssl.metrics.free_response import FALSE_POSITIVE_RATES, cpm_of
from monai_ssl.study.contrasts import non_inferiority, paired_contrast
from monai_ssl.study.intervals import mean_interval
from monai_ssl.study.measures import MEASURES

Array = NDArray[np.float64]
Rates = dict[str, float]
Cases = list[dict[str, Any]]

SEEDS = 5
SICK, LOOKALIKES = 0.75, 6.0  # chance of a box, mean number of candidates for false positives, both a scan
EFFECT = 0.05  # true difference of CPM
MARGIN = MEASURES["cpm"].margin or 0.0


@dataclass(frozen=True)
class Setting:
    """Detectors: CPM of the reference, and standard deviations of scores.

    Attributes:
        cpm: of the reference in endless scans, the mean over seeds.
        seed: of a seed's quality, in both methods.
        detector: of a detector's own quality.
        scan: of the boxes of a scan.
        liking: of the boxes of a scan, in one method.
        box: of a box.
        false_scan: of the false positives of a scan.
        false_own: of a false positive.
        noise: of every candidate, in one detector.
    """

    cpm: float = 0.6
    seed: float = 0.3
    detector: float = 0.15
    scan: float = 0.5
    liking: float = 0.2
    box: float = 0.6
    false_scan: float = 0.3
    false_own: float = 0.7
    noise: float = 0.6


SETTINGS = {
    "usual": Setting(),
    "good detectors": Setting(cpm=0.85),
    "seeds apart": Setting(cpm=0.4, seed=0.5, detector=0.4),
    "nearly all found": Setting(cpm=0.93, seed=0.2, detector=0.1),
}


def true_cpm(quality: float, setting: Setting) -> float:
    """CPM in endless scans, mean over seeds."""
    z = np.linspace(-6.0, 6.0, 2001)
    weights = stats.norm.pdf(z) / stats.norm.pdf(z).sum()
    by_seed = quality + math.hypot(setting.seed, setting.detector) * z
    hits = math.hypot(setting.scan, setting.liking, setting.box, setting.noise)
    falses = math.hypot(setting.false_scan, setting.false_own, setting.noise)
    threshold = falses * stats.norm.isf(np.minimum(np.array(FALSE_POSITIVE_RATES) / LOOKALIKES, 1.0))
    found = stats.norm.sf((threshold - by_seed[:, None]) / hits)
    return float(weights @ found.mean(axis=1))


def quality_for(cpm: float, setting: Setting) -> float:
    """The quality with which detectors have this CPM."""
    return float(brentq(lambda quality: true_cpm(quality, setting) - cpm, -10.0, 20.0))


def detectors(
    rng: np.random.Generator, scans: int, qualities: tuple[float, float], setting: Setting
) -> list[list[Cases]]:
    """Cases of one study's detectors, by method and seed."""
    sick = rng.random(scans) < SICK
    while sick.sum() < 2:  # without two of them there is no figure
        sick = rng.random(scans) < SICK
    owners = np.repeat(np.arange(scans), rng.poisson(LOOKALIKES, scans))
    boxes = setting.scan * rng.standard_normal(scans) + setting.box * rng.standard_normal(scans)
    falses = setting.false_scan * rng.standard_normal(scans)[owners]
    falses += setting.false_own * rng.standard_normal(len(owners))
    ends = np.searchsorted(owners, np.arange(1, scans))
    by_seed = setting.seed * rng.standard_normal(SEEDS)
    found: list[list[Cases]] = []
    for quality in qualities:
        liked = boxes + setting.liking * rng.standard_normal(scans)
        found.append([])
        for seed in by_seed:
            own = quality + seed + setting.detector * rng.standard_normal()
            hits = liked + own + setting.noise * rng.standard_normal(scans)
            alarms = np.split(falses + setting.noise * rng.standard_normal(len(owners)), ends)
            found[-1].append([_case(*parts) for parts in zip(sick, hits, alarms, strict=True)])
    return found


def _case(sick: bool, hit: float, alarms: Array) -> dict[str, Any]:
    entry = {"boxes": int(sick), "hit_scores": [float(hit)] * int(sick), "false_scores": alarms.tolist()}
    return {"classes": {"nodule": entry}}


def bootstrap_ends(rng: np.random.Generator, reference: list[Cases], method: list[Cases], draws: int) -> Array:
    """Percentile interval of the difference, scans and seeds drawn with replacement, both paired."""
    number = len(reference[0])
    scans, seeds = rng.integers(number, size=(draws, number)), rng.integers(SEEDS, size=(draws, SEEDS))
    differences = np.stack([cpm_of(b, scans) - cpm_of(a, scans) for a, b in zip(reference, method, strict=True)])
    drawn = np.take_along_axis(differences.T, seeds, axis=1).mean(axis=1)
    ends: Array = np.nanpercentile(drawn, (2.5, 97.5))
    return ends


def study_rates(
    rng: np.random.Generator, studies: int, scans: int, effect: float, setting: Setting, draws: int
) -> Rates:
    """Coverage of the true difference, how often one is found, and widths, by influences and by the bootstrap."""
    qualities = quality_for(setting.cpm, setting), quality_for(setting.cpm + effect, setting)
    sums = dict.fromkeys(
        ("covered", "bootstrap covered", "mean covered", "found", "bootstrap found", "not worse", "half", "error"), 0.0
    )
    estimates = []
    for _ in range(studies):
        reference, method = detectors(rng, scans, qualities, setting)
        arrays = [np.stack([cpm_influences(cases) for cases in one]) for one in (reference, method)]
        interval, mean = paired_contrast(*arrays, unit="CPM").effect, mean_interval(arrays[0], unit="CPM")
        low, high = bootstrap_ends(rng, reference, method, draws)
        sums["covered"] += interval.low <= effect <= interval.high
        sums["bootstrap covered"] += low <= effect <= high
        sums["mean covered"] += mean.low <= setting.cpm <= mean.high
        sums["found"] += interval.excludes_zero
        sums["bootstrap found"] += not low <= 0 <= high
        sums["not worse"] += non_inferiority(*arrays, margin=MARGIN, unit="CPM").shown
        sums["half"] += (interval.high - interval.low) / 2
        sums["error"] += interval.standard_error**2
        estimates.append(interval.mean)
    rates = {name: float(total) / studies for name, total in sums.items()}
    spread = {"standard error": math.sqrt(rates.pop("error")), "true standard error": float(np.std(estimates))}
    return {**rates, **spread, "bias": float(np.mean(estimates)) - effect}


def measure(studies: int, numbers: list[int], draws: int) -> dict[str, Any]:
    """Everything: a row for each setting, number of scans and true difference."""
    rng = np.random.default_rng(0)
    rows = {
        f"{name}, {scans} scans, true difference {effect:g}": study_rates(rng, studies, scans, effect, setting, draws)
        for (name, setting), scans, effect in itertools.product(SETTINGS.items(), numbers, (0.0, EFFECT))
    }
    settings = {name: asdict(setting) for name, setting in SETTINGS.items()}
    about = {"studies": studies, "draws": draws, "seeds": SEEDS, "margin": MARGIN, "settings": settings}
    return {**about, "rows": rows}


def show(console: Console, result: dict[str, Any]) -> None:
    names = ["covered", "bootstrap covered", "mean covered", "found", "bootstrap found", "not worse"]
    title = f"95 % intervals of a difference of CPM, {SEEDS} seeds: % of {result['studies']} studies"
    table = Table(Column("detectors", no_wrap=True), *names, "+/-", title=title)
    for row, rates in result["rows"].items():
        table.add_row(row, *(f"{rates[name] * 100:.1f}" for name in names), f"{rates['half']:.3f}")
    console.print(table)
    console.print(
        "covered: interval of the package, by influences; mean covered: CPM of the reference; found: excludes 0; "
        f"not worse: shown, with a margin of {MARGIN:g}; +/-: mean half-width"
    )


def main() -> None:
    """Simulate, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500, help="simulated studies a row")
    parser.add_argument("--scans", type=int, nargs="+", default=[20, 40])
    parser.add_argument("--draws", type=int, default=300, help="of the bootstrap, a study")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    result = measure(options.studies, options.scans, options.draws)
    show(Console(width=150), result)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
