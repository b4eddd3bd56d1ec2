"""What the intervals and claims of a study are worth: simulated studies whose truth is known.

    python benchmarks/study_coverage.py --studies 2000 --output study_coverage.json

Scores are drawn with crossed effects of seeds and cases, of the sizes measured on the hippocampus study (40 test cases;
seed-to-seed standard deviation of the mean Dice 0.027 at 2 labels and 0.015 at 4, of a paired difference 0.004; cases
0.035; residual 0.02), and around them. Every simulated study goes through the functions that a real one goes through.
A share of n studies has a standard error of sqrt(p (1 - p) / n): 0.5 % for 95 % of 2000.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table
from scipy import stats

from monai_ssl.study.components import mean_products
from monai_ssl.study.contrasts import paired_contrast
from monai_ssl.study.gap import NoGapError, gap_fraction
from monai_ssl.study.intervals import mean_interval
from monai_ssl.study.labels_saved import labels_saved

Array = NDArray[np.float64]
Rates = dict[str, float]

# standard deviations between seeds, between cases, residual; the first two of each group are the measured ones
MEANS = {
    "2 labels": (0.027, 0.035, 0.02),
    "4 labels": (0.015, 0.035, 0.02),
    "seeds alike": (0.0, 0.035, 0.02),
    "cases alike": (0.027, 0.0, 0.02),
}
DIFFERENCES = {
    "difference": (0.0033, 0.005, 0.014),
    "difference, cases differ": (0.0033, 0.01, 0.014),
    "difference, seeds alike": (0.0, 0.01, 0.014),
    "difference, residual alone": (0.0, 0.0, 0.014),
}
EFFECTS = (0.004, 0.008, 0.012)

BUDGETS = (1, 2, 4, 8, 16, 208)
ERRORS = (0.24, 0.18, 0.145, 0.125, 0.115, 0.10)
SEED_SD = (0.04, 0.027, 0.015, 0.008, 0.005, 0.002)
ASKED = (1, 2, 4, 8, 16)
WORTHS = (1.0, 1.25, 1.5, 2.0)


def crossed(rng: np.random.Generator, seeds: int, cases: int, sds: tuple[float, float, float]) -> Array:
    """Scores of one method around 0, or of one difference."""
    seed_sd, case_sd, rest_sd = sds
    return (
        seed_sd * rng.standard_normal((seeds, 1))
        + case_sd * rng.standard_normal((1, cases))
        + rest_sd * rng.standard_normal((seeds, cases))
    )


def expected_squares(sds: tuple[float, float, float], seeds: int, cases: int) -> tuple[float, float, float]:
    """What the mean squares of seeds, cases and residual are on average."""
    seed, case, rest = (sd**2 for sd in sds)
    return rest + cases * seed, rest + seeds * case, rest


def theory(sds: tuple[float, float, float], seeds: int, cases: int, effect: float) -> float:
    """Power of the two-sided 5 % t test whose degrees of freedom are known (Satterthwaite with the true variances)."""
    by_seed, by_case, rest = expected_squares(sds, seeds, cases)
    variance = by_seed + by_case - rest
    spread = by_seed**2 / (seeds - 1) + by_case**2 / (cases - 1) + rest**2 / ((seeds - 1) * (cases - 1))
    degrees = variance**2 / spread
    shift, edge = effect / math.sqrt(variance / (seeds * cases)), stats.t.ppf(0.975, degrees)
    return float(stats.nct.sf(edge, degrees, shift) + stats.nct.cdf(-edge, degrees, shift))


def half_widths(squares: tuple[float, float, float], seeds: int, cases: int) -> dict[str, float]:
    """The constructions that were compared with the package's, from the mean squares of one study."""
    by_seed, by_case, rest = squares
    first, second, third = seeds - 1, cases - 1, (seeds - 1) * (cases - 1)
    excess = max(by_case - rest, 0.0)
    variance = max(by_seed - rest, 0.0) + excess + rest
    spread = by_seed**2 / first + by_case**2 / second + rest**2 / third
    q = stats.t.ppf
    root = math.sqrt(seeds * cases)
    return {
        "Satterthwaite": q(0.975, max(variance**2 / spread, 1.0)) * math.sqrt(variance) / root,
        "S - 1": q(0.975, first) * math.sqrt(variance) / root,
        "Howe": math.sqrt(q(0.975, first) ** 2 * by_seed + q(0.975, second) ** 2 * excess) / root,
    }


