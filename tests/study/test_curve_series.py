from __future__ import annotations

import pytest

from monai_ssl.study.curve_series import BASELINE, PRIMARY, Series, budget_positions, dodge, read_series
from monai_ssl.study.findings import find
from tests.study.contents import BUDGETS, MEANS, make_content


def series(**changes: object) -> list[Series]:
    content = make_content({f"m{n}": 0.0 for n in range(7)} | {"mt": 0.02}, noise=0.0, **changes)
    return read_series({**content, "findings": find(content)})


def test_every_method_has_its_figures_in_the_order_of_labels_and_looks_of_its_own() -> None:
    found = {one.label: one for one in series()}
    assert list(found) == ["sup", "m0", "m1", "m2", "m3", "m4", "m5", "m6", "mt"]
    assert [(point.labels, point.mean) for point in found["sup"].figures] == [
        (BUDGETS[budget], pytest.approx(MEANS[budget])) for budget in BUDGETS
    ]
    assert all(len(point.seeds) == 5 for one in found.values() for point in one.figures)
    assert (found["sup"].colour, found["sup"].marker) == BASELINE
    assert (found["mt"].colour, found["mt"].marker) == PRIMARY
    assert len({(one.colour, one.marker, one.dashed) for one in found.values()}) == len(found)


def test_a_method_that_only_a_screen_measured_is_hollow_and_comes_from_its_runs() -> None:
    runs = [{"budget": "2", "method": "tried", "labels": 2, "mean": mean} for mean in (0.5, 0.7, None)]
    content = make_content(runs=runs)
    found = {one.label: one for one in read_series({**content, "findings": find(content)})}
    assert [one.label for one in found.values() if one.hollow] == ["tried"]
    (point,) = found["tried"].figures
    assert (point.labels, point.mean, point.seeds, point.low) == (2, pytest.approx(0.6), (0.5, 0.7), None)


def test_the_baseline_stands_on_the_tick_and_neighbouring_budgets_do_not_meet() -> None:
    found = series()
    positions = budget_positions(found)
    assert positions == {budget: float(labels) for budget, labels in BUDGETS.items()}
    dodge(found, positions, "sup")
    at = {one.label: one.at(positions) for one in found}
    assert at["sup"] == list(positions.values())
    assert len({one[0] for one in at.values()}) == len(at)
    assert max(one[0] for one in at.values()) < min(one[1] for one in at.values())


def test_nothing_measured_is_nothing_drawn() -> None:
    assert read_series({}) == []
    assert budget_positions([]) == {}
