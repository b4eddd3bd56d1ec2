from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import pytest
from monai.bundle import ConfigParser

from monai_ssl.utils.errors import UserError
from monai_ssl.utils.schedules import polynomial_decay
from monai_ssl.utils.transfer_schedule import TRANSFER_MODES, stage_at, transfer_rate, transfer_stages


def rates(mode: str, **settings: Any) -> list[float]:
    stages = transfer_stages(mode, **settings)
    return [transfer_rate(step, stages=stages) for step in range(stages[-1].end)]


@pytest.mark.parametrize("mode", TRANSFER_MODES)
@pytest.mark.parametrize(("total", "warmup"), [(3, 0), (7, 50), (100, 10), (1500, 50)])
def test_stages_follow_each_other_and_cover_the_run(mode: str, total: int, warmup: int) -> None:
    stages = transfer_stages(mode, total=total, warmup=warmup)
    assert [stage.start for stage in stages] == [0, *(stage.end for stage in stages[:-1])]
    assert stages[-1].end == total
    assert all(stage.start < stage.end for stage in stages)
    for step in range(total):
        assert stage_at(stages, step).start <= step < stage_at(stages, step).end
    assert stage_at(stages, total + 5) is stages[-1]


@pytest.mark.parametrize("mode", ["fine_tune", "feature_extraction"])
@pytest.mark.parametrize(("total", "warmup"), [(10, 50), (100, 0), (100, 10)])
def test_one_stage_is_the_schedule_without_transfer(mode: str, total: int, warmup: int) -> None:
    stages = transfer_stages(mode, total=total, warmup=warmup)
    plain = [polynomial_decay(step, total=total, warmup=warmup) for step in range(total + 3)]
    assert [transfer_rate(step, stages=stages) for step in range(total + 3)] == plain


@pytest.mark.parametrize(
    ("mode", "frozen"),
    [
        ("fine_tune", ["none"]),
        ("feature_extraction", ["encoder"]),
        ("two_stage", ["loaded", "none"]),
        ("sawtooth", ["encoder", "none", "none"]),
    ],
)
def test_what_is_frozen(mode: str, frozen: list[str]) -> None:
    assert [stage.frozen for stage in transfer_stages(mode, total=30)] == frozen


def test_two_stages_by_hand() -> None:
    got = rates("two_stage", total=100, warmup=4, frozen_steps=30, rate=0.25)
    rise = [0.25, 0.5, 0.75] + [1.0] * 97
    first = [rise[t] * (1 - t / 100) ** 0.9 for t in range(30)]
    second = [0.25 * rise[t] * ((70 - t) / 70) ** 0.9 for t in range(70)]
    assert got == pytest.approx(first + second, rel=1e-12)
    assert max(got[30:]) < 0.25


@pytest.mark.parametrize("frozen", [1, 2, 9, 10])
def test_a_sawtooth_by_hand(frozen: int) -> None:
    total, rising = 60, 6
    got, half = rates("sawtooth", total=total, warmup=50, frozen_steps=frozen, rising_steps=rising), frozen // 2
    tooth = [(t + 1) / half for t in range(half)] + [(1 - k / (frozen - half)) ** 0.9 for k in range(frozen - half)]
    left = total - frozen - rising
    by_hand = tooth + [k / rising for k in range(1, rising + 1)] + [(1 - k / left) ** 0.9 for k in range(left)]
    assert got == pytest.approx(by_hand, rel=1e-12)
    assert max(got[:frozen]) == max(got[frozen:]) == 1


@pytest.mark.parametrize("mode", TRANSFER_MODES)
def test_curves_are_continuous_inside_a_stage_and_positive(mode: str) -> None:
    # the largest step of a continuous curve falls with the resolution; a jump would stay
    for scale, bound in ((10, 0.15), (1000, 0.003)):
        settings = {"total": 100 * scale, "warmup": 10 * scale, "frozen_steps": 20 * scale, "rising_steps": 10 * scale}
        curve = rates(mode, **settings)
        assert all(0 < value <= 1 for value in curve)
        for stage in transfer_stages(mode, **settings):
            part = curve[stage.start : stage.end]
            assert max(abs(b - a) for a, b in pairwise(part)) < bound