def interval_rates(
    rng: np.random.Generator, studies: int, seeds: int, cases: int, sds: tuple[float, float, float]
) -> Rates:
    """Coverage and mean half-width of the package's interval and of those it was chosen over; truth 0."""
    covered: dict[str, int] = {}
    widths: dict[str, float] = {}
    for _ in range(studies):
        scores = crossed(rng, seeds, cases, sds)
        interval = mean_interval(scores)
        by_seed, by_case, rest = (float(part[0, 0]) for part in mean_products(scores[None]))
        halves = {"ours": (interval.high - interval.low) / 2, **half_widths((by_seed, by_case, rest), seeds, cases)}
        for name, half in halves.items():
            covered[name] = covered.get(name, 0) + int(abs(interval.mean) <= half)
            widths[name] = widths.get(name, 0.0) + half
    rates = {name: count / studies for name, count in covered.items()}
    return rates | {f"width {name}": width / studies for name, width in widths.items()}


def power_rates(
    rng: np.random.Generator, studies: int, seeds: int, cases: int, sds: tuple[float, float, float], effect: float
) -> Rates:
    """How often an effect is found, by the interval and by the test over cases; and how often theory finds it."""
    found = by_cases = 0
    for _ in range(studies):
        contrast = paired_contrast(np.zeros((seeds, cases)), effect + crossed(rng, seeds, cases, sds))
        found += contrast.found
        by_cases += contrast.p_cases < 0.05
    theirs = 0.05 if effect == 0 else theory(sds, seeds, cases, effect)
    return {"found": found / studies, "found by cases alone": by_cases / studies, "theory": theirs}


def simulated_curves(
    rng: np.random.Generator, seeds: int, cases: int, worth: float, ceiling_seeds: int
) -> tuple[dict[int, Array], dict[int, Array]]:
    """Baseline and a method for which every label counts ``worth`` times, paired by seed and case."""
    logs = np.log(BUDGETS)
    case_effect, case_difference = 0.035 * rng.standard_normal(cases), 0.005 * rng.standard_normal(cases)
    luck = rng.standard_normal((seeds, 1))
    baseline, method = {}, {}
    for index, budget in enumerate(BUDGETS):
        runs = ceiling_seeds if budget == BUDGETS[-1] else seeds
        own_luck = math.sqrt(0.5) * (luck[:runs] + rng.standard_normal((runs, 1)))
        shared = SEED_SD[index] * own_luck + case_effect + 0.018 * rng.standard_normal((runs, cases))
        baseline[budget] = 1 - ERRORS[index] + shared + 0.01 * rng.standard_normal((runs, cases))
        if budget in ASKED:
            error = np.interp(math.log(budget * worth), logs, ERRORS)
            different = case_difference + crossed(rng, runs, cases, (0.0033, 0.0, 0.01))
            method[budget] = 1 - error + shared + different
    return baseline, method


def curve_rates(rng: np.random.Generator, studies: int, seeds: int, cases: int, worth: float, draws: int) -> Rates:
    """Labels saved: claims at any budget and at 2 labels, the whole curve in view; coverage at each budget."""
    claimed = one_claimed = 0
    covered = np.zeros(len(ASKED))
    for study in range(studies):
        baseline, method = simulated_curves(rng, seeds, cases, worth, seeds)
        points = labels_saved(baseline, method, at=ASKED, draws=draws, seed=study)
        claimed += any(point.claimed for point in points)
        one_claimed += points[ASKED.index(2)].claimed
        covered += [point.low <= min(point.labels * worth, BUDGETS[-1]) <= point.high for point in points]
    by_budget = {f"covered at {budget}": rate for budget, rate in zip(ASKED, (covered / studies).tolist(), strict=True)}
    return {"claimed anywhere": claimed / studies, "claimed at 2": one_claimed / studies, **by_budget}


