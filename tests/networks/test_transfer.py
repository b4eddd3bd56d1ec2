from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from monai_ssl.networks.transfer import compare_keys, load_weights, read_weights
from monai_ssl.utils.errors import UserError
from tests.helpers import same


def network(channels: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.Conv2d(channels, 2, 1))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(content: Any) -> Path:
        torch.save(content, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    return save


def test_own_weights_match_completely() -> None:
    report = compare_keys(network().state_dict(), network())
    assert report.complete
    assert list(report.matched) == list(network().state_dict())
    assert str(report) == "9 matched"


def test_every_key_is_told_once() -> None:
    weights = network(4).state_dict()
    weights["head.bias"] = weights.pop("2.bias")
    report = compare_keys(weights, network(3))
    assert report.missing == ("2.bias",)
    assert report.unexpected == ("head.bias",)
    assert report.matched == ("1.num_batches_tracked",)
    told = [*report.matched, *report.missing, *report.unexpected, *report.mismatched]
    assert sorted(told) == sorted(weights.keys() | network().state_dict().keys())
    assert not report.complete
    assert str(report) == (
        "1 matched, 1 missing (2.bias), 1 unexpected (head.bias), "
        f"{len(report.mismatched)} mismatched (0.weight, 0.bias, 1.weight, ..)"
    )


def test_comparing_changes_nothing() -> None:
    target, weights = network(3), network(4).state_dict()
    before = copy.deepcopy((target.state_dict(), weights))
    compare_keys(weights, target)
    assert same((target.state_dict(), weights), before)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "epoch": 3}])
def test_weights_are_loaded_and_not_shared(wrap: Callable[[Any], Any], saved: Callable[[Any], Path]) -> None:
    source, target = network(), network()
    assert not same(source.state_dict(), target.state_dict())
    assert load_weights(target, saved(wrap(source.state_dict()))) is target
    assert same(target.state_dict(), source.state_dict())


def test_another_network_is_refused_and_left_alone(saved: Callable[[Any], Path]) -> None:
    target = network(3)
    before = copy.deepcopy(target.state_dict())
    weights = network(4).state_dict() | {"2.weight": target.state_dict()["2.weight"] + 1}
    with pytest.raises(UserError, match=r"model\.pt: does not fit this network: .* mismatched .*network_def"):
        load_weights(target, saved(weights))
    assert same(target.state_dict(), before)


def test_one_missing_key_is_refused(saved: Callable[[Any], Path]) -> None:
    weights = network().state_dict()
    del weights["2.bias"]
    with pytest.raises(UserError, match=r"8 matched, 1 missing \(2\.bias\)"):
        load_weights(network(), saved(weights))


@pytest.mark.parametrize(
    "content",
    [
        {"format": 1, "objective": {"a": torch.ones(1)}, "optimizer": {}, "iteration": 3},
        {},
        {"model": {}},
        [torch.ones(2)],
        torch.ones(2),
        {"a": torch.ones(1), "step": 3},
    ],
)
def test_what_is_no_state_dict_is_refused(content: Any, saved: Callable[[Any], Path]) -> None:
    with pytest.raises(UserError, match=r"is no plain state dict of a network\. Give the model\.pt .* resume\.pt"):
        read_weights(saved(content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "model.pt", tmp_path):
        with pytest.raises(UserError, match=r": there are no weights here\. Give --weights"):
            read_weights(path)


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_broken_file_is_named(damage: str, saved: Callable[[Any], Path]) -> None:
    path = saved(network().state_dict())
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no weights\n" * 20}[damage])
    with pytest.raises(UserError, match=r"model\.pt: cannot be read as weights \(\w+\)"):
        read_weights(path)


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_payload_is_never_executed(how: str, tmp_path: Path, saved: Callable[[Any], Path]) -> None:
    victim, path = tmp_path / "executed", tmp_path / "model.pt"
    content = {"weight": torch.ones(1), "payload": Payload(victim)}
    if how == "torch":
        saved(content)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_weights(network(), path)
    assert not victim.exists()
    torch.load(saved(content), weights_only=False)
    assert victim.exists()  # the payload was armed
