from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monai_ssl.metrics.case_influence import cpm_influences
from monai_ssl.metrics.free_response import FALSE_POSITIVE_RATES, cpm_of, sensitivities_of


def record(boxes: int, hits: Any = (), falses: Any = ()) -> dict[str, Any]:
    entry = {"boxes": boxes, "hit_scores": list(hits), "false_scores": list(falses)}
    return {"image": "a.nii.gz", "boxes": boxes, "classes": {"nodule": entry}}


def random_cases(seed: int, count: int = 12, ties: bool = False) -> list[dict[str, Any]]:
    """Cases of two classes, the first two with a box of each, others perhaps without a box or a prediction."""
    generator = np.random.default_rng(seed)
    cases = []
    for place in range(count):
        classes = {}
        for name in ("nodule", "node"):
            boxes = 1 if place < 2 else int(generator.integers(3))
            hits = boxes if place < 2 else generator.integers(boxes + 1)
            scores = generator.random(hits), generator.random(generator.poisson(4))
            if ties:
                scores = tuple(np.ceil(3 * part) / 3 for part in scores)
            classes[name] = {"boxes": boxes, "hit_scores": scores[0].tolist(), "false_scores": scores[1].tolist()}
        cases.append({"image": "", "boxes": sum(entry["boxes"] for entry in classes.values()), "classes": classes})
    return cases


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", [None, "node"])
@pytest.mark.parametrize("rates", [FALSE_POSITIVE_RATES, (1.0,), (0.0, 3.0)])
def test_they_are_tukeys_pseudo_values_moved_to_the_figure(
    rates: tuple[float, ...], name: str | None, ties: bool
) -> None:
    spans = []
    for seed in range(8):
        cases = random_cases(seed, ties=ties)
        options: dict[str, Any] = {"rates": rates, "class_name": name}

        def figure(chosen: list[dict[str, Any]], options: dict[str, Any] = options) -> float:
            return float(sensitivities_of(chosen, **options).mean())

        found, number = cpm_influences(cases, **options), len(cases)
        pseudo = [number * figure(cases) - (number - 1) * figure(cases[:i] + cases[i + 1 :]) for i in range(number)]
        spans.append(np.ptp(found))
        assert found - found.mean() == pytest.approx(pseudo - np.mean(pseudo), abs=1e-12)
        assert found.mean() == pytest.approx(figure(cases), abs=1e-13)
    assert sum(span > 0.1 for span in spans) >= 4  # else there is nothing to compare


def test_by_default_their_mean_is_cpm() -> None:
    for seed in range(5):
        cases = random_cases(seed)
        assert cpm_influences(cases).mean() == pytest.approx(cpm_of(cases), abs=1e-13)
        assert cpm_influences(cases, rates=(1.0,)).mean() != pytest.approx(cpm_of(cases), abs=1e-3)


def test_a_share_of_cases_is_made_of_zeros_and_ones() -> None:
    # with one box a case and no false positive, CPM is the share of boxes that are found, a mean over cases
    found = [True, False, False, True, True]
    cases = [record(1, [0.5 + place / 10] if hit else []) for place, hit in enumerate(found)]
    assert cpm_influences(cases) == pytest.approx(np.array(found, dtype=float), abs=1e-12)
    assert cpm_influences(cases[:1] * 3).tolist() == [1.0] * 3


def test_they_follow_their_cases_and_tell_good_from_bad() -> None:
    cases = random_cases(7)
    order = np.random.default_rng(0).permutation(len(cases))
    assert cpm_influences([cases[place] for place in order]) == pytest.approx(cpm_influences(cases)[order])
    twice = cpm_influences([*cases, cases[3]])
    assert twice[3] == pytest.approx(twice[-1])
    found, missed, noisy, quiet = cpm_influences([record(1, [0.7]), record(1), record(0, [], [0.8, 0.9]), record(0)])
    assert found > missed
    assert quiet > noisy


def test_their_variance_is_about_that_of_a_bootstrap() -> None:
    for seed in range(3):
        cases = random_cases(seed, 120)
        values = cpm_influences(cases)
        drawn = cpm_of(cases, np.random.default_rng(seed).integers(len(cases), size=(800, len(cases))))
        assert values.std(ddof=1) / np.sqrt(len(cases)) == pytest.approx(drawn.std(), rel=0.15)


def test_where_a_single_case_has_the_boxes_nothing_can_be_told() -> None:
    cases = [record(2, [0.9], [0.5]), record(0, [], [0.8]), record(0)]
    assert np.isfinite(cpm_of(cases))
    assert np.isnan(cpm_influences(cases)).all()
    assert np.isfinite(cpm_influences([*cases, record(1)])).all()
    assert np.isnan(cpm_influences(cases[1:])).all()


def test_a_case_that_is_alone_has_the_figure() -> None:
    alone = [record(2, [0.9], [0.95, 0.5])]
    assert cpm_influences(alone).tolist() == [cpm_of(alone)]
    assert np.isnan(cpm_influences([record(0, [], [0.5])])).tolist() == [True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cpm_influences([]), r"`cases` must hold at least one case, got none"),
        (lambda: cpm_influences([record(1)] * 2, rates=(-1.0,)), r"`rates` must be .* >= 0, got \(-1.0,\)"),
        (lambda: cpm_influences([record(1)] * 2, class_name="mass"), r"`class_name` must be one of nodule, got 'mass'"),
    ],
)
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