def gap_rates(
    rng: np.random.Generator, studies: int, seeds: int, cases: int, worth: float, budget: int, ceiling_seeds: int
) -> Rates:
    """Fraction of the gap: coverage where it is given, and how often it is refused."""
    baseline_error, ceiling_error = ERRORS[BUDGETS.index(budget)], ERRORS[-1]
    error = np.interp(math.log(budget * worth), np.log(BUDGETS), ERRORS)
    truth = (baseline_error - error) / (baseline_error - ceiling_error)
    covered = refused = 0
    for _ in range(studies):
        baseline, method = simulated_curves(rng, seeds, cases, worth, ceiling_seeds)
        try:
            gap = gap_fraction(baseline[budget], method[budget], baseline[BUDGETS[-1]])
        except NoGapError:
            refused += 1
        else:
            covered += int(gap.low <= truth <= gap.high)
    return {"covered": covered / max(studies - refused, 1), "refused": refused / studies}


def percent(values: Rates, names: list[str]) -> list[str]:
    return [f"{values[name] * 100:.1f}" for name in names]


def show(console: Console, title: str, first: str, rows: dict[str, Rates], names: list[str]) -> None:
    table = Table(Column(first, no_wrap=True), *names, title=title)
    for row, rates in rows.items():
        table.add_row(row, *percent(rates, names))
    console.print(table)


def measure(studies: int, curve_studies: int, seed_numbers: list[int], cases: int, draws: int) -> dict[str, Any]:
    """Everything, as nested dictionaries: section, row, rate."""
    rng = np.random.default_rng(0)
    intervals: dict[str, Rates] = {}
    power: dict[str, Rates] = {}
    labels: dict[str, Rates] = {}
    gaps: dict[str, Rates] = {}
    for name, sds in {**MEANS, **DIFFERENCES}.items():
        for seeds in seed_numbers:
            intervals[f"{name}, {seeds} seeds"] = interval_rates(rng, studies, seeds, cases, sds)
    for name, effect, seeds in itertools.product(list(DIFFERENCES)[:2], (0.0, *EFFECTS), seed_numbers):
        row = f"{name}, {effect:g}, {seeds} seeds"
        power[row] = power_rates(rng, studies, seeds, cases, DIFFERENCES[name], effect)
    for worth, seeds in itertools.product(WORTHS, seed_numbers):
        labels[f"labels worth {worth:g}, {seeds} seeds"] = curve_rates(rng, curve_studies, seeds, cases, worth, draws)
    for (budget, single), seeds in itertools.product(((2, False), (2, True), (16, False)), seed_numbers):
        row = f"{budget} labels{', ceiling one run' if single else ''}, {seeds} seeds"
        gaps[row] = gap_rates(rng, studies, seeds, cases, 1.5, budget, 1 if single else seeds)
    settings = {"studies": studies, "curve_studies": curve_studies, "cases": cases, "draws": draws}
    return {**settings, "intervals": intervals, "power": power, "labels": labels, "gap": gaps}


def main() -> None:
    """Simulate, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies a row")
    parser.add_argument("--curve-studies", type=int, default=500, help="the same where whole curves are drawn again")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--draws", type=int, default=1000, help="drawn curves a study")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    result = measure(options.studies, options.curve_studies, options.seeds, options.cases, options.draws)
    console = Console(width=120)
    constructions = ["ours", "Satterthwaite", "S - 1", "Howe"]
    show(console, "95 % intervals: % that hold the truth", "scores", result["intervals"], constructions)
    powers = ["found", "theory", "found by cases alone"]
    show(console, "effects found, %", "effect", result["power"], powers)
    claims = ["claimed anywhere", "claimed at 2", *(f"covered at {budget}" for budget in ASKED)]
    show(console, "labels saved, %", "truth", result["labels"], claims)
    show(console, "fraction of the gap, %", "budget", result["gap"], ["covered", "refused"])
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