def test_default_lengths_are_shares_of_the_run() -> None:
    assert [stage.start for stage in transfer_stages("two_stage", total=1500)] == [0, 300]
    assert [stage.start for stage in transfer_stages("sawtooth", total=1500)] == [0, 150, 300]
    assert [stage.start for stage in transfer_stages("sawtooth", total=90, frozen_steps=20)] == [0, 20, 40]
    assert [stage.start for stage in transfer_stages("sawtooth", total=9, frozen_steps=6)] == [0, 6, 8]


def test_what_a_mode_does_not_use_may_hold_anything() -> None:
    odd: dict[str, Any] = {"frozen_steps": 10**6, "rising_steps": -1, "rate": 7.0}
    assert rates("fine_tune", total=10, **odd) == rates("fine_tune", total=10)
    assert rates("feature_extraction", total=10, **odd) == rates("feature_extraction", total=10)


def test_as_a_config_names_it() -> None:
    config = {
        "stages": {
            "_target_": "monai_ssl.utils.transfer_schedule.transfer_stages",
            "mode": "two_stage",
            "total": 40,
            "warmup": 3,
        },
        "schedule": {
            "_target_": "monai_ssl.utils.transfer_schedule.transfer_rate",
            "_mode_": "callable",
            "stages": "@stages",
        },
    }
    schedule = ConfigParser(config).get_parsed_content("schedule")
    assert [schedule(step) for step in range(40)] == rates("two_stage", total=40, warmup=3)


def test_stages_can_be_pickled() -> None:
    stages = transfer_stages("sawtooth", total=40)
    copy = pickle.loads(pickle.dumps(stages))
    assert [transfer_rate(step, stages=copy) for step in range(40)] == rates("sawtooth", total=40)


@pytest.mark.parametrize(
    ("mode", "settings", "message"),
    [
        ("linear", {}, r"`mode` of a transfer must be one of fine_tune, .*, sawtooth, got 'linear'\."),
        ("fine_tune", {"total": 0}, r"`total` must be at least 1 for transfer fine_tune, got 0\."),
        ("two_stage", {"total": 1}, r"`total` must be at least 2 for transfer two_stage, got 1\."),
        ("sawtooth", {"total": 2}, r"`total` must be at least 3 for transfer sawtooth, got 2\."),
        ("fine_tune", {"warmup": -1}, r"`warmup` must be 0 or more steps, got -1\."),
        ("two_stage", {"frozen_steps": 0}, r"`frozen_steps` must be a whole number of steps in 1\.\.99 .*, got 0\."),
        ("two_stage", {"frozen_steps": 100}, r"`frozen_steps` must be .* in 1\.\.99 .*, got 100\."),
        ("two_stage", {"frozen_steps": 0.2}, r"`frozen_steps` must be a whole number of steps .*, got 0\.2\."),
        ("two_stage", {"rate": 0.0}, r"`rate` of the second stage must be in \(0, 1\], got 0\.0\."),
        ("two_stage", {"rate": 1.5}, r"`rate` of the second stage must be in \(0, 1\], got 1\.5\."),
        ("two_stage", {"rate": float("nan")}, r"`rate` of the second stage must be in \(0, 1\], got nan\."),
        ("sawtooth", {"frozen_steps": 99}, r"`frozen_steps` must be .* in 1\.\.98 .*, got 99\."),
        ("sawtooth", {"frozen_steps": 60, "rising_steps": 40}, r"`rising_steps` must be .* in 1\.\.39 .*, got 40\."),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(mode: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        transfer_stages(mode, **{"total": 100, **settings})
