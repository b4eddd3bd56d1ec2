from __future__ import annotations

import math

import pytest

from monai_ssl.utils.schedules import constant, ema_decay, polynomial_decay, ramp_up, switch_on


def test_constant() -> None:
    assert {constant(step, value=0.3) for step in (0, 1, 10**6)} == {0.3}


@pytest.mark.parametrize(("length", "maximum"), [(1, 1.0), (40, 0.1), (1000, 5.0)])
def test_ramp_up(length: int, maximum: float) -> None:
    values = [ramp_up(step, length=length, maximum=maximum) for step in range(2 * length + 1)]
    assert values[0] == pytest.approx(maximum * math.exp(-5))
    assert values[length:] == [maximum] * (length + 1)
    assert values == sorted(values)
    assert length == 1 or max(values[:length]) < maximum
    if length % 2 == 0:
        assert values[length // 2] == pytest.approx(maximum * math.exp(-1.25))


def test_no_ramp_is_the_maximum_at_once() -> None:
    assert ramp_up(0, length=0, maximum=0.7) == 0.7


def test_a_ramp_that_starts_later_is_zero_until_then() -> None:
    late = [ramp_up(step, length=40, maximum=0.7, start=10) for step in range(80)]
    assert late[:10] == [0.0] * 10
    assert late[10:] == [ramp_up(step, length=40, maximum=0.7) for step in range(70)]


@pytest.mark.parametrize(("length", "maximum"), [(0, 0.5), (1, 1.0), (7, -2.0)])
def test_switch_on_is_zero_for_exactly_its_length(length: int, maximum: float) -> None:
    values = [switch_on(step, length=length, maximum=maximum) for step in range(10)]
    assert values == [0.0] * length + [maximum] * (10 - length)
    assert switch_on(10**9, length=length) == 1.0


@pytest.mark.parametrize("power", [0.5, 0.9, 1.0, 2.0])
def test_polynomial_decay(power: float) -> None:
    values = [polynomial_decay(step, total=100, power=power, initial=0.3) for step in range(120)]
    assert values[0] == 0.3
    assert values[100:] == [0.0] * 20
    assert values[:101] == sorted(values[:101], reverse=True)
    assert values[25] == pytest.approx(0.3 * math.pow(0.75, power))
    assert all(isinstance(value, float) for value in values)


def test_warm_up_is_linear_and_ends() -> None:
    plain = [polynomial_decay(step, total=100) for step in range(100)]
    warm = [polynomial_decay(step, total=100, warmup=10) for step in range(100)]
    assert [w / p for w, p in zip(warm[:10], plain[:10], strict=True)] == pytest.approx([k / 10 for k in range(1, 11)])
    assert warm[9:] == plain[9:]
    assert warm[0] > 0  # the first step is not lost


def test_ema_decay_is_a_plain_mean_first() -> None:
    values, average = [3.0, -1.0, 4.0, 1.5, -9.0, 2.5], 100.0
    for step, value in enumerate(values):
        decay = ema_decay(step, maximum=0.999)
        average = decay * average + (1 - decay) * value
        assert average == pytest.approx(sum(values[: step + 1]) / (step + 1))


def test_ema_decay_is_bounded() -> None:
    values = [ema_decay(step, maximum=0.9) for step in range(100)]
    assert values == sorted(values)
    assert values[0] == 0
    assert values[8] < 0.9
    assert set(values[9:]) == {0.9}
    assert ema_decay(50, maximum=0.0) == 0


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`length` must be 0 or more steps, got -1\."):
        ramp_up(0, length=-1)
    with pytest.raises(ValueError, match="`start` must be 0 or more steps, got -1"):
        ramp_up(0, length=1, start=-1)
    with pytest.raises(ValueError, match=r"`length` must be 0 or more steps, got -2\."):
        switch_on(0, length=-2)
    with pytest.raises(ValueError, match=r"`total` must be at least 1 step, got 0\."):
        polynomial_decay(0, total=0)
    for maximum in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"`maximum` must be in \[0, 1\), got"):
            ema_decay(0, maximum=maximum)
