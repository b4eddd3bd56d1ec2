from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from monai_ssl.objectives import FocalMix
from monai_ssl.utils.wrong_arguments import texts_for_numbers


class Base:
    def __init__(self, rate: float | None = None, name: str = "", **more: Any) -> None:
        self.rate = rate is not None and rate > 1


class Derived(Base):
    def __init__(self, rate: float | None = None, steps: int = 1, mode: int | str = 1, name: str = "x") -> None:
        super().__init__(rate, name, extra="text")
        self.steps = steps + 1


def told(make: Callable[[], object]) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    return texts_for_numbers(caught.value)


def test_the_argument_is_named_with_what_it_has_to_be() -> None:
    assert told(lambda: Derived(steps="abc")) == "steps is 'abc', and has to be int"
    assert told(lambda: Derived(rate="abc", steps="2", mode="a")) == (
        "rate is 'abc', and has to be float | None; steps is '2', and has to be int"
    )
    assert told(lambda: Base(rate="null")) == "rate is 'null', and has to be float | None"


def test_annotations_that_are_no_text_are_read_too() -> None:
    optimizer = told(lambda: torch.optim.SGD([torch.zeros(1)], lr="abc"))
    assert optimizer.startswith("lr is 'abc', and has to be ")
    assert "float" in optimizer


@pytest.mark.parametrize("name", ["burn_in", "views", "temperature", "decay"])
def test_the_settings_of_an_objective_are_named(name: str) -> None:
    network = torch.nn.Linear(1, 1)
    made = told(lambda: FocalMix(network, loss=None, spacing=(1.0, 1.0, 1.0), **{name: "abc"}))
    assert made.startswith(f"{name} is 'abc', and has to be ")


def test_nothing_is_said_where_nothing_stands_out() -> None:
    def function(rate: float) -> float:
        return rate + 1

    assert told(lambda: Derived(steps=None)) == ""
    assert told(lambda: function("abc")) == ""
    assert told(lambda: int("abc")) == ""
    assert texts_for_numbers(ValueError("never raised")) == ""
