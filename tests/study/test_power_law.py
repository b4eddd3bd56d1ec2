from __future__ import annotations

import numpy as np
import pytest

from monai_ssl.study.power_law import fit_power_law


def test_a_power_law_is_recovered() -> None:
    law = fit_power_law({n: np.full((2, 3), 1 - 0.3 * n**-0.4) for n in (1, 2, 8, 16)})
    assert (law.scale, law.exponent, law.worst_factor) == pytest.approx((0.3, 0.4, 1.0))
    assert law.error(4) == pytest.approx(0.3 * 4**-0.4)
    assert law.labels(law.error(5)) == pytest.approx(5)
    assert str(law) == "error about 0.300 x labels^-0.40 from 1 to 16 labels, off by a factor of 1.00 at most"


def test_it_does_not_extrapolate() -> None:
    law = fit_power_law({n: [[1 - 0.3 * n**-0.4]] for n in (1, 2, 8)})
    assert law.labels(0.31) is None
    assert law.labels(law.error(9)) is None
    assert law.labels(0.0) is None


def test_a_curve_that_levels_off_shows_in_the_worst_factor() -> None:
    law = fit_power_law({1: [[0.7]], 4: [[0.89]], 16: [[0.9]], 64: [[0.9]]})
    misses = [abs(np.log(e / law.error(n))) for n, e in ((1, 0.3), (4, 0.11), (16, 0.1), (64, 0.1))]
    assert law.worst_factor == pytest.approx(np.exp(max(misses)))
    assert law.worst_factor > 1.3


def test_a_flat_curve_wants_no_number_of_labels() -> None:
    law = fit_power_law({n: [[0.5]] for n in (1, 2, 4)})
    assert law.exponent == pytest.approx(0, abs=1e-12)
    assert law.labels(0.4) is None


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"three budgets at least for a power law, got \[1.0, 2.0\]"):
        fit_power_law({1: [[0.5]], 2: [[0.6]]})
    with pytest.raises(ValueError, match="mean scores below 1, got 1"):
        fit_power_law({1: [[0.5]], 2: [[0.6]], 4: [[1.0]]})
