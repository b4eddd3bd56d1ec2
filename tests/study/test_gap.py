from __future__ import annotations

import numpy as np
import pytest

from monai_ssl.study.gap import NoGapError, gap_fraction
from monai_ssl.study.intervals import mean_interval


def study(fraction: float, gap: float = 0.1, noise: float = 0.01, seeds: int = 3) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    shared = 0.75 + 0.005 * rng.normal(size=(seeds, 1)) + 0.03 * rng.normal(size=(1, 20))
    return tuple(shared + shift + noise * rng.normal(size=(seeds, 20)) for shift in (0, fraction * gap, gap))


def test_interval_is_the_set_that_is_not_rejected() -> None:
    baseline, method, ceiling = study(0.4)
    found = gap_fraction(baseline, method, ceiling)
    for f in np.linspace(found.low - 0.2, found.high + 0.2, 301):
        rest = mean_interval(method - baseline - f * (ceiling - baseline))
        if min(abs(f - found.low), abs(f - found.high)) > 1e-6:
            assert (rest.low <= 0 <= rest.high) == (found.low < f < found.high)
    assert found.fraction == pytest.approx((method - baseline).mean() / (ceiling - baseline).mean())


def test_is_fiellers_closed_form_over_seeds_alone() -> None:
    # with one case the interval is that of the t test over seeds, whose roots are those of a quadratic
    rng = np.random.default_rng(1)
    gain, way = 0.04 + 0.01 * rng.normal(size=6), 0.1 + 0.01 * rng.normal(size=6)
    t2 = 2.570581836**2
    cov = np.cov(gain, way) / 6
    a, b, c = (
        way.mean() ** 2 - t2 * cov[1, 1],
        -2 * (gain.mean() * way.mean() - t2 * cov[0, 1]),
        gain.mean() ** 2 - t2 * cov[0, 0],
    )
    found = gap_fraction(np.zeros((6, 1)), gain[:, None], way[:, None])
    assert sorted(np.roots([a, b, c]).real) == pytest.approx([found.low, found.high], rel=1e-6)


def test_limits_and_invariances() -> None:
    baseline, method, ceiling = study(0.4)
    assert gap_fraction(baseline, baseline, ceiling).fraction == 0
    assert gap_fraction(baseline, ceiling, ceiling).fraction == pytest.approx(1)
    found = gap_fraction(baseline, method, ceiling)
    again = gap_fraction(*(3 * scores[::-1, ::-1] - 1 for scores in (baseline, method, ceiling)))
    assert (again.fraction, again.low, again.high) == pytest.approx((found.fraction, found.low, found.high))
    mirrored = gap_fraction(-ceiling, -method, -baseline)
    assert (1 - mirrored.fraction, 1 - mirrored.high) == pytest.approx((found.fraction, found.low))


def test_the_ceiling_may_be_one_run() -> None:
    baseline, method, ceiling = study(0.4)
    found = gap_fraction(baseline, method, ceiling[:1])
    assert found.ceiling_fixed
    assert "; 3 seeds, 20 cases, the ceiling being one run taken as fixed)" in str(found)
    assert not gap_fraction(baseline, method, ceiling).ceiling_fixed
    assert gap_fraction(baseline[:1], method, ceiling).gap.seeds == 3


def test_where_nothing_varies_the_interval_is_a_point() -> None:
    levels = [np.full((3, 5), level) for level in (0.1, 0.1 + 0.7 * 0.3, 0.8)]
    found = gap_fraction(*levels)
    assert found.fraction == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3)
    assert found.high == pytest.approx(0.3)


@pytest.mark.parametrize("gap", [0.0, 0.001, -0.1])
def test_a_gap_that_may_be_none_is_refused(gap: float) -> None:
    with pytest.raises(NoGapError, match=r"refused: ceiling less baseline is .* not told from none"):
        gap_fraction(*study(0.4, gap=gap, noise=0.02))


def test_words() -> None:
    words = str(gap_fraction(*study(0.4)))
    assert words.startswith("40 % of the gap of 0.096 Dice (95 % interval ")
    assert words.endswith("%; 3 seeds, 20 cases)")
